"""Where a batch's ticks are cut into count bars: the pieces of bars that they make, without a loop over ticks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infra.market.counts import Measure
from processors.core.cutting import cut
from processors.core.series import Count, Series

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Pieces:
    """By symbol and in order: each a whole bar, or the part of one that this batch brings."""

    starts: list[int] = field(default_factory=list)
    """Where each begins, among all ticks that make bars."""
    ts_open: list[int] = field(default_factory=list)
    closes: list[int] = field(default_factory=list)
    full: list[bool] = field(default_factory=list)
    days: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    counts: dict[int, Count] = field(default_factory=dict)
    """Where each symbol stands after its last one, as long as midnight has not closed that."""
    open: set[int] = field(default_factory=set)
    """The symbols whose last one is not full."""

    @staticmethod
    def of(measure: Measure, series: dict[int, Series], code: Ints, ts: Ints, weights: NDArray[np.float64]) -> Pieces:
        """Those of ticks sorted by symbol, in order within each."""
        pieces = Pieces()
        edges = np.flatnonzero(np.diff(code)) + 1
        for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(code)], strict=True):
            if start < end:
                one = series[int(code[start])]
                which = slice(start, end)
                pieces.counts[int(code[start])] = pieces._cut(measure, one, ts[which], weights[which], start)
                if not pieces.full[-1]:
                    pieces.open.add(int(code[start]))
        return pieces

    def keep(self, name: str, series: dict[int, Series]) -> None:
        """Say to the series where they stand, once all that has ended is closed."""
        for code, count in self.counts.items():
            if code in self.open and name not in series[code].bars:
                count.next(count.to)
            series[code].counts[name] = count

    def _cut(self, measure: Measure, one: Series, ts: Ints, weights: NDArray[np.float64], offset: int) -> Count:
        """One symbol's ticks; ``offset``: where they begin."""
        count, bar, at = one.counts.get(measure.name), one.bars.get(measure.name), 0
        count = count.copy() if count else None
        while at < len(ts):
            first = int(ts[at])
            if count is None or first >= count.to:
                (day, to), bar = one.day(first), None
                count = Count(day, to, since=day)
            stop = int(np.searchsorted(ts, count.to))
            ends, left = cut(weights[at:stop], measure.size, count.sum)
            begun = bar.ts_open if bar else min(count.since, first)
            begin = at
            for end in ends:
                close = int(ts[at + end - 1]) + 1
                self._add(offset + begin, begun, close, count, full=True)
                count.next(close)
                begin = at + end
                if begin < stop:
                    begun = min(close, int(ts[begin]))
            if begin < stop:
                self._add(offset + begin, begun, count.to, count, full=False)
            count.sum, bar, at = left, None, stop
        if count is None:
            raise ValueError("no ticks to cut")
        return count

    def _add(self, start: int, ts_open: int, close: int, count: Count, *, full: bool) -> None:
        self.starts.append(start)
        self.ts_open.append(ts_open)
        self.closes.append(close)
        self.full.append(full)
        self.days.append(count.day)
        self.numbers.append(count.number)
