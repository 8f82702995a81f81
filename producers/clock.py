"""The clock of a terminal's world: real, or faster from a start in the past."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is, in UTC."""

    def now_us(self) -> int:
        """The present in epoch microseconds."""

    def now_ms(self) -> int:
        """The present in epoch milliseconds."""


class RealClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def now_ms(self) -> int:
        return self.now_us() // 1_000


class FastClock:
    """Runs from ``start_ms`` at ``speed`` times real time until it meets the machine's clock, then with it."""

    def __init__(self, start_ms: int, speed: float) -> None:
        self._start_us, self._speed = start_ms * 1_000, speed
        self._began = time.monotonic_ns()

    def now_us(self) -> int:
        passed = (time.monotonic_ns() - self._began) * self._speed / 1_000
        return min(self._start_us + int(passed), time.time_ns() // 1_000)

    def now_ms(self) -> int:
        return self.now_us() // 1_000
