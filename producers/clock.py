"""The clock of a terminal's world: real, or faster from a start in the past."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is, in UTC epoch milliseconds."""

    def now_ms(self) -> int:
        """The present; never earlier than it said before."""


class RealClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class FastClock:
    """Runs from ``start_ms`` at ``speed`` times real time until it meets the machine's clock, then with it."""

    def __init__(self, start_ms: int, speed: float) -> None:
        self._start_ms, self._speed = start_ms, speed
        self._began = time.monotonic_ns()

    def now_ms(self) -> int:
        passed = (time.monotonic_ns() - self._began) * self._speed
        return min(self._start_ms + int(passed / 1_000_000), time.time_ns() // 1_000_000)
