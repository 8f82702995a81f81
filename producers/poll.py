"""The poll loop of one shard: probe, fetch what moved, publish, say how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from infra import metrics
from infra.market.zones import ServerZone
from producers.cursor import Cursor, Page, first_page, next_page, take, to_record
from producers.encoding import TickColumns, ordinals
from producers.failures import failure
from producers.restore import utc
from producers.shard import Shard
from producers.terminal import COPY_TICKS_ALL, FLAGS_KNOWN, Ticks
from producers.watermarks import Watermarks
from schemas.errors import SourceError
from schemas.records import Control, ControlKind

AHEAD_MS: Final = 10 * 60_000
"""A server clock further ahead of the machine's than this is read in the wrong zone, or one of the two is wrong."""

_SAVE_MS: Final = 1_000
"""How often cursors are kept."""


@dataclass(slots=True)
class _Series:
    broker_name: str
    symbol: str
    cursor: Cursor
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
        """``cursors`` by symbol, ``names``: each symbol's name at the broker, ``watermark``: the last one published."""
        self._terminal, self._zone, self._clock = shard.terminal, shard.zone, shard.clock
        self._publisher, self._stopping = shard.publisher, shard.stopping
        settings = shard.settings
        self._quiet_ms = settings.quiet_margin_ms
        self._series = [_Series(names[symbol], symbol, cursor) for symbol, cursor in cursors.items()]
        self._watermarks = Watermarks(
            margin_ms=settings.watermark_margin_ms, quiet_ms=settings.quiet_margin_ms, last=watermark
        )
        self._live = False
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
            probes = [self._probe(series) for series in self._series]
            highest = max(probes, default=0)
            newest = self._in_utc(highest) if highest else None
            if newest is not None and newest > begun + AHEAD_MS:
                raise SourceError(
                    f"the server's clock is {(newest - begun) // 1_000} s ahead of this machine's when read as "
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
                self._say(begun, newest, [s for s, _ in moved if s.moved_ms >= begun])
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
            record = to_record(
                series.cursor, feed=self._publisher.feed, shard=self._publisher.shard, symbol=series.symbol
            )
            self._publisher.cursor(record, utc(series.cursor.last_msc, self._zone))
            series.changed = False

    def _probe(self, series: _Series) -> int:
        """The symbol's newest server time in milliseconds; 0 when it never had a tick."""
        tick = self._terminal.symbol_info_tick(series.broker_name)
        if tick is None:
            raise failure(f"symbol_info_tick({series.broker_name})", self._terminal.last_error())
        return int(tick.time_msc)

    def _doubtful(self, series: _Series, now: int) -> bool:
        return not series.confirmed and now - series.moved_ms >= self._quiet_ms // 2

    def _fetch(self, series: Sequence[_Series]) -> None:
        """Drain the series, a page of each in turn, so that none waits for another's history."""
        pages: list[tuple[_Series, Page | None]] = [(one, first_page(one.cursor)) for one in series]
        while pages and not self._stopping.is_set():
            pages = [(one, self._fetch_page(one, page)) for one, page in pages if page is not None]
            self.save()

    def _fetch_page(self, series: _Series, page: Page) -> Page | None:
        answer = self._terminal.copy_ticks_from(series.broker_name, page.second, page.count, COPY_TICKS_ALL)
        now_us = self._clock.now_us()
        if answer is None:
            raise failure(f"copy_ticks_from({series.broker_name})", self._terminal.last_error())
        before = series.cursor
        fresh, after = take(before, answer)
        series.confirmed = not len(fresh)
        if len(fresh):
            self._received.inc(len(fresh))
            self._publisher.ticks(series.symbol, columns(fresh, before, self._zone, now_us))
            series.cursor, series.changed, series.moved_ms = after, True, now_us // 1_000
        return next_page(page, answer, series.cursor)

    def _say(self, begun: int, newest: int | None, moved: Sequence[_Series]) -> None:
        """Publish the watermark of a poll that drained every series."""
        if moved and self._live:
            arrived = max(self._in_utc(series.cursor.last_msc) for series in moved)
            self._watermarks.arrived(arrived, max(series.moved_ms for series in moved))
        self._live = True
        time = self._watermarks.drained(begun, newest)
        if time is not None:
            self._publisher.watermark(
                Control(kind=ControlKind.WATERMARK, feed=self._publisher.feed, shard=self._publisher.shard, time=time),
                [series.symbol for series in self._series],
            )

    def _in_utc(self, server_ms: int) -> int:
        return utc(server_ms, self._zone)


def columns(fresh: Ticks, before: Cursor, zone: ServerZone, received_us: int | None = None) -> TickColumns:
    """Ticks as they are published, following what ``before`` covers; received when they happened unless said."""
    server = fresh["time_msc"].astype(np.int64)
    first = before.taken if len(server) and int(server[0]) == before.last_msc else 0
    ts_event = zone.to_utc(server)
    return TickColumns(
        ts_event=ts_event,
        ordinal=ordinals(ts_event, first),
        bid=fresh["bid"].astype(np.float64),
        ask=fresh["ask"].astype(np.float64),
        last=fresh["last"].astype(np.float64),
        volume=fresh["volume_real"].astype(np.float64),
        flags=(fresh["flags"] & FLAGS_KNOWN).astype(np.int64),
        server_time=server,
        ts_recv=ts_event * 1_000 if received_us is None else np.full(len(fresh), received_us, np.int64),
    )
