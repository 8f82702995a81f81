"""Real ticks instead of the simulated market: those of files, over and over.

Whatever span of whole days the files have, their ticks come again after it, so that every moment has some, and any
window can be asked for again. At the files' own times they are as they are. Times are UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np

from infra.market.zones import ServerZone
from producers.files.days import DAY_MS, TickDay, digits, in_order
from producers.files.discovery import discover
from producers.restore import utc
from producers.simulated.instruments import INSTRUMENTS, Instrument
from producers.terminal import Ticks
from schemas.errors import SourceError

_DAYS_KEPT: Final = 64


class Recorded:
    """The ticks of a file, or of all in a folder; what `producers.simulated.market.Market` is to made-up ones."""

    def __init__(self, path: Path, zone: ServerZone) -> None:
        """``zone``: the files' clock where neither they nor their format say it. Raises UsageError and SourceError."""
        found = discover([path])
        self._zone = zone if found.zone is None else ServerZone.parse(found.zone)
        self._days = {symbol: list(days) for symbol, days in groupby(found.days, key=lambda day: day.symbol)}
        self._load = lru_cache(maxsize=_DAYS_KEPT)(self._read)
        spans = [(utc(day.start, self._zone), utc(day.end, self._zone)) for day in found.days]
        self._first = min(start for start, _ in spans) // DAY_MS * DAY_MS
        self.period = -(-(max(end for _, end in spans) - self._first) // DAY_MS) * DAY_MS
        """After so long the ticks come again."""
        self.instruments = {symbol: self._instrument(symbol) for symbol in self._days}

    def ticks(self, symbol: str, start_ms: int, end_ms: int) -> Iterator[Ticks]:
        """The ticks in [start, end) in order, some at a time."""
        for shift in self._shifts(start_ms, end_ms):
            first, last = max(start_ms - shift, self._first), min(end_ms - shift, self._first + self.period)
            for number in self._touching(symbol, first, last):
                ticks = self._load(symbol, number)
                begin, end = np.searchsorted(ticks["time_msc"], [first, last])
                if begin < end:
                    yield _moved(ticks[begin:end], shift)

    def last_tick(self, symbol: str, end_ms: int) -> Ticks | None:
        """The last tick before ``end_ms``, as an array of one."""
        for shift in reversed(self._shifts(end_ms - 2 * self.period, end_ms)):
            last = min(end_ms - shift, self._first + self.period)
            for number in reversed(self._touching(symbol, self._first, last)):
                ticks = self._load(symbol, number)
                if count := int(np.searchsorted(ticks["time_msc"], last)):
                    return _moved(ticks[count - 1 : count], shift)
        return None

    def _shifts(self, start: int, end: int) -> Sequence[int]:
        """By how much the files' ticks are moved to lie in [start, end), in order."""
        rounds = range((start - self._first) // self.period, (end - 1 - self._first) // self.period + 1)
        return [number * self.period for number in rounds]

    def _touching(self, symbol: str, start: int, end: int) -> Sequence[int]:
        """Which of a symbol's days have something of [start, end)."""
        return [
            number
            for number, day in enumerate(self._days[symbol])
            if utc(day.start, self._zone) < end and utc(day.end, self._zone) > start
        ]

    def _read(self, symbol: str, number: int) -> Ticks:
        ticks, times, _ = in_order(self._days[symbol][number].load().ticks, self._zone)
        ticks = ticks.copy()
        ticks["time_msc"], ticks["time"] = times, times // 1_000
        return ticks

    def _instrument(self, symbol: str) -> Instrument:
        """What the first day's prices show."""
        day: TickDay = self._days[symbol][0]
        ticks = self._load(symbol, 0)
        if not len(ticks):
            raise SourceError(f"{day.path} has no tick of {symbol} on {day.day}: play files that begin with some")
        like = INSTRUMENTS.get(symbol, INSTRUMENTS["EURUSD"])
        places = max(digits(ticks["bid"]), digits(ticks["ask"]))
        text = like.description if symbol in INSTRUMENTS else symbol
        return replace(like, name=symbol, description=text, price=float(ticks["bid"][0]), digits=places)


def _moved(ticks: Ticks, shift: int) -> Ticks:
    moved = ticks.copy()
    moved["time_msc"] += shift
    moved["time"] += shift // 1_000
    moved.flags.writeable = False
    return moved
