"""The poll loop of one shard: probe, fetch what moved, publish, say how far."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from infra import logs, metrics
from producers.capacity import Capacity
from producers.clocks import AHEAD_MS, check_ahead, check_fallen
from producers.cursor import Cursor, Page, first_page, next_page, take, to_record
from producers.encoding import columns
from producers.failures import TerminalAwayError, TooMuchError, TryAgainError, UnknownSymbolError, failure
from producers.readings import moments, newest
from producers.recent import Recent
from producers.rereading import Rereading
from producers.restore import server_time
from producers.series import Series
from producers.shard import Shard, count_error, count_recovery, dropped, tell
from producers.terminal import COPY_TICKS_ALL
from producers.watermarks import Watermarks
from schemas.records import Control, ControlKind, EventKind

_SAVE_MS: Final = 1_000
"""How often cursors are kept."""

_LEAST_COUNT: Final = 500
_DROPPED_MS: Final = 60_000
"""How often a symbol is asked for that the broker has dropped."""

_LEAD_MS: Final = 73 * 3_600_000
"""How far before a series' beginning its history must be seen to reach: over a weekend."""

_MOST_PATIENCE: Final = 4
"""So many times as long a terminal gets for its history that is connected anew again and again."""

_FINISHING_TRIES: Final = 20
_FINISHING_PAUSE: Final = 0.2

_NONE: Final = -1

log = logs.logger(__name__)


class Poller:
    """Polls the series of one shard; used by one thread.

    `cycle` raises TerminalAwayError when the terminal is to be connected again, ServerClockError when the broker's
    clock is not read right any more, another SourceError when the terminal is of no use, and BrokerError as the
    publisher does.
    """

    def __init__(
        self,
        shard: Shard,
        cursors: Mapping[str, Cursor],
        names: Mapping[str, str],
        *,
        recent: Mapping[str, Recent] | None = None,
        watermark: int = -1,
        absent: Collection[str] = (),
    ) -> None:
        """``cursors`` (in UTC), ``names`` (at the broker), ``recent``: by symbol; ``watermark``: the last published.

        ``absent``: symbols that the broker does not offer now; the shard's watermark is theirs, too.
        """
        self._shard, self._names = shard, dict(names)
        self._terminal, self._clock = shard.terminal, shard.clock
        self._publisher, self._stopping = shard.publisher, shard.stopping
        self.zone = shard.zone
        settings = shard.settings
        self._quiet_ms = settings.quiet_margin_ms
        self._patience_ms = int(settings.patience_seconds * 1_000)
        self._rereading = Rereading(shard)
        self._series = _series(cursors, names, recent or {})
        self._absent = frozenset(absent)
        self._watermarks = Watermarks(
            margin_ms=settings.watermark_margin_ms, quiet_ms=settings.quiet_margin_ms, last=watermark
        )
        self._live = False
        self._connected_ms = 0
        self._highest = _NONE
        """The newest tick that a probe has seen so far, UTC."""
        self.newest_shown = 0
        """The server's time of the latest tick that a probe told as new."""
        self._saved_ms = 0
        labels = (self._publisher.feed, self._publisher.shard)
        self._received = metrics.TICKS_RECEIVED.labels(*labels)
        self._late = metrics.TICKS_LATE.labels(*labels)
        self._gaps = metrics.FEED_GAPS.labels(*labels)
        self._seconds = metrics.POLL_SECONDS.labels(*labels)
        self._capacity = Capacity(len(self._series), *labels)

    @property
    def least_age(self) -> int | None:
        """How old live ticks are at the least, by this machine's clock; None before there were any."""
        return self._watermarks.least_age

    @property
    def watermark(self) -> int:
        """Up to when all is published, UTC."""
        return self._watermarks.last

    def add(self, cursors: Mapping[str, Cursor], names: Mapping[str, str], recent: Mapping[str, Recent]) -> None:
        """Poll further series from now on; as for the others."""
        self._series += _series(cursors, names, recent)
        self._names |= names
        self._capacity.symbols = len(self._series)

    def finish(self) -> None:
        """Read what came before the server's clock was moved, as it can be read in the old zone only.

        What cannot be read after some tries is a gap to come.
        """
        left = [series for series in self._series if not series.dropped]
        for _ in range(_FINISHING_TRIES):
            for series in left:
                if self._reaches(series):
                    self._fetch([series])
                    series.finished = not series.failures
            left = [series for series in left if not series.finished]
            if not left or self._stopping.wait(_FINISHING_PAUSE):
                return

    def in_zone(self, shard: Shard) -> Poller:
        """A poller that goes on from here with the server's clock read in the zone of ``shard``."""
        cursors = {series.symbol: series.cursor for series in self._series}
        recent = {series.symbol: series.recent for series in self._series}
        mark, absent = self._watermarks.last, self._absent
        after = Poller(shard, cursors, self._names, recent=recent, watermark=mark, absent=absent)
        for before, series in zip(self._series, after._series, strict=True):
            series.former = self.zone if before.finished else None
        return after

    def connected(self) -> None:
        """The terminal was connected anew: the next poll catches up before it is live."""
        self._live = False
        self._connected_ms = self._clock.now_ms()
        for series in self._series:
            series.retry_ms = series.failures = series.shown = 0

    def cycle(self) -> bool:
        """One poll over all series; whether it drained them all."""
        with self._seconds.time(), self._capacity.cycle():
            begun = self._clock.now_ms()
            seen_before = self._highest
            self._check_connection()
            probes = [self._probe(series, begun) for series in self._series]
            self._highest = max((probe for probe in probes if probe is not None), default=_NONE)
            check_ahead(self._highest, begun, self.zone)
            moved = [
                series
                for series, probe in zip(self._series, probes, strict=True)
                if probe is not None and (probe >= series.cursor.after or self._doubtful(series, begun))
            ]
            self._fetch(moved)
            if self._stopping.is_set():
                return False
            behind = [s for s, probe in zip(self._series, probes, strict=True) if s.behind(probe)]
            self._say(begun, seen_before, [s for s in moved if s.moved_ms >= begun], behind)
            self._rereading.turn(self._series, begun)
            return not behind

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
            shown = server_time(cursor.last_msc, self.zone)
            record = to_record(cursor, last_msc=shown, feed=publisher.feed, shard=publisher.shard, symbol=series.symbol)
            publisher.cursor(replace(record, reread_from=series.recent.since), cursor.last_msc)
            series.changed = False

    def _check_connection(self) -> None:
        """Raise TerminalAwayError while the terminal has no connection: it would go on answering with what it has."""
        info = self._terminal.terminal_info()
        if info is None:
            raise failure("terminal_info", self._terminal.last_error())
        if not info.connected:
            raise TerminalAwayError("the terminal has lost its connection to the broker")

    def _probe(self, series: Series, now: int) -> int | None:
        """When the symbol's newest tick came, UTC; -1 when it never had one, None when it cannot be asked now."""
        if series.waits(now):
            return None
        tick = self._terminal.symbol_info_tick(series.broker_name)
        if tick is None:
            self._failed(series, f"symbol_info_tick({series.broker_name})", now)
            return None
        if series.dropped:
            series.dropped, series.failures = False, 0
            count_recovery(self._shard, "offered")
            tell(self._shard, EventKind.CONNECTED, "the broker offers it again", series.symbol)
        before, series.shown = series.shown, int(tick.time_msc)
        if series.shown != before:
            self.newest_shown = series.shown
        last = series.cursor.last_msc
        if series.shown == server_time(last, self.zone):
            self._succeeded(series)
            return last
        probe = newest(series.shown, self.zone, now=now) if series.shown else _NONE
        if probe <= last:
            self._succeeded(series)
            if before not in {0, series.shown}:
                check_fallen(probe, last, self.zone)
        return probe

    def _succeeded(self, series: Series, *, fetched: bool = False) -> None:
        for reason in series.succeeded(fetched=fetched):
            count_recovery(self._shard, reason)

    def _failed(self, series: Series, call: str, now: int) -> None:
        """Put one series off; raises what concerns the whole terminal."""
        code = self._terminal.last_error()
        error = failure(call, code)
        if not isinstance(error, (UnknownSymbolError, TryAgainError, TooMuchError)):
            raise error
        count_error(self._shard, code[0])
        series.failed(now)
        if not isinstance(error, UnknownSymbolError) or self._terminal.symbol_select(series.broker_name, True):
            return  # it comes back, or was only out of the MarketWatch
        series.retry_ms = now + _DROPPED_MS
        if not series.dropped:
            series.dropped = True
            dropped(self._shard, series.symbol)

    def _doubtful(self, series: Series, now: int) -> bool:
        return not series.confirmed and now - series.moved_ms >= self._quiet_ms // 2

    def _fetch(self, series: Sequence[Series]) -> None:
        """Drain the series, a page of each in turn, so that none waits for another's history."""
        pages: list[tuple[Series, Page | None]] = [(one, first_page(one.cursor, one.count)) for one in series]
        while pages and not self._stopping.is_set():
            pages = [(one, self._fetch_page(one, page)) for one, page in pages if page is not None]
            self.save()

    def _fetch_page(self, series: Series, page: Page) -> Page | None:
        reaches = (not series.cursor.seen or series.former is not None) and self._reaches(series)
        second = server_time(page.second * 1_000, self.zone) // 1_000
        call = f"copy_ticks_from({series.broker_name})"
        answer = self._terminal.copy_ticks_from(series.broker_name, second, page.count, COPY_TICKS_ALL)
        now_us = self._clock.now_us()
        now = now_us // 1_000
        if answer is None:
            too_much = isinstance(failure(call, self._terminal.last_error()), TooMuchError)
            if too_much and _LEAST_COUNT < series.count >= page.count:
                series.count = max(page.count // 2, _LEAST_COUNT)
                count_error(self._shard, self._terminal.last_error()[0])
                series.reduced = True
                return Page(page.second, series.count)
            self._failed(series, call, now)
            return None
        times = moments(answer["time_msc"], self.zone, asked=second * 1_000)
        if (readable := int(np.searchsorted(times, now + AHEAD_MS))) < len(answer):
            answer, times = answer[:readable], times[:readable]  # the rest is of another zone
        lacks = series.lacks(times) and not (reaches and self._reaches(series))  # it may have been lost in between
        if lacks and self._still_hopes(series, int(times[0]), now):
            return None
        self._succeeded(series, fetched=True)
        rows, after = take(series.cursor, answer, times)
        series.confirmed = not len(rows)
        if len(rows):
            self._received.inc(len(rows))
            first = series.cursor.ordinal_at(int(times[rows[0]]))
            fresh, when = answer[rows], times[rows]
            made = columns(fresh, when, first, now_us)
            passed = int(np.searchsorted(when, self._watermarks.last, side="right"))
            if passed:  # the shard's watermark went over it while the broker did not offer it
                self._publisher.ticks(series.symbol, made.rows(slice(passed)), correction=True)
                self._late.inc(passed)
            if passed < len(rows):
                self._publisher.ticks(series.symbol, made.rows(slice(passed, None)))
            self._rereading.published(series, fresh, when)
            series.cursor, series.changed, series.moved_ms, series.former = after, True, now, None
        return next_page(page, answer, series.cursor, series.count)

    def _still_hopes(self, series: Series, begins: int, now: int) -> bool:
        """Whether to wait for the history between the cursor and ``begins``; when not any more, it is a gap.

        A terminal that was connected anew meanwhile may have started anew, so it gets as long again. A gap begins at
        the cursor's own millisecond, of which there may have been more ticks than were taken.
        """
        if series.lacking_ms is None:
            series.lacking_ms = now
            log.info("waiting for history", symbol=series.symbol, missing_ms=begins - series.cursor.last_msc)
        waited, anew = now - series.lacking_ms, now - max(series.lacking_ms, self._connected_ms)
        if anew < self._patience_ms and waited < _MOST_PATIENCE * self._patience_ms:
            series.failed(now)
            return True
        publisher, cursor = self._publisher, series.cursor
        publisher.control(
            Control(
                kind=ControlKind.GAP,
                feed=publisher.feed,
                shard=publisher.shard,
                symbol=series.symbol,
                time=begins,
                from_=cursor.last_msc,
                to=begins,
            )
        )
        series.lacking_ms, series.failures = None, 0
        self._gaps.inc()
        log.warning("ticks are lost", symbol=series.symbol, lost_from=cursor.last_msc, lost_to=begins)
        return False

    def _reaches(self, series: Series) -> bool:
        """Whether the terminal shows what the cursor's last tick was, or, without one, history from before."""
        zone, cursor = series.former or self.zone, series.cursor
        since, count = (cursor.last_msc, series.count) if cursor.seen else (cursor.last_msc - _LEAD_MS, 1)
        first = server_time(since, zone) // 1_000
        answer = self._terminal.copy_ticks_from(series.broker_name, first, count, COPY_TICKS_ALL)
        if answer is None or not len(answer):
            return False
        times = moments(answer["time_msc"], zone, asked=first * 1_000)
        return cursor.last_msc in times if cursor.seen else bool(times[0] <= cursor.last_msc)

    def _say(self, begun: int, seen_before: int, moved: Sequence[Series], behind: Sequence[Series]) -> None:
        """Publish the watermark of a poll; ``seen_before``: the newest tick known before it.

        What a probe of this poll has seen says nothing of the series that were probed before it. Of a series that is
        ``behind`` only what comes before its cursor is known to be whole.
        """
        if moved and self._live:
            arrived = max(series.cursor.last_msc for series in moved)
            self._watermarks.arrived(arrived, max(series.moved_ms for series in moved))
        self._live = self._live or not behind
        limit = min((series.cursor.last_msc - 1 for series in behind), default=None)
        time = self._watermarks.polled(begun, seen_before, limit)
        if time is not None:
            self._publisher.watermark(
                Control(kind=ControlKind.WATERMARK, feed=self._publisher.feed, shard=self._publisher.shard, time=time),
                self._absent.union(series.symbol for series in self._series),
            )


def _series(cursors: Mapping[str, Cursor], names: Mapping[str, str], recent: Mapping[str, Recent]) -> list[Series]:
    return [
        Series(names[symbol], symbol, cursor, recent.get(symbol) or Recent(cursor.after))
        for symbol, cursor in cursors.items()
    ]
