"""The simulated market: a function of (seed, symbol, time).

Time is cut into blocks. A block's ticks come from a generator keyed by (seed, symbol, block), and the price at each of
their moments from noise with random access, so any window can be asked for again, in any order, and is the same.
Times are UTC milliseconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from infra.market.calendar import default_calendar
from producers.simulated.instruments import Instrument, offered
from producers.simulated.noise import random_walk, value_noise
from producers.terminal import FLAG_ASK, FLAG_BID, TICK_DTYPE, Ticks

BLOCK_MS: Final = 600_000
_BLOCKS_KEPT: Final = 64
_OPEN: Final = 0
_YEAR_MS: Final = 365.25 * 86_400_000
_SHORTEST_MS: Final = 1_024
_LONGEST_MS: Final = _SHORTEST_MS << 25
"""About a year: the price swings around its mean no longer than that."""
_SAME_MILLISECOND: Final = 0.04
_IDENTICAL: Final = 0.01
_UNDOCUMENTED: Final = 0.02
_UNDOCUMENTED_FLAG: Final = 0x80
_LONGEST_SILENCE_BLOCKS: Final = 20 * 86_400_000 // BLOCK_MS


class Quotes(Protocol):
    """What a simulated broker quotes; times are UTC milliseconds, in ``time_msc`` too."""

    instruments: dict[str, Instrument]

    def ticks(self, symbol: str, start_ms: int, end_ms: int) -> Iterator[Ticks]:
        """The ticks in [start, end) in order, some at a time."""

    def last_tick(self, symbol: str, end_ms: int) -> Ticks | None:
        """The last tick before ``end_ms``, as an array of one; None when there is none."""


class Market:
    """Every symbol of one seed; ``rate`` multiplies the ticks of each, ``copies`` the symbols."""

    def __init__(self, seed: int, rate: float = 1.0, copies: int = 1) -> None:
        self._seed, self._rate = seed, rate
        self.instruments = offered(copies)
        self._calendars = {name: default_calendar(name) for name in self.instruments}
        self._block = lru_cache(maxsize=max(_BLOCKS_KEPT, 3 * len(self.instruments)))(self._make)

    def ticks(self, symbol: str, start_ms: int, end_ms: int) -> Iterator[Ticks]:
        """The ticks in [start, end) in order, a block at a time; ``time_msc`` is UTC here."""
        for block in range(start_ms // BLOCK_MS, -(-end_ms // BLOCK_MS)):
            ticks = self._block(symbol, block)
            first, last = np.searchsorted(ticks["time_msc"], [start_ms, end_ms])
            if first < last:
                yield ticks[first:last]

    def last_tick(self, symbol: str, end_ms: int) -> Ticks | None:
        """The last tick before ``end_ms``, as an array of one; None after weeks of silence."""
        block = (end_ms - 1) // BLOCK_MS
        ticks = self._block(symbol, block)
        count = int(np.searchsorted(ticks["time_msc"], end_ms))
        return ticks[count - 1 : count] if count else self._last_before(symbol, block)

    @lru_cache(maxsize=256)  # noqa: B019 - a market lives as long as its process
    def _last_before(self, symbol: str, block: int) -> Ticks | None:
        for earlier in range(block - 1, block - _LONGEST_SILENCE_BLOCKS, -1):
            ticks = self._make(symbol, earlier)
            if len(ticks):
                return ticks[-1:]
        return None

    def _make(self, symbol: str, block: int) -> Ticks:
        instrument = self.instruments[symbol]
        key = zlib.crc32(f"{self._seed}/{symbol}".encode())
        seconds = np.arange(block * BLOCK_MS, (block + 1) * BLOCK_MS, 1_000)
        is_open = self._calendars[symbol].closed_reasons(seconds) == _OPEN
        if not is_open.any():
            return np.empty(0, TICK_DTYPE)
        chance = np.random.default_rng([self._seed & 0xFFFFFFFF, key, block])
        activity = _activity(instrument, key, seconds)
        counts = chance.poisson(instrument.rate * self._rate * activity * is_open)
        times = np.repeat(seconds, counts)
        times = np.sort(times + chance.integers(0, 1_000, len(times)))
        fate = chance.random(len(times))
        _repeat_previous(times, fate < _SAME_MILLISECOND)
        bid, ask = _quotes(instrument, key, times, chance)
        identical = fate < _IDENTICAL
        _repeat_previous(bid, identical)
        _repeat_previous(ask, identical)
        ticks = np.zeros(len(times), TICK_DTYPE)
        ticks["time_msc"], ticks["time"] = times, times // 1_000
        ticks["bid"], ticks["ask"] = bid / 10.0**instrument.digits, ask / 10.0**instrument.digits
        ticks["flags"] = _flags(bid, ask) | np.where(
            chance.random(len(times)) < _UNDOCUMENTED, np.uint32(_UNDOCUMENTED_FLAG), np.uint32(0)
        )
        ticks.flags.writeable = False
        return ticks


def _activity(instrument: Instrument, key: int, times: NDArray[np.int64]) -> NDArray[np.float64]:
    """How busy the market is at each moment, 1 on average: the hour of the day, and bursts."""
    hour = (times / 3_600_000) % 24 - 0.5
    profile = np.interp(hour, np.arange(24), instrument.hours, period=24)
    burst = 0.6 * value_noise(key ^ 0xB1, times, 16_000) + 0.7 * value_noise(key ^ 0xB2, times, 2_500)
    busy: NDArray[np.float64] = profile * np.exp(burst - 0.25)
    return busy


def _quotes(
    instrument: Instrument, key: int, times: NDArray[np.int64], chance: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bid and ask in points."""
    walk = random_walk(key, times, shortest=_SHORTEST_MS, longest=_LONGEST_MS)
    middle = instrument.price * np.exp(instrument.volatility / np.sqrt(_YEAR_MS) * walk)
    calm = 0.25 * value_noise(key ^ 0x5B, times, 90_000) + 0.15 * chance.standard_normal(len(times))
    spread = np.maximum(1, np.rint(instrument.spread * np.exp(calm) / np.sqrt(_hour(instrument, times)))).astype(int)
    middle_points = middle * 10.0**instrument.digits + 0.4 * chance.standard_normal(len(times))
    bid = np.rint(middle_points - spread / 2).astype(np.int64)
    return bid, bid + spread


def _hour(instrument: Instrument, times: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.interp((times / 3_600_000) % 24 - 0.5, np.arange(24), instrument.hours, period=24)


def _repeat_previous(values: NDArray[np.int64], where: NDArray[np.bool_]) -> None:
    """Give each marked element the value of the nearest unmarked one before it, in place."""
    source = np.where(where, 0, np.arange(len(values)))
    values[:] = values[np.maximum.accumulate(source)]


def _flags(bid: NDArray[np.int64], ask: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Which side a tick changed; both where neither did, and for the first, whose predecessor is another block's."""
    moved = np.full(len(bid), FLAG_BID | FLAG_ASK, np.uint32)
    if len(bid) > 1:
        changes = np.where(np.diff(bid) != 0, FLAG_BID, 0) | np.where(np.diff(ask) != 0, FLAG_ASK, 0)
        moved[1:] = np.where(changes == 0, FLAG_BID | FLAG_ASK, changes)
    return moved
