"""Faults of the simulated terminal, each a switch: which, how strong, and when.

A script is a list of ``KIND[=VALUE][@WHEN]``. Without ``@`` a fault holds all the time. ``@2026-03-02T08:00:00Z+30``
is thirty seconds from then on; ``@every600+30`` thirty seconds somewhere in each ten minutes, by the seed. Times are
those of the terminal's own clock, so a process that starts again meets the faults of its moment. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import numpy as np

from producers.simulated.noise import hashed
from schemas.errors import SettingsError

_ENTRY: Final = re.compile(
    r"(?P<kind>[a-z_]+)(?:=(?P<value>[^@\s]+))?(?:@(?P<start>[^+\s]+)\+(?P<length>\d+(?:\.\d+)?))?"
)
_EVERY: Final = re.compile(r"every(\d+(?:\.\d+)?)")


class Kind(StrEnum):
    """What goes wrong; the value's meaning in brackets."""

    COLD = "cold"
    """A symbol's history comes late: -1, then its newest part, then all [seconds from the first call]."""
    FAIL = "fail"
    """Data calls fail with -1 [how often, 0 to 1]."""
    MEMORY = "memory"
    """Calls for more rows than this fail with -3 [rows]."""
    HANG = "hang"
    """A data call that begins now never returns."""
    SLOW = "slow"
    """Data calls take longer [seconds]."""
    PIPE = "pipe"
    """The pipe breaks: -10001 or -10002, then -10004 until initialize."""
    TIMEOUT = "timeout"
    """initialize fails with -10005."""
    REFUSED = "refused"
    """initialize and login fail with -6."""
    OFFLINE = "offline"
    """No connection to the broker; what is cached answers."""
    LAG = "lag"
    """History is behind symbol_info_tick [seconds]."""
    LATE = "late"
    """Some ticks stand in the history only later [their share, 0 to 1, of the ticks of this time]."""
    FLOOD = "flood"
    """More ticks than a page in one second [ticks, at the start]."""
    FORGET = "forget"
    """At the end of this time the terminal loses all history before."""
    ZONE = "zone"
    """The broker's clock runs in another zone [its name]."""
    ACCOUNT = "account"
    """The terminal is logged in to another account [its number]."""
    DROP = "drop"
    """The broker does not offer a symbol [its name]."""


_DEFAULTS: Final = {
    Kind.COLD: "30",
    Kind.FAIL: "0.5",
    Kind.MEMORY: "1000",
    Kind.SLOW: "1",
    Kind.LAG: "3",
    Kind.LATE: "0.01",
    Kind.FLOOD: "25000",
    Kind.ACCOUNT: "99",
}
_NAMED: Final = {Kind.ZONE, Kind.DROP}


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of a script. Times are UTC milliseconds."""

    kind: Kind
    value: str = ""
    start: int = 0
    """Of its only time, or an ordinal that tells recurring faults apart."""
    length: int | None = None
    """None: it always holds."""
    every: int | None = None

    def spans(self, start: int, end: int, seed: int) -> Iterator[tuple[int, int]]:
        """When it holds within [start, end)."""
        if self.length is None:
            yield start, end
        elif self.every is None:
            if self.start < end and self.start + self.length > start:
                yield self.start, self.start + self.length
        else:
            for slot in range((start - self.length) // self.every, end // self.every + 1):
                begins = slot * self.every + int(_chance(seed, self, slot) * max(self.every - self.length, 0))
                if begins < end and begins + self.length > start:
                    yield begins, begins + self.length


@dataclass(frozen=True, slots=True)
class Faults:
    """A script; empty, nothing goes wrong."""

    script: tuple[Fault, ...] = ()
    seed: int = 0
    _by_kind: dict[Kind, list[Fault]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_kind: dict[Kind, list[Fault]] = {}
        for fault in self.script:
            by_kind.setdefault(fault.kind, []).append(fault)
        object.__setattr__(self, "_by_kind", by_kind)

    @classmethod
    def parse(cls, entries: Iterable[str], seed: int = 0) -> Faults:
        """Raises SettingsError, which names the entry."""
        return cls(tuple(_parse(entry, number) for number, entry in enumerate(entries)), seed)

    def active(self, kind: Kind, now: int) -> str | None:
        """The value of a fault of this kind that holds at ``now``; None when none does."""
        return next((value for _, _, value in self.spans(kind, now, now + 1)), None)

    def values(self, kind: Kind, now: int) -> set[str]:
        """The values of all faults of this kind that hold at ``now``."""
        return {value for _, _, value in self.spans(kind, now, now + 1)}

    def spans(self, kind: Kind, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        """When faults of this kind hold within [start, end), and their values."""
        for fault in self._by_kind.get(kind, ()):
            for since, until in fault.spans(start, end, self.seed):
                yield since, until, fault.value


def _parse(entry: str, number: int) -> Fault:
    found = _ENTRY.fullmatch(entry)
    kinds = " ".join(Kind)
    if found is None or found["kind"] not in set(Kind):
        raise SettingsError(f"{entry!r} is no fault: write KIND[=VALUE][@START+SECONDS], KIND being one of {kinds}")
    kind = Kind(found["kind"])
    value = found["value"] or _DEFAULTS.get(kind, "")
    if kind in _NAMED and not value:
        raise SettingsError(f"{entry!r}: {kind} needs a name, as in {kind}=NAME")
    if kind in _DEFAULTS:
        try:
            float(value)
        except ValueError:
            raise SettingsError(f"{entry!r}: {value} is no number") from None
    if found["start"] is None:
        return Fault(kind, value)
    length = int(float(found["length"]) * 1_000)
    if every := _EVERY.fullmatch(found["start"]):
        return Fault(kind, value, number, length, int(float(every[1]) * 1_000))
    try:
        start = datetime.fromisoformat(found["start"])
    except ValueError:
        raise SettingsError(f"{entry!r}: {found['start']} is neither everySECONDS nor a time") from None
    return Fault(kind, value, int((start if start.tzinfo else start.replace(tzinfo=UTC)).timestamp() * 1_000), length)


def _chance(seed: int, fault: Fault, slot: int) -> float:
    """0 to 1, the same each time."""
    key = seed * 1_000_003 + fault.start * 7_919 + sum(map(ord, fault.kind))
    return float(hashed(key, np.array([slot & 0xFFFFFFFF], np.uint64))[0]) / (12**0.5) + 0.5
