"""What goes wrong at the soak's terminals, and when: each fault alone, one after the other, then at random."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from producers.simulated.faults import Kind

_COMMON: Final = (
    Kind.COLD,
    Kind.FAIL,
    Kind.MEMORY,
    Kind.HANG,
    Kind.SLOW,
    Kind.PIPE,
    Kind.TIMEOUT,
    Kind.OFFLINE,
    Kind.LAG,
)
KINDS: Final = {
    "a": (*_COMMON, Kind.LATE, Kind.DROP),
    "b": (*_COMMON, Kind.LATE, Kind.ACCOUNT),
    "c": (*_COMMON, Kind.FORGET, Kind.FLOOD, Kind.REFUSED),
    "d": (*_COMMON, Kind.FORGET, Kind.ZONE, Kind.REFUSED),
}
"""By shard. A tick that is late and is lost before it was shown nobody ever saw: so no terminal does both."""

MOVED_TO: Final = "UTC+3"
"""Where the broker's clock goes that is moved, an hour on in winter."""
FOREVER: Final = 864_000.0


@dataclass(frozen=True, slots=True)
class How:
    """How one fault of a kind is."""

    lasts: float
    every: float
    """Seconds, on average, between two of them, where they come at random."""
    value: str = ""
    anew: bool = False
    """It is met at a log-in only, so the pipe breaks first."""


_HOW: Final = {
    Kind.COLD: How(12, 60, "8", anew=True),
    Kind.FAIL: How(20, 60, "0.3"),
    Kind.MEMORY: How(20, 120, "6000"),
    Kind.HANG: How(2, 90),
    Kind.SLOW: How(4, 60, "0.2"),
    Kind.PIPE: How(1, 40),
    Kind.TIMEOUT: How(6, 80, anew=True),
    Kind.REFUSED: How(4, 100, anew=True),
    Kind.OFFLINE: How(12, 70),
    Kind.LAG: How(20, 60, "2"),
    Kind.LATE: How(40, 60, "0.02"),
    Kind.FLOOD: How(1, 300, "12000"),
    Kind.FORGET: How(1, 45),
    Kind.DROP: How(12, 60),
}
_ACCOUNT_SECONDS: Final = 10.0


def script(shard: str, symbols: Sequence[str], begin: float, seconds: float, seed: int) -> tuple[str, ...]:
    """The faults of a shard's terminal in so many seconds from ``begin`` on (UTC epoch seconds).

    Alone in the first third. The account is another one at the very end, and the clock is moved for good after two
    thirds.
    """
    chance = random.Random(f"{seed}/{shard}")
    kinds = [kind for kind in KINDS[shard] if kind in _HOW]
    chance.shuffle(kinds)
    mixed = seconds / 3
    slot = mixed / len(kinds)
    found: list[str] = []
    for number, kind in enumerate(kinds):
        found += _one(kind, begin + number * slot, min(_HOW[kind].lasts, 0.7 * slot), symbols[number % len(symbols)])
    for kind in kinds:
        lasts = min(_HOW[kind].lasts, mixed)
        for _ in range(max(1, round((seconds - mixed) / _HOW[kind].every))):
            found += _one(kind, begin + chance.uniform(mixed, seconds - lasts), lasts, chance.choice(symbols))
    if Kind.ACCOUNT in KINDS[shard]:
        at = begin + seconds - _ACCOUNT_SECONDS
        found += [_entry(Kind.PIPE, at, 1), _entry(Kind.ACCOUNT, at, _ACCOUNT_SECONDS, "99")]
    if Kind.ZONE in KINDS[shard]:
        found.append(_entry(Kind.ZONE, begin + 2 * mixed, FOREVER, MOVED_TO))
    return tuple(found)


def _one(kind: Kind, at: float, lasts: float, symbol: str) -> Iterator[str]:
    how = _HOW[kind]
    if how.anew:
        yield _entry(Kind.PIPE, at, min(1.0, lasts))
    yield _entry(kind, at, lasts, symbol if kind is Kind.DROP else how.value)


def _entry(kind: Kind, at: float, lasts: float, value: str = "") -> str:
    moment = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    return f"{kind}{f'={value}' if value else ''}@{moment}+{lasts:.3f}"
