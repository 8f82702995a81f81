"""The ticks that made a series' bars lately, by identity: what count bars are cut anew from.

They are read back from ``ticks.clean`` before a batch that brings a correction (`processors.core.recall`), and the step
adds those that come after that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.market.counts import Counted
from processors.core.filter import FLAG_BID, FLAG_LAST, FLAG_VOLUME, Columns, spreads_of
from processors.core.terms import Terms

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class KeptTick(NamedTuple):
    """What is kept of a tick."""

    ts: int
    ordinal: int
    price: float
    ask: float
    counts: int
    volume: float
    spread: int
    amount: float


@dataclass(frozen=True, slots=True)
class KeptTicks:
    """The same by column, rising by identity; of equal ones as they came."""

    ts: Ints
    ordinal: Ints
    price: Floats
    ask: Floats
    counts: Ints
    volume: Floats
    spread: Ints
    amount: Floats

    @staticmethod
    def of(terms: Terms, ticks: Columns) -> KeptTicks:
        """Clean ticks' that make bars."""
        if terms.last:
            ticks = ticks.take(ticks.flags & FLAG_LAST != 0)
        counts = np.ones(len(ticks.ts), np.int64) if terms.last else (ticks.flags & FLAG_BID != 0).astype(np.int64)
        volume = np.where(ticks.flags & (FLAG_LAST | FLAG_VOLUME) != 0, ticks.volume + 0.0, 0.0)
        return KeptTicks(
            ticks.ts,
            ticks.ordinal,
            ticks.last if terms.last else ticks.bid,
            ticks.ask + 0.0,
            counts,
            volume,
            spreads_of(terms.point, ticks),
            volume if terms.last else counts.astype(np.float64),
        ).sorted()

    def __len__(self) -> int:
        return len(self.ts)

    def weights(self, counted: Counted) -> Floats:
        """What each brings a count bar nearer to being full."""
        if counted == Counted.TICKS:
            return np.ones(len(self.ts))
        return self.amount if counted == Counted.VOLUME else self.price * self.amount

    def sorted(self) -> KeptTicks:
        """By identity."""
        return self._take(np.lexsort((self.ordinal, self.ts)))

    def between(self, first: tuple[int, int], until: int) -> KeptTicks:
        """From an identity to before a moment (UTC ms)."""
        ts, ordinal = first
        return self._take(((self.ts > ts) | ((self.ts == ts) & (self.ordinal >= ordinal))) & (self.ts < until))

    def and_also(self, more: list[KeptTick]) -> KeptTicks:
        """With those that came later."""
        columns = zip(self._columns(), zip(*more, strict=True), strict=True)
        return KeptTicks(*(np.append(old, np.array(new, old.dtype)) for old, new in columns)).sorted()

    def _take(self, which: Ints | NDArray[np.bool_]) -> KeptTicks:
        return KeptTicks(*(column[which] for column in self._columns()))

    def _columns(self) -> tuple[Any, ...]:
        return self.ts, self.ordinal, self.price, self.ask, self.counts, self.volume, self.spread, self.amount


_NO_INTS: Final = np.zeros(0, np.int64)
_NO_FLOATS: Final = np.zeros(0, np.float64)
_NONE: Final = KeptTicks(
    _NO_INTS, _NO_INTS, _NO_FLOATS, _NO_FLOATS, _NO_INTS, _NO_FLOATS, _NO_INTS, _NO_FLOATS
)  # fmt: skip


@dataclass(slots=True)
class Kept:
    """A series' ticks from a moment on."""

    since: int
    """UTC ms: what is earlier was not asked for."""
    _ticks: KeptTicks = _NONE
    _later: list[KeptTick] = field(default_factory=list)

    @staticmethod
    def nothing() -> Kept:
        """Of a series that begins."""
        return Kept(0)

    def copy(self) -> Kept:
        """A copy to change."""
        return Kept(self.since, self._ticks, list(self._later))

    def append(self, tick: KeptTick) -> None:
        """Another one has made bars."""
        self._later.append(tick)

    @property
    def ticks(self) -> KeptTicks:
        """All of them."""
        if self._later:
            self._ticks, self._later = self._ticks.and_also(self._later), []
        return self._ticks
