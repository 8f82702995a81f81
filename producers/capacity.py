"""How many symbols a shard can carry, by how long its polls take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from infra import logs, metrics

LONGEST_CYCLE_SECONDS: Final = 1.0
"""A poll over all symbols that takes longer leaves ticks a second old."""

_WEIGHT: Final = 0.05
_AGAIN_SECONDS: Final = 600.0

log = logs.logger(__name__)


class Capacity:
    """Of one shard; says when it is exceeded, every ten minutes."""

    def __init__(self, symbols: int, feed: str, shard: str) -> None:
        self.symbols = symbols
        self._gauge = metrics.SHARD_CAPACITY.labels(feed, shard)
        self._mean: float | None = None
        self._told = -_AGAIN_SECONDS

    @contextmanager
    def cycle(self) -> Iterator[None]:
        """One poll over all symbols."""
        began = time.monotonic()
        yield
        self.took(time.monotonic() - began)

    def took(self, seconds: float) -> None:
        """A poll took so long."""
        self._mean = seconds if self._mean is None else self._mean + _WEIGHT * (seconds - self._mean)
        carries = int(self.symbols * LONGEST_CYCLE_SECONDS / max(self._mean, 1e-6))
        self._gauge.set(carries)
        if carries < self.symbols and time.monotonic() - self._told >= _AGAIN_SECONDS:
            self._told = time.monotonic()
            log.warning(
                "a poll takes too long: give symbols to another shard (arbitrex feed spread)",
                seconds=round(self._mean, 2),
                symbols=self.symbols,
                carries=carries,
            )
