"""Event time at a multiple of real time."""

from __future__ import annotations

import math
import time
from threading import Event, Lock
from typing import Final

_LONGEST_WAIT: Final = 0.05


class Pace:
    """A clock of event time (UTC ms) that begins when it is first asked; it can be held, from any thread."""

    def __init__(self, speed: float | None, stopping: Event) -> None:
        """``speed``: times real time; None: all moments have come."""
        self.speed, self._stopping = speed, stopping
        self._origin: tuple[int, float] | None = None
        self._lock = Lock()
        self._held_since: float | None = None
        self._held = 0.0

    @property
    def begun(self) -> bool:
        return self._origin is not None

    @property
    def held(self) -> bool:
        return self._held_since is not None

    def begin(self, moment: int) -> None:
        """It is ``moment`` now."""
        self._origin = (moment, self._clock())

    def moment(self) -> float:
        """Event time now; infinite without a speed, minus infinite before it has begun."""
        if self.speed is None:
            return math.inf
        if self._origin is None:
            return -math.inf
        event, began = self._origin
        return event + (self._clock() - began) * 1_000 * self.speed

    def reach(self, moment: int) -> None:
        """Return when ``moment`` has come, or when asked to stop; the first one has come already."""
        if self._origin is None:
            self.begin(moment)
        while (ahead := moment - self.moment()) > 0 and self.speed is not None:
            wait = ahead / 1_000 / self.speed
            if self._stopping.wait(min(wait, _LONGEST_WAIT) if self.held else wait):
                return

    def toggle(self) -> bool:
        """Hold event time, or let it go on; whether it is held now."""
        with self._lock:
            if self._held_since is None:
                self._held_since = time.monotonic()
                return True
            self._held += time.monotonic() - self._held_since
            self._held_since = None
            return False

    def _clock(self) -> float:
        """Seconds that passed unheld."""
        with self._lock:
            return (self._held_since or time.monotonic()) - self._held
