"""Publishing days of ticks, of files or of a terminal's past: all series together, going on where Kafka stands."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from threading import Event
from typing import Final, Protocol

import numpy as np

from infra import metrics
from infra.market.calendar import Calendar
from infra.market.zones import ServerZone
from producers.cursor import Cursor, take, to_record
from producers.encoding import columns
from producers.files.days import DAY_MS, Malformed, Span, StoppedError, TickDay, holes, in_order
from producers.pace import Pace
from producers.publisher import Publisher
from producers.readings import Times
from producers.restore import server_time, utc
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

    def reading(self, day: TickDay) -> None:
        """A day's turn has come."""

    def done_before(self, days: int) -> None:
        """So many days were complete already."""

    def day_done(self) -> None:
        """All of a day is on its way."""

    def malformed(self, line: Malformed) -> None:
        """A line is no tick."""

    def published(self, ticks: int) -> None:
        """So many more ticks are on their way."""

    def waiting(self) -> None:
        """Kafka does not answer."""


@dataclass(slots=True)
class Summary:
    """What an import did."""

    days: int = 0
    done_before: int = 0
    """Days that were complete already."""
    ticks: int = 0
    published: int = 0
    malformed: int = 0
    reordered: int = 0
    gaps: int = 0
    """Days, or parts of one, that the source does not have although the market was open."""
    finished: bool = False


@dataclass(slots=True)
class Series:
    """One symbol's days, and where it stands."""

    days: Sequence[TickDay]
    zone: ServerZone
    """Their clock."""
    cursor: Cursor
    """In UTC."""
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
        return self.cursor == beginning(self.days[0], self.zone)

    @property
    def shard(self) -> str:
        return self.spec.shard

    @property
    def end(self) -> int:
        """Up to when the source has it, UTC."""
        return utc(self.days[-1].end, self.zone)

    @property
    def complete(self) -> bool:
        """All of it was published and said to be."""
        return self.cursor.last_msc >= self.end

    def has(self, day: TickDay) -> bool:
        """Whether the whole day was published."""
        return self.cursor.last_msc >= utc(day.end, self.zone)

    def holes(self) -> dict[date, list[Span]]:
        """What the source does not have while the market was open, UTC, by the day that follows."""
        since = server_time(self.cursor.last_msc, self.zone) + self.begins
        found: dict[date, list[Span]] = defaultdict(list)
        for day, (start, end) in holes(self.days, since):
            from_, to = utc(start, self.zone), utc(end, self.zone)
            minutes = np.arange(from_, to, _MINUTE_MS)
            if to - from_ >= _MINUTE_MS and (self.calendar.closed_reasons(minutes) == 0).any():
                found[day.day].append((from_, to))
        return found


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A day that was read: its ticks by time, and when they were, UTC."""

    series: Series
    ticks: Ticks
    times: Times
    end: int
    """Up to when the source has the day, UTC."""


def beginning(day: TickDay, zone: ServerZone) -> Cursor:
    """The cursor of a series whose first day this is."""
    return Cursor(utc(day.start, zone) - 1)


def shard(symbol: str, called: str = "import") -> str:
    """The shard under which a symbol's days are published."""
    return f"{called}-{symbol.lower()}"


class Importer:
    """One run over some series; used by one thread."""

    def __init__(
        self,
        publisher: Publisher,
        stopping: Event,
        watcher: Watcher,
        *,
        speed: float | None = None,
        called: str = "import",
    ) -> None:
        """``speed``: times real time; None: as fast as Kafka takes it. ``called``: what the ledger says this is."""
        self._publisher, self._stopping, self._watcher, self._called = publisher, stopping, watcher, called
        self._pace = Pace(speed, stopping) if speed else None
        self._speed = speed
        self._saved = time.monotonic()
        self._received = metrics.TICKS_RECEIVED.labels(publisher.feed, publisher.shard)
        self._holes: dict[str, dict[date, list[Span]]] = {}
        self.summary = Summary()

    def run(self, every: Sequence[Series]) -> Summary:
        """Publish what is not published yet, as far as not asked to stop. Raises BrokerError and SourceError."""
        summary = self.summary
        summary.done_before = sum(series.has(day) for series in every for day in series.days)
        self._watcher.done_before(summary.done_before)
        todo = [series for series in every if not series.complete]
        self._holes = {series.symbol: series.holes() for series in todo}
        self._begin(todo)
        by_day = sorted(
            ((day, series) for series in todo for day in series.days if not series.has(day)),
            key=lambda item: (item[0].day, item[0].symbol),
        )
        for _, of_day in groupby(by_day, key=lambda item: item[0].day):
            if self._stopping.is_set():
                break
            try:
                self._day(list(of_day))
            except StoppedError:
                break
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
            since = series.cursor.last_msc + (1 if series.begins else 0)
            self._control(series, ControlKind.SYMBOL_SPEC, since, spec=series.spec)
            if series.begins:
                self._control(series, ControlKind.COVERAGE, since)

    def _day(self, of_day: Sequence[tuple[TickDay, Series]]) -> None:
        loaded = [self._load(day, series) for day, series in of_day]
        begun = min(utc(day.start, series.zone) for day, series in of_day)
        for end in self._slices(loaded, begun):
            for one in loaded:
                first, last = np.searchsorted(one.times, [one.series.cursor.last_msc, end])
                self._publish(one.series, one.ticks[first:last], one.times[first:last])
            if self._stopping.is_set():
                return
            if self._pace:
                for one in loaded:
                    self._watermark(one.series, min(end, one.end) - 1)
                self._pace.reach(end)
            self._save([one.series for one in loaded])
        for _ in of_day:
            self.summary.days += 1
            self._watcher.day_done()

    def _load(self, day: TickDay, series: Series) -> _Loaded:
        self._watcher.reading(day)
        read = day.load()
        missing = [(utc(start, series.zone), utc(end, series.zone)) for start, end in read.missing]
        for from_, to in self._holes[series.symbol].get(day.day, []) + missing:
            self.summary.gaps += 1
            self._control(series, ControlKind.GAP, to, from_=from_, to=to)
        ticks, times, behind = in_order(read.ticks, series.zone)
        self.summary.ticks += len(ticks)
        self.summary.malformed += len(read.malformed)
        self.summary.reordered += behind
        for line in read.malformed:
            metrics.IMPORT_LINES_MALFORMED.labels(line.reason).inc()
            self._watcher.malformed(line)
        from_ = utc(day.midnight, series.zone)
        self._publisher.event(
            FeedEvent(
                time=from_,
                kind=EventKind.HISTORY,
                feed=series.spec.feed,
                shard=series.shard,
                symbol=series.symbol,
                from_=from_,
                to=utc(day.midnight + DAY_MS, series.zone),
                text=f"{self._called} of {day.path.name}: {len(ticks)} ticks, {len(read.malformed)} malformed lines",
            )
        )
        return _Loaded(series, ticks, times, utc(day.end, series.zone))

    def _slices(self, loaded: Sequence[_Loaded], begun: int) -> Iterator[int]:
        """Moments up to which to publish in turn: small steps when paced, else all series' ticks in large ones."""
        day_end = max(one.end for one in loaded)
        if self._speed:
            step = max(1, round(1_000 * _SLICE_SECONDS * self._speed))
            start = min(one.series.cursor.last_msc for one in loaded)
            yield from range(begun + max(0, start - begun) // step * step + step, day_end, step)
        else:
            longest = max((one.times for one in loaded), key=len)
            yield from longest[_SLICE_TICKS::_SLICE_TICKS].tolist()
        yield day_end

    def _publish(self, series: Series, ticks: Ticks, times: Times) -> None:
        rows, after = take(series.cursor, ticks, times)
        if not len(rows):
            return
        fresh, moments = ticks[rows], times[rows]
        self._received.inc(len(fresh))
        first = series.cursor.ordinal_at(int(moments[0]))
        self._publisher.ticks(series.symbol, columns(fresh, moments, first))
        series.cursor, series.changed = after, True
        self.summary.published += len(fresh)
        self._watcher.published(len(fresh))

    def _finish(self, every: Sequence[Series]) -> None:
        """Watermarks at the end, and once they stand, cursors that say so."""
        for series in every:
            self._watermark(series, series.end - 1)
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
        moment, spec = series.cursor.last_msc, series.spec
        shown = server_time(moment, series.zone)
        record = to_record(series.cursor, last_msc=shown, feed=spec.feed, shard=spec.shard, symbol=spec.symbol)
        self._publisher.cursor(record, moment)
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


def misplaced(days: Sequence[TickDay], cursor: Cursor | None, known: Container[int], zone: ServerZone) -> list[TickDay]:
    """Days of one symbol whose ticks would come after later ones: those before ``cursor`` that no import published.

    ``known``: the first moments (UTC) of the days that earlier imports published.
    """
    if cursor is None:
        return []
    return [day for day in days if utc(day.start, zone) < cursor.last_msc and utc(day.midnight, zone) not in known]
