"""What the simulated broker has of a symbol at a moment: the market, with what its faults add, hold back and lose."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from producers.simulated.faults import Faults, Kind
from producers.simulated.market import Quotes
from producers.simulated.noise import hashed
from producers.terminal import Ticks

_DAY_MS: Final = 86_400_000
LATE_BY_MS: Final = 20_000
"""When a late tick stands in the history: so much after its time."""


class History:
    """A broker's ticks; ``time_msc`` is UTC here. A function of market, faults and time."""

    def __init__(self, market: Quotes, faults: Faults) -> None:
        self.market, self._faults = market, faults

    def ticks(self, symbol: str, start: int, end: int, now: int) -> Iterator[Ticks]:
        """The ticks in [start, end) that the terminal has at ``now``, in order, some at a time."""
        start = max(start, self.floor(now) or 0)
        for every in self.ever(symbol, start, end):
            shown = self._shown(symbol, every, now)
            if shown.any():
                yield every[shown]

    def ever(self, symbol: str, start: int, end: int) -> Iterator[Ticks]:
        """All ticks that the broker had or will have in [start, end), in order."""
        floods = list(self._floods(start, end))
        for block in self.market.ticks(symbol, start, end):
            at = 0
            while floods and floods[0][0] <= int(block["time_msc"][-1]):
                split = int(np.searchsorted(block["time_msc"], floods[0][0], side="right"))
                if split > at:
                    yield block[at:split]
                yield from self._flood(symbol, *floods.pop(0))
                at = split
            if at < len(block):
                yield block[at:]
        for flood in floods:
            yield from self._flood(symbol, *flood)

    def floor(self, now: int) -> int | None:
        """Before when the history is not there any more; None: it is all there."""
        return max(
            (until for _, until, _ in self._faults.spans(Kind.FORGET, now - _DAY_MS, now) if until <= now), default=None
        )

    def last_tick(self, symbol: str, end: int) -> Ticks | None:
        """The last quote before ``end``, as an array of one: the probe knows nothing of what history has lost."""
        last = self.market.last_tick(symbol, end)
        for flood in reversed(list(self._floods(end - 2_000, end))):
            if last is not None and int(last[0]["time_msc"]) <= flood[0]:
                return next(self._flood(symbol, *flood))[-1:]
        return last

    def _shown(self, symbol: str, ticks: Ticks, now: int) -> NDArray[np.bool_]:
        times = ticks["time_msc"]
        shown = np.ones(len(ticks), np.bool_)
        first, last = int(times[0]), int(times[-1]) + 1
        for since, until, share in self._faults.spans(Kind.LATE, first, last):
            chosen = (times >= since) & (times < until) & (times > now - LATE_BY_MS)
            if chosen.any():
                key = zlib.crc32(f"late/{self._faults.seed}/{symbol}".encode())
                lot = hashed(key, times.astype(np.uint64)) / np.sqrt(12.0) + 0.5
                shown &= ~(chosen & (lot < float(share)))
        return shown

    def _floods(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """When floods are, and how many ticks; at the beginning of a second."""
        seconds = {
            -(-since // 1_000) * 1_000: int(float(count))
            for since, _, count in self._faults.spans(Kind.FLOOD, start - 1_000, end)
        }
        return ((second, count) for second, count in sorted(seconds.items()) if start <= second < end)

    def _flood(self, symbol: str, second: int, count: int) -> Iterator[Ticks]:
        """``count`` ticks in the first millisecond of a second, told apart by price and place."""
        like = self.market.last_tick(symbol, second + 1)
        if like is None:
            return
        ticks = np.repeat(like, count)
        ticks["time_msc"], ticks["time"] = second, second // 1_000
        step = np.arange(count) % 50 * 1e-5
        ticks["bid"] += step
        ticks["ask"] += step
        ticks.flags.writeable = False
        yield ticks
