"""The poll loop of one shard: probe, fetch what moved, publish, say how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from infra import metrics
from producers.cursor import Cursor, Page, first_page, next_page, take, to_record
from producers.encoding import TickColumns, ordinals
from producers.failures import failure
from producers.readings import Times, moments, newest
from producers.restore import server_time
from producers.shard import Shard
from producers.terminal import COPY_TICKS_ALL, FLAGS_KNOWN, Ticks
from producers.watermarks import Watermarks
from schemas.errors import SourceError
from schemas.records import Control, ControlKind

AHEAD_MS: Final = 10 * 60_000
"""A server clock further ahead of the machine's than this is read in the wrong zone, or one of the two is wrong."""

_SAVE_MS: Final = 1_000
"""How often cursors are kept."""

_NONE: Final = -1


@dataclass(slots=True)
class _Series:
    broker_name: str
    symbol: str
    cursor: Cursor
    """In UTC."""
    changed: bool = False
    """Its cursor moved since it was kept."""
    moved_ms: int = 0
    confirmed: bool = False
    """It was fetched once more after it fell silent: a probe cannot tell of a second tick in the same millisecond."""


class Poller:
    """Polls the series of one shard; used by one thread.

    `cycle` raises TerminalAwayError when the terminal is to be connected again, SourceError when it is of no use, and
    BrokerError as the publisher does.
    """

    def __init__(
        self, shard: Shard, cursors: Mapping[str, Cursor], names: Mapping[str, str], *, watermark: int = -1
    ) -> None:
        """``cursors`` (in UTC) and ``names`` (at the broker) by symbol; ``watermark``: the last one published."""
        self._terminal, self._zone, self._clock = shard.terminal, shard.zone, shard.clock
        self._publisher, self._stopping = shard.publisher, shard.stopping
        settings = shard.settings
        self._quiet_ms = settings.quiet_margin_ms
        self._series = [_Series(names[symbol], symbol, cursor) for symbol, cursor in cursors.items()]
        self._watermarks = Watermarks(
            margin_ms=settings.watermark_margin_ms, quiet_ms=settings.quiet_margin_ms, last=watermark
        )
        self._live = False
        self._highest = _NONE
        """The newest tick that a probe has seen so far, UTC."""
        self._saved_ms = 0
        labels = (self._publisher.feed, self._publisher.shard)
        self._received = metrics.TICKS_RECEIVED.labels(*labels)
        self._seconds = metrics.POLL_SECONDS.labels(*labels)

    def connected(self) -> None:
        """The terminal was connected anew: the next poll catches up before it is live."""
        self._live = False

    def cycle(self) -> bool:
        """One poll over all series; whether it drained them all."""
        with self._seconds.time():
            begun = self._clock.now_ms()
            seen_before = self._highest
            probes = [self._probe(series) for series in self._series]
            self._highest = max(probes, default=_NONE)
            if self._highest > begun + AHEAD_MS:
                raise SourceError(
                    f"the server's clock is {(self._highest - begun) // 1_000} s ahead of this machine's when read as "
                    f"{self._zone.name}: set ARBITREX_PRODUCER__ZONE to the broker's zone, or this machine's clock"
                )
            moved = [
                (series, probe)
                for series, probe in zip(self._series, probes, strict=True)
                if probe > series.cursor.last_msc or self._doubtful(series, begun)
            ]
            self._fetch([series for series, _ in moved])
            drained = not self._stopping.is_set() and all(probe <= s.cursor.last_msc for s, probe in moved)
            if drained:
                self._say(begun, seen_before, [s for s, _ in moved if s.moved_ms >= begun])
            return drained

    def save(self, *, wait: float = 0.0, force: bool = False) -> None:
        """Keep the cursors that moved, once what they cover is acknowledged; at most once a second unless ``force``."""
        now = self._clock.now_ms()
        if not force and abs(now - self._saved_ms) < _SAVE_MS:
            return
        changed = [series for series in self._series if series.changed]
        if not self._publisher.flush(wait):
            return
        self._saved_ms = now
        for series in changed:
            cursor, publisher = series.cursor, self._publisher
            shown = server_time(cursor.last_msc, self._zone)
            record = to_record(cursor, last_msc=shown, feed=publisher.feed, shard=publisher.shard, symbol=series.symbol)
            publisher.cursor(record, cursor.last_msc)
            series.changed = False

    def _probe(self, series: _Series) -> int:
        """When the symbol's newest tick came, UTC; -1 when it never had one."""
        tick = self._terminal.symbol_info_tick(series.broker_name)
        if tick is None:
            raise failure(f"symbol_info_tick({series.broker_name})", self._terminal.last_error())
        shown = int(tick.time_msc)
        if not shown:
            return _NONE
        last = series.cursor.last_msc
        if shown == server_time(last, self._zone):
            return last
        return newest(shown, self._zone, now=self._clock.now_ms())

    def _doubtful(self, series: _Series, now: int) -> bool:
        return not series.confirmed and now - series.moved_ms >= self._quiet_ms // 2

    def _fetch(self, series: Sequence[_Series]) -> None:
        """Drain the series, a page of each in turn, so that none waits for another's history."""
        pages: list[tuple[_Series, Page | None]] = [(one, first_page(one.cursor)) for one in series]
        while pages and not self._stopping.is_set():
            pages = [(one, self._fetch_page(one, page)) for one, page in pages if page is not None]
            self.save()

    def _fetch_page(self, series: _Series, page: Page) -> Page | None:
        second = server_time(page.second * 1_000, self._zone) // 1_000
        answer = self._terminal.copy_ticks_from(series.broker_name, second, page.count, COPY_TICKS_ALL)
        now_us = self._clock.now_us()
        if answer is None:
            raise failure(f"copy_ticks_from({series.broker_name})", self._terminal.last_error())
        times = moments(answer["time_msc"], self._zone, asked=second * 1_000)
        rows, after = take(series.cursor, answer, times)
        series.confirmed = not len(rows)
        if len(rows):
            self._received.inc(len(rows))
            first = series.cursor.ordinal_at(int(times[rows[0]]))
            self._publisher.ticks(series.symbol, columns(answer[rows], times[rows], first, now_us))
            series.cursor, series.changed, series.moved_ms = after, True, now_us // 1_000
        return next_page(page, answer, series.cursor)

    def _say(self, begun: int, seen_before: int, moved: Sequence[_Series]) -> None:
        """Publish the watermark of a poll that drained every series; ``seen_before``: the newest tick known before it.

        What a probe of this poll has seen says nothing of the series that were probed before it.
        """
        if moved and self._live:
            arrived = max(series.cursor.last_msc for series in moved)
            self._watermarks.arrived(arrived, max(series.moved_ms for series in moved))
        self._live = True
        time = self._watermarks.drained(begun, seen_before)
        if time is not None:
            self._publisher.watermark(
                Control(kind=ControlKind.WATERMARK, feed=self._publisher.feed, shard=self._publisher.shard, time=time),
                [series.symbol for series in self._series],
            )


def columns(fresh: Ticks, ts_event: Times, first: int, received_us: int | None = None) -> TickColumns:
    """Ticks as they are published; ``first``: the first one's ordinal. Received when they happened unless said."""
    return TickColumns(
        ts_event=ts_event,
        ordinal=ordinals(ts_event, first),
        bid=fresh["bid"].astype(np.float64),
        ask=fresh["ask"].astype(np.float64),
        last=fresh["last"].astype(np.float64),
        volume=fresh["volume_real"].astype(np.float64),
        flags=(fresh["flags"] & FLAGS_KNOWN).astype(np.int64),
        server_time=fresh["time_msc"].astype(np.int64),
        ts_recv=ts_event * 1_000 if received_us is None else np.full(len(fresh), received_us, np.int64),
    )
