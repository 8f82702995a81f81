"""What a script of faults does to one terminal process: the codes its calls end with, and what it can see."""

from __future__ import annotations

import threading
import time
from typing import Final

import numpy as np

from producers import terminal as api
from producers.clock import Clock
from producers.simulated.faults import Faults, Kind
from producers.simulated.noise import hashed

_COLD_ROWS_MS: Final = 60_000
"""How far back the history of a symbol goes that is on its way."""


class Troubles:
    """The faults of one process; it remembers what was asked for and when."""

    def __init__(self, faults: Faults, clock: Clock) -> None:
        self._faults, self._clock = faults, clock
        self._asked: dict[str, int] = {}
        self._calls = 0

    def active(self, kind: Kind) -> str | None:
        """The value of a fault that holds now."""
        return self._faults.active(kind, self._clock.now_ms())

    @property
    def offline(self) -> bool:
        return self.active(Kind.OFFLINE) is not None

    @property
    def dropped(self) -> set[str]:
        """Symbols that the broker does not offer now."""
        return self._faults.values(Kind.DROP, self._clock.now_ms())

    @property
    def now(self) -> int:
        """The newest moment of which the terminal has heard, UTC ms."""
        now = self._clock.now_ms()
        return min((since for since, _, _ in self._faults.spans(Kind.OFFLINE, now, now + 1)), default=now)

    @property
    def history_now(self) -> int:
        """The newest moment that its history has."""
        lag = self.active(Kind.LAG)
        return self.now - (0 if lag is None else int(float(lag) * 1_000))

    def initializing(self) -> int:
        """The code of an initialize."""
        return api.IPC_TIMEOUT if self.active(Kind.TIMEOUT) is not None else self.logging_in()

    def logging_in(self) -> int:
        """The code of a login with the right password."""
        return api.AUTH_FAILED if self.active(Kind.REFUSED) is not None else api.OK

    def calling(self, symbol: str | None, rows: int) -> int:
        """The code of a data call; ``symbol`` is that of a history call, of ``rows`` at most. Hangs where it should."""
        if self.active(Kind.HANG) is not None:
            while True:
                threading.Event().wait()
        self._calls += 1
        if self.active(Kind.PIPE) is not None:
            return api.IPC_SEND if self._calls % 2 else api.IPC_RECEIVE
        if symbol is None:
            return api.OK
        if (seconds := self.active(Kind.SLOW)) is not None:
            time.sleep(float(seconds))
        if (share := self.active(Kind.FAIL)) is not None and self._chance() < float(share):
            return api.FAIL
        if (most := self.active(Kind.MEMORY)) is not None and rows > float(most):
            return api.NO_MEMORY
        return api.FAIL if self._coldness(symbol) == 1 else api.OK

    def floor(self, symbol: str) -> int | None:
        """Before when the terminal has no history of a symbol yet, UTC ms; None: it has all there is."""
        return self.now - _COLD_ROWS_MS if self._coldness(symbol) > 1 else None

    def _coldness(self, symbol: str) -> int:
        """0: warm; 1: nothing is there yet; 2: the newest part."""
        seconds = self.active(Kind.COLD)
        now = self._clock.now_ms()
        since = self._asked.setdefault(symbol, now)
        if seconds is None:
            return 0
        passed = (now - since) / 1_000
        return 1 if passed < float(seconds) / 2 else 2 if passed < float(seconds) else 0

    def _chance(self) -> float:
        """0 to 1: of this call, the same in each run."""
        return float(hashed(self._faults.seed, np.array([self._calls], np.uint64))[0]) / 12**0.5 + 0.5
