"""What passes: the reasons to reject a tick, for one and for columns.

The first that applies is a tick's reason: from the future (further ahead of its own receipt than tolerated), no spec,
not a positive price, crossed (if the spec rejects such), market closed or holiday, too late (`processors.core.plain`:
that one needs the open bars).

A price is bid and ask. Where the last price makes the bars, it is also last, if the tick says that last moved, and bid
and ask may be 0: there is no book then. A price or volume that is no number or infinite never passes, nor a negative
volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.core.terms import Terms
from processors.core.types import Reason

FLAG_BID: Final = 2
FLAG_LAST: Final = 8
FLAG_VOLUME: Final = 16
"""MetaTrader's TICK_FLAG bits; others, known or not, mean nothing here."""

_INT32: Final = 2**31 - 1


@dataclass(slots=True)
class Columns:
    """Ticks by column, one array a field."""

    ts: NDArray[np.int64]
    ordinal: NDArray[np.int64]
    bid: NDArray[np.float64]
    ask: NDArray[np.float64]
    last: NDArray[np.float64]
    volume: NDArray[np.float64]
    flags: NDArray[np.int64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Columns:
        """The ticks at ``which`` positions, or where it is true."""
        return Columns(
            self.ts[which],
            self.ordinal[which],
            self.bid[which],
            self.ask[which],
            self.last[which],
            self.volume[which],
            self.flags[which],
        )


def is_future(ts_event: int, ts_recv: int, tolerance_ms: int) -> bool:
    """Whether a tick (milliseconds) claims to be later than its receipt (microseconds) can explain."""
    return (ts_event - tolerance_ms) * 1_000 > ts_recv


def reason_of(terms: Terms, ts: int, prices: tuple[float, float, float, float], flags: int) -> Reason:
    """Why a tick with these bid, ask, last and volume does not pass, or CLEAN."""
    bid, ask, last, volume = prices
    if terms.last:
        good = 0 <= bid < math.inf and 0 <= ask < math.inf and (not flags & FLAG_LAST or 0 < last < math.inf)
        crossed = bid > ask > 0
    else:
        good = 0 < bid < math.inf and 0 < ask < math.inf
        crossed = bid > ask
    if not (good and 0 <= volume < math.inf):
        return Reason.NOT_POSITIVE
    if crossed and terms.reject_crossed:
        return Reason.CROSSED
    return Reason(terms.calendar.closed_reason(ts))


def reasons_of(terms: Terms, ticks: Columns) -> NDArray[np.int8]:
    """The same for the ticks of symbols with the same terms."""
    bid, ask, volume = ticks.bid, ticks.ask, ticks.volume
    good = (bid < np.inf) & (ask < np.inf) & (volume >= 0) & (volume < np.inf)
    crossed = bid > ask
    if terms.last:
        silent = ticks.flags & FLAG_LAST == 0
        good &= (bid >= 0) & (ask >= 0) & (silent | (ticks.last > 0) & (ticks.last < np.inf))
        crossed &= ask > 0
    else:
        good &= (bid > 0) & (ask > 0)
    reasons = terms.calendar.closed_reasons(ticks.ts)
    if terms.reject_crossed:
        reasons[crossed] = Reason.CROSSED
    reasons[~good] = Reason.NOT_POSITIVE
    return reasons


def spread_of(terms: Terms, bid: float, ask: float) -> int:
    """Ask less bid in points, rounded half to even; 0 where there is no book, at most what an int32 holds."""
    if bid <= 0 or ask <= 0:
        return 0
    return round(max(-float(_INT32), min((ask - bid) / terms.point, float(_INT32))))


def spreads_of(point: NDArray[np.float64] | float, ticks: Columns) -> NDArray[np.int64]:
    """The same for columns."""
    with np.errstate(over="ignore"):
        points = np.clip((ticks.ask - ticks.bid) / point, -_INT32, _INT32)
    points[(ticks.bid <= 0) | (ticks.ask <= 0)] = 0
    return np.rint(points).astype(np.int64)
