"""The clock of a replay: it runs at a speed, stands still, and never leaves behind what has still to be told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_LEEWAY_SECONDS: Final = 1.0
"""How far the clock may be ahead of what is told before it waits."""


class Clock:
    """Event time (UTC epoch milliseconds) as a replay passes through it.

    ``speed``: how many times its pace; None: as fast as can be. ``seconds`` gives seconds that only rise.
    """

    def __init__(self, time: int, speed: float | None, seconds: Callable[[], float]) -> None:
        self._time: float = time
        self._told = time
        self.following: float = math.inf
        """When that happened which is told next."""
        self._speed = speed
        self._seconds = seconds
        self._since = seconds()
        self._running = False

    @property
    def speed(self) -> float | None:
        return self._speed

    @property
    def time(self) -> int:
        """Where the replay is: not beyond what is told next, however late that is."""
        return int(min(self._now(), max(self.following, self._told)))

    def run(self, *, running: bool) -> None:
        """Run, or stand still."""
        self._set(self._now())
        self._running = running

    def change(self, speed: float | None) -> None:
        """Go on at another speed."""
        self._set(self._now())
        self._speed = speed

    def delay(self, time: int) -> float:
        """Seconds until a moment is due."""
        return 0.0 if self._speed is None else (time - self._now()) / 1_000 / self._speed

    def told(self, time: int) -> None:
        """What happened at a moment has been told only now; something earlier than before is late, not the clock."""
        if time <= self._told:
            return
        self._told = time
        ahead = self._now() - time
        if self._speed is None or ahead < 0 or ahead > _LEEWAY_SECONDS * 1_000 * self._speed:
            self._set(time)

    def _now(self) -> float:
        if self._speed is None or not self._running:
            return self._time
        return self._time + (self._seconds() - self._since) * 1_000 * self._speed

    def _set(self, time: float) -> None:
        self._time, self._since = time, self._seconds()
