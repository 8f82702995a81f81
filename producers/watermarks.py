"""How far a shard has certainly published: the pure rule. Times are UTC milliseconds."""

from __future__ import annotations

from collections import deque
from typing import Final

STEP_MS: Final = 1_000
"""How much a watermark must move on to be worth a record."""

UNCALIBRATED_MS: Final = 600_000
"""How far the machine's clock may be ahead of the server's as long as no live tick has told."""

_AGES: Final = 256
_TELLING: Final = 16


class Watermarks:
    """The rule of one shard.

    While ticks come: the highest server time seen before a poll, less ``margin_ms``. When
    none came for ``quiet_ms``: the machine's clock, corrected by the least age that live ticks had on arrival (by
    `UNCALIBRATED_MS` before there was one), less ``quiet_ms``. Never back.
    """

    def __init__(self, *, margin_ms: int, quiet_ms: int, last: int = -1) -> None:
        self._margin_ms, self._quiet_ms = margin_ms, quiet_ms
        self.last = last
        """The highest one given."""
        self._ages: deque[int] = deque(maxlen=_AGES)
        self._moved_ms: int | None = None

    def arrived(self, newest: int, now: int) -> None:
        """Ticks came in a live poll at ``now``, the newest of ``newest``."""
        self._ages.append(now - newest)
        self._moved_ms = now

    @property
    def least_age(self) -> int | None:
        """The least age that live ticks had on arrival; None before there were enough to tell."""
        return min(self._ages) if len(self._ages) >= _TELLING else None

    def polled(self, begun: int, highest: int, limit: int | None = None) -> int | None:
        """A poll that began at ``begun`` is over; the watermark to publish, if any.

        ``highest``: the newest tick seen before it, -1 when none was; ``limit``: the watermark must not go beyond, as
        some series is not drained; None: all are.
        """
        reached = [self.last, highest - self._margin_ms]
        if self._moved_ms is None or begun - self._moved_ms >= self._quiet_ms:
            reached.append(begun - min(self._ages, default=UNCALIBRATED_MS) - self._quiet_ms)
        time = max(reached) if limit is None else min(max(reached), limit)
        if time < self.last + STEP_MS:
            return None
        self.last = time
        return time
