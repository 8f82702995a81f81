"""Files that go on over many days: read once, in order, and given out day by day."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from producers.files.days import DAY_MS, Day, Malformed, Span, TickDay, at_midnights, day_of, midnight
from producers.files.text import Block
from producers.terminal import TICK_DTYPE, Ticks
from schemas.errors import SourceError

_SATURDAY: Final = 5


class DayStream:
    """One file's days. Cheap when they are asked for in order; an earlier one begins the file anew."""

    def __init__(self, path: Path, blocks: Callable[[], Iterator[Block]]) -> None:
        self._path, self._open = path, blocks
        self._begin()

    def _begin(self) -> None:
        self._blocks: Iterator[Block] = self._open()
        self._held = np.zeros(0, TICK_DTYPE)
        self._malformed: list[Malformed] = []
        self._reached = 0
        self._latest = 0

    def day(self, day: date) -> Day:
        """One day's ticks, and the malformed lines found on the way to its end. Raises SourceError."""
        start, end = midnight(day), midnight(day) + DAY_MS
        if start < self._reached:
            self._begin()
        parts, malformed = [], list[Malformed]()
        while True:
            place = int(np.searchsorted(_days(self._held), start // DAY_MS + 1))
            parts.append(self._held[:place])
            malformed += self._malformed
            self._held, self._malformed = self._held[place:], []
            if len(self._held) or not self._more():
                break
        self._reached = end
        ticks = np.concatenate(parts)
        return Day(ticks[ticks["time_msc"] >= start], malformed)

    def _more(self) -> bool:
        """Read a block; False at the end."""
        block = next(self._blocks, None)
        if block is None:
            return False
        days = _days(block.ticks)
        if len(days) and (days[0] < self._latest or (np.diff(days) < 0).any()):
            later = int(np.argmax(np.diff(days, prepend=self._latest) < 0))
            moment = datetime.fromtimestamp(int(block.ticks["time_msc"][later]) / 1_000, UTC)
            raise SourceError(
                f"{self._path} is out of order: a tick of {moment:%Y-%m-%d %H:%M:%S} stands behind one of a later day; "
                "sort its lines by time, or take that one out"
            )
        self._held, self._malformed = block.ticks, block.malformed
        self._latest = int(days[-1]) if len(days) else self._latest
        return True


def _days(ticks: Ticks) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return ticks["time_msc"].astype(np.int64) // DAY_MS


@dataclass(frozen=True, slots=True)
class Extent:
    """Which symbol's ticks a file has, from when to when (exclusive)."""

    symbol: str
    broker_name: str
    span: Span


def tick_days(path: Path, extent: Extent, blocks: Callable[[], Iterator[Block]]) -> Iterator[TickDay]:
    """The days of a file, not read yet."""
    stream = DayStream(path, blocks)
    for span in at_midnights(*extent.span):
        day = day_of(span[0])
        yield TickDay(path, extent.symbol, day, partial(stream.day, day), extent.broker_name, (span,))


def month_or(first: int, last: int, month: tuple[int, int] | None) -> Span:
    """What a file with ticks from ``first`` to ``last`` has: its whole ``month`` (year, number) if it is named for one.

    A file that ends before the month's last weekday was taken before the month had ended: it has what it has.
    """
    if month is None or (day_of(first).year, day_of(first).month) != month:
        return first, last + 1
    year, number = month
    length = calendar.monthrange(year, number)[1]
    ahead = [date(year, number, day) for day in range(day_of(last).day + 1, length + 1)]
    whole = day_of(last).month == number and all(day.weekday() >= _SATURDAY for day in ahead)
    begin = midnight(date(year, number, 1))
    return begin, midnight(date(year, number, length)) + DAY_MS if whole else last + 1
