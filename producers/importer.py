"""Publishing tick files: day by day, all series together, going on where Kafka stands."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Event
from typing import Final, Protocol

import numpy as np

from infra import metrics
from infra.market.calendar import Calendar
from infra.market.zones import ServerZone
from producers.cursor import Cursor, take, to_record
from producers.files import lean
from producers.files.lean import DAY_MS, Malformed, TickFile
from producers.pace import Pace
from producers.poll import columns
from producers.publisher import Publisher
from producers.restore import utc
from producers.terminal import Ticks
from schemas.errors import BrokerError
from schemas.records import Control, ControlKind, EventKind, FeedEvent, SymbolSpec

_MINUTE_MS: Final = 60_000
_SLICE_SECONDS: Final = 0.1
"""How often a paced import publishes."""

_SLICE_TICKS: Final = 50_000
_SAVE_SECONDS: Final = 1.0


class Watcher(Protocol):
    """Who is told how an import goes."""

    def reading(self, file: TickFile) -> None:
        """A file's turn has come."""

    def done_before(self, files: int) -> None:
        """So many files were complete already."""

    def file_done(self) -> None:
        """All of a file is on its way."""

    def malformed(self, line: Malformed) -> None:
        """A line is no tick."""

    def published(self, ticks: int) -> None:
        """So many more ticks are on their way."""

    def waiting(self) -> None:
        """Kafka does not answer."""


@dataclass(slots=True)
class Summary:
    """What an import did."""

    files: int = 0
    done_before: int = 0
    """Files that were complete already."""
    ticks: int = 0
    published: int = 0
    malformed: int = 0
    reordered: int = 0
    gaps: int = 0
    """Days without a file although the market was open."""
    finished: bool = False


@dataclass(slots=True)
class Series:
    """One symbol's files, and where it stands."""

    files: Sequence[TickFile]
    cursor: Cursor
    """By the feed's clock."""
    spec: SymbolSpec
    calendar: Calendar
    changed: bool = False
    """Its cursor moved since it was kept."""

    @property
    def symbol(self) -> str:
        return self.spec.symbol

    @property
    def begins(self) -> bool:
        """Nothing of it was published yet."""
        return self.cursor == beginning(self.files[0])

    @property
    def shard(self) -> str:
        return self.spec.shard

    @property
    def end(self) -> int:
        """The last midnight, server time."""
        return self.files[-1].midnight + DAY_MS

    @property
    def complete(self) -> bool:
        """All of it was published and said to be."""
        return self.cursor.last_msc >= self.end

    def has(self, file: TickFile) -> bool:
        """Whether the whole file was published."""
        return self.cursor.last_msc >= file.midnight + DAY_MS


def beginning(file: TickFile) -> Cursor:
    """The cursor of a series whose first file this is."""
    return Cursor(file.midnight - 1)


def shard(symbol: str) -> str:
    """The shard under which a symbol's files are published."""
    return f"import-{symbol.lower()}"


class Importer:
    """One run over some series; used by one thread."""

    def __init__(
        self, publisher: Publisher, zone: ServerZone, stopping: Event, watcher: Watcher, *, speed: float | None = None
    ) -> None:
        """``speed``: times real time; None: as fast as Kafka takes it."""
        self._publisher, self._zone, self._stopping, self._watcher = publisher, zone, stopping, watcher
        self._pace = Pace(speed, stopping) if speed else None
        self._speed = speed
        self._saved = time.monotonic()
        self._received = metrics.TICKS_RECEIVED.labels(publisher.feed, publisher.shard)
        self.summary = Summary()

    def run(self, every: Sequence[Series]) -> Summary:
        """Publish what is not published yet, as far as not asked to stop. Raises BrokerError and SourceError."""
        summary = self.summary
        summary.done_before = sum(series.has(file) for series in every for file in series.files)
        self._watcher.done_before(summary.done_before)
        todo = [series for series in every if not series.complete]
        self._begin(todo)
        by_day = sorted(
            ((file, series) for series in todo for file in series.files if not series.has(file)),
            key=lambda item: (item[0].day, item[0].symbol),
        )
        for _, day in groupby(by_day, key=lambda item: item[0].day):
            if self._stopping.is_set():
                break
            self._day(list(day))
        self._settle(todo)
        if not self._stopping.is_set():
            self._finish(todo)
            summary.finished = True
        return summary

    def _begin(self, every: Iterable[Series]) -> None:
        """Specs, and for new series the cursor first and then the coverage, as the poll loop does it."""
        every = list(every)
        for series in every:
            if series.begins:
                self._keep(series)
        self._settle(every)
        for series in every:
            since = utc(series.cursor.last_msc, self._zone) + (1 if series.begins else 0)
            self._control(series, ControlKind.SYMBOL_SPEC, since, spec=series.spec)
            if series.begins:
                self._control(series, ControlKind.COVERAGE, since)

    def _day(self, day: Sequence[tuple[TickFile, Series]]) -> None:
        loaded = [(series, self._load(file, series)) for file, series in day]
        midnight = day[0][0].midnight
        for end in self._slices(loaded, midnight):
            for series, ticks in loaded:
                first, last = np.searchsorted(ticks["time_msc"], [series.cursor.last_msc, end])
                self._publish(series, ticks[first:last])
            if self._stopping.is_set():
                return
            if self._pace:
                moment = utc(end, self._zone)
                for series, _ in loaded:
                    self._watermark(series, moment - 1)
                self._pace.reach(moment)
            self._save([series for series, _ in loaded])
        for _ in day:
            self.summary.files += 1
            self._watcher.file_done()

    def _load(self, file: TickFile, series: Series) -> Ticks:
        self._watcher.reading(file)
        self._gap(file, series)
        day = lean.read(file)
        self.summary.ticks += len(day.ticks)
        self.summary.malformed += len(day.malformed)
        self.summary.reordered += day.reordered
        for line in day.malformed:
            metrics.IMPORT_LINES_MALFORMED.labels(line.reason).inc()
            self._watcher.malformed(line)
        self._publisher.event(
            FeedEvent(
                time=utc(file.midnight, self._zone),
                kind=EventKind.CONNECTED,
                feed=series.spec.feed,
                shard=series.shard,
                symbol=series.symbol,
                from_=utc(file.midnight, self._zone),
                to=utc(file.midnight + DAY_MS, self._zone),
                text=f"import of {file.path.name}: {len(day.ticks)} ticks, {len(day.malformed)} malformed lines",
            )
        )
        return day.ticks

    def _gap(self, file: TickFile, series: Series) -> None:
        """Say which days before ``file`` have none although the market was open."""
        if series.cursor.last_msc >= file.midnight:
            return
        for after, missing in lean.missing_days(series.files):
            if after != file:
                continue
            midnight = TickFile(file.path, file.symbol, missing).midnight
            from_, to = utc(midnight, self._zone), utc(midnight + DAY_MS, self._zone)
            if (series.calendar.closed_reasons(np.arange(from_, to, _MINUTE_MS)) == 0).any():
                self.summary.gaps += 1
                self._control(series, ControlKind.GAP, to, from_=from_, to=to)

    def _slices(self, loaded: Sequence[tuple[Series, Ticks]], midnight: int) -> Iterator[int]:
        """Server times up to which to publish in turn: small steps when paced, else all series' ticks in large ones."""
        if self._speed:
            step = max(1, round(1_000 * _SLICE_SECONDS * self._speed))
            start = min(series.cursor.last_msc for series, _ in loaded)
            begin = midnight + max(0, start - midnight) // step * step
            yield from range(begin + step, midnight + DAY_MS, step)
        else:
            longest = max((ticks for _, ticks in loaded), key=len)
            yield from longest["time_msc"][_SLICE_TICKS::_SLICE_TICKS].tolist()
        yield midnight + DAY_MS

    def _publish(self, series: Series, ticks: Ticks) -> None:
        times = ticks["time_msc"]
        rows, after = take(series.cursor, ticks, times)
        if not len(rows):
            return
        fresh, shown = ticks[rows], times[rows]
        self._received.inc(len(fresh))
        first = series.cursor.ordinal_at(int(shown[0]))
        self._publisher.ticks(series.symbol, columns(fresh, self._zone.to_utc(shown), first))
        series.cursor, series.changed = after, True
        self.summary.published += len(fresh)
        self._watcher.published(len(fresh))

    def _finish(self, every: Sequence[Series]) -> None:
        """Watermarks at the last midnight, and once they stand, cursors that say so."""
        for series in every:
            self._watermark(series, utc(series.end, self._zone) - 1)
            series.cursor, series.changed = Cursor(series.end), True
        self._settle(every)
        self._settle(every)

    def _save(self, every: Iterable[Series]) -> None:
        if time.monotonic() - self._saved >= _SAVE_SECONDS and self._publisher.flush(0):
            self._saved = time.monotonic()
            for series in every:
                if series.changed:
                    self._keep(series)

    def _settle(self, every: Iterable[Series]) -> None:
        """Wait until all is acknowledged, however long Kafka is away, then keep the cursors."""
        while not self._publisher.flush(1.0):
            self._watcher.waiting()
            if self._stopping.is_set() and not self._publisher.flush(5.0):
                raise BrokerError("Kafka does not take the last ticks; the next import goes on where Kafka stands")
        for series in every:
            if series.changed:
                self._keep(series)

    def _keep(self, series: Series) -> None:
        last_msc, spec = series.cursor.last_msc, series.spec
        record = to_record(series.cursor, last_msc=last_msc, feed=spec.feed, shard=spec.shard, symbol=spec.symbol)
        self._publisher.cursor(record, utc(last_msc, self._zone))
        series.changed = False

    def _watermark(self, series: Series, moment: int) -> None:
        control = Control(kind=ControlKind.WATERMARK, feed=series.spec.feed, shard=series.shard, time=moment)
        self._publisher.watermark(control, [series.symbol])

    def _control(
        self,
        series: Series,
        kind: ControlKind,
        moment: int,
        *,
        from_: int | None = None,
        to: int | None = None,
        spec: SymbolSpec | None = None,
    ) -> None:
        self._publisher.control(
            Control(
                kind=kind,
                feed=series.spec.feed,
                shard=series.shard,
                symbol=series.symbol,
                time=moment,
                from_=from_,
                to=to,
                spec=spec,
            )
        )


def misplaced(
    files: Sequence[TickFile], cursor: Cursor | None, known: Container[int], zone: ServerZone
) -> list[TickFile]:
    """Files of one symbol whose ticks would come after later ones: those before ``cursor`` that no import published.

    ``known``: the first moments (UTC) of the days that earlier imports published.
    """
    if cursor is None:
        return []
    return [file for file in files if file.midnight <= cursor.last_msc and utc(file.midnight, zone) not in known]
