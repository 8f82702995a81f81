"""A series' last minutes, read again for ticks that came late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from infra import metrics
from producers.encoding import columns
from producers.readings import Times, moments
from producers.recent import WINDOWS_KEPT
from producers.restore import server_time
from producers.series import Series
from producers.shard import Shard
from producers.terminal import COPY_TICKS_ALL, Ticks

_WINDOWS_READ: Final = 2
"""How many windows are asked for at once."""

_MOST_ANSWERS: Final = WINDOWS_KEPT // _WINDOWS_READ + 1
"""So many reach over all that is kept, and so over what came before a pause, however long it was."""


class Rereading:
    """Of one shard: a series in its turn after each poll."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._terminal, self._zone = shard, shard.terminal, shard.zone
        settings = shard.settings
        self._every_ms, self._window_ms = int(settings.reread_seconds * 1_000), int(settings.reread_minutes * 60_000)
        self._late = metrics.TICKS_LATE.labels(shard.publisher.feed, shard.publisher.shard)

    def published(self, series: Series, ticks: Ticks, times: Times) -> None:
        """Remember ticks that are published."""
        if self._window_ms:
            series.recent.add(ticks, times)

    def turn(self, every: Sequence[Series], now: int) -> None:
        """Look in the last minutes of the series that has waited the longest, if one is due.

        After a start that is the one with the oldest ticks to look at, so that kills cannot keep the last of the
        list from its turn.
        """
        due = [s for s in every if not s.failures and not s.dropped and now - s.reread_ms >= self._every_ms]
        if not self._window_ms or not due:
            return
        series = min(due, key=lambda one: (one.reread_ms, one.recent.since))
        series.reread_ms = now
        before = series.recent.since
        self._read(series, now)
        series.changed = series.changed or series.recent.since != before

    def _read(self, series: Series, now: int) -> None:
        """From where it was last looked at; what came in a pause since was late already when it was fetched."""
        recent, newest_ms = series.recent, series.cursor.last_msc
        settled = min(now, newest_ms) - self._window_ms
        for _ in range(_MOST_ANSWERS):
            until = min(newest_ms, recent.since + _WINDOWS_READ * self._window_ms)
            if not self._read_until(series, until):  # the next time will do, unless that goes on for long
                recent.forget(min(now, newest_ms) - WINDOWS_KEPT * self._window_ms)
                return
            if until >= settled:
                break
            recent.forget(until)
        recent.forget(settled)

    def _read_until(self, series: Series, until: int) -> bool:
        """Publish what is late from the series' recent ticks on; whether the terminal could be asked."""
        recent = series.recent
        first, last = (server_time(moment, self._zone) // 1_000 for moment in (recent.since, until))
        if first > last:
            return False
        answer = self._terminal.copy_ticks_range(series.broker_name, first, last + 1, COPY_TICKS_ALL)
        if answer is None:
            return False
        times = moments(answer["time_msc"], self._zone, asked=first * 1_000)
        rows, places = recent.late(answer, times, until=until)
        if len(rows):
            late, when = answer[rows], times[rows]
            made = columns(late, when, 0, self._shard.clock.now_us(), places)
            self._shard.publisher.ticks(series.symbol, made, correction=True)
            recent.add(late, when)
            self._late.inc(len(rows))
        return True
