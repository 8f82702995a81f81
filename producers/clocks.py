"""Whether the broker's clock is still read right: the pure rules. Times are UTC milliseconds unless said."""

from __future__ import annotations

from typing import Final

from infra.market.zones import ServerZone
from schemas.errors import SourceError

AHEAD_MS: Final = 10 * 60_000
"""A server clock further ahead of the machine's than this is read in the wrong zone, or one of the two is wrong."""

FALLEN_MS: Final = 20 * 60_000
"""New ticks that are so much older than the last one say that the server's clock was set back."""

_STEP_MS: Final = 30 * 60_000
"""Zones differ by multiples of this."""

_OFF_MS: Final = 60_000


class ServerClockError(SourceError):
    """The server's clock does not run in the zone that it is read in, or this machine's is wrong."""


def check_ahead(highest: int, now: int, zone: ServerZone) -> None:
    """Raise ServerClockError if the newest tick is of the future."""
    if highest > now + AHEAD_MS:
        raise ServerClockError(
            f"the server's clock is {(highest - now) // 1_000} s ahead of this machine's when read as {zone.name}: "
            f"{_remedy(highest - now)}"
        )


def check_fallen(newest: int, last: int, zone: ServerZone) -> None:
    """Raise ServerClockError if ticks go on, but long before the ``last`` one."""
    if newest < last - FALLEN_MS:
        raise ServerClockError(
            f"the server's clock was set back by {(last - newest) // 1_000} s, which {zone.name} does not know of: "
            f"{_remedy(last - newest)}"
        )


def offset(least_age: int) -> str | None:
    """What is wrong when live ticks are never younger than ``least_age``; None when nothing is."""
    if abs(least_age) < _OFF_MS:
        return None
    side = "behind" if least_age > 0 else "ahead of"
    return f"the server's clock is {abs(least_age) // 1_000} s {side} this machine's: {_remedy(least_age)}"


def _remedy(error: int) -> str:
    """By how far off it is: a zone is by whole half hours."""
    beyond = (error + _STEP_MS // 2) % _STEP_MS - _STEP_MS // 2
    if abs(beyond) < _OFF_MS:
        return "set ARBITREX_PRODUCER__ZONE to the broker's zone, or to auto"
    return "this machine's clock is wrong: have it set by NTP"
