"""How often a client may say something, and how many connections an address may hold. Pure."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address


class RateLimit:
    """A bucket of one second's worth of messages, refilled as time passes."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.refused = 0
        """Messages refused since the last second without one."""
        self._left = float(rate)
        self._time: float | None = None

    def take(self, now: float) -> bool:
        """Whether a message at ``now`` (seconds) is within the limit."""
        if self._time is not None:
            self._left = min(self.rate, self._left + (now - self._time) * self.rate)
        self._time = now
        if self._left < 1:
            self.refused += 1
            return False
        if self._left >= self.rate:
            self.refused = 0
        self._left -= 1
        return True


class Addresses:
    """How many connections each address has. Those of this machine, a proxy's perhaps, are not limited."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    def enter(self, address: str | None) -> bool:
        """Whether one more connection of an address is within the limit; if so, it is counted."""
        if address is None or _is_local(address):
            return True
        if self._held[address] >= self._most:
            return False
        self._held[address] += 1
        return True

    def leave(self, address: str | None) -> None:
        """A connection that was let in has ended."""
        if address is not None and address in self._held:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]


def _is_local(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
