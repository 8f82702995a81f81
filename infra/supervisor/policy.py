"""When a child that ended is started again. Pure: times in seconds of any monotonic clock, chance given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
RAN_WELL: Final = 60.0
"""Seconds of running after which earlier failures are forgotten."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """A child's record of failures."""

    total: int = 0
    in_a_row: int = 0

    def after_exit(self, ran: float) -> Restarts:
        """The record after the child ended, having run for ``ran`` seconds."""
        return replace(self, total=self.total + 1, in_a_row=1 if ran >= RAN_WELL else self.in_a_row + 1)

    def delay(self, chance: float) -> float:
        """Seconds until the next start: doubling, half of it chance (0 to 1), so that children do not beat together."""
        if self.in_a_row == 0:
            return 0.0
        full = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.in_a_row - 1, 30))
        return full * (0.5 + 0.5 * chance)
