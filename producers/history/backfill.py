"""A terminal's ticks of the past, as days that an import takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

import numpy as np

from infra.mapping import Named
from infra.market.zones import ServerZone
from producers.files.days import DAY_MS, Day, Span, StoppedError, TickDay, day_of, midnight
from producers.history.rates import TERMINAL_TIMEFRAMES
from producers.history.spans import MINUTE_MS, in_parts, unticked
from producers.history.terminals import Question, TerminalProcess
from producers.restore import server_time
from producers.terminal import Ticks

_AGAIN_SECONDS: Final = 2.0


@dataclass(slots=True)
class Past:
    """What a terminal has of the past."""

    terminal: TerminalProcess
    zone: ServerZone
    stopping: Event
    patience_seconds: float
    """How long history that its bars tell of may take to come, once a symbol."""
    _waited: set[str] = field(default_factory=set)
    """Symbols whose history was waited for in vain."""

    def days(self, named: Named, start: int, end: int) -> Iterator[TickDay]:
        """The days of a symbol in [start, end), UTC, not asked for yet."""
        first, last = server_time(start, self.zone), server_time(end, self.zone)
        day = day_of(first)
        while midnight(day) < last:
            span = (max(first, midnight(day)), min(last, midnight(day) + DAY_MS))
            load = partial(self._load, named.broker_name, span)
            yield TickDay(Path(named.symbol, str(day)), named.symbol, day, load, named.broker_name, (span,))
            day = day_of(midnight(day) + DAY_MS)

    def _load(self, broker_name: str, span: Span) -> Day:
        """A day's ticks; where the terminal's minutes tell of more, they are waited for, then said to be missing.

        Raises SourceError, StoppedError.
        """
        bars = in_parts(partial(self._ask, broker_name, TERMINAL_TIMEFRAMES["M1"]), span)["time"] * 1_000
        whole = bars[bars + MINUTE_MS <= span[1]]
        deadline = time.monotonic() + self.patience_seconds
        while True:
            ticks: Ticks = in_parts(partial(self._ask, broker_name, None), span)
            missing = unticked(whole, ticks["time_msc"].astype(np.int64))
            if not missing or broker_name in self._waited:
                return Day(ticks, missing=missing)
            if time.monotonic() >= deadline:
                self._waited.add(broker_name)
            elif self.stopping.wait(_AGAIN_SECONDS):
                raise StoppedError

    def _ask(self, broker_name: str, timeframe: int | None, span: Span) -> Ticks:
        """Rows of [start, end); the last second is asked for whole."""
        first, last = span[0] // 1_000, -(-span[1] // 1_000)
        rows = self.terminal.ask(Question(broker_name, first, last, timeframe))
        key = rows["time_msc"] if timeframe is None else rows["time"] * 1_000
        return rows[(key >= span[0]) & (key < span[1])]
