"""A correction cuts the rest of its day's count bars anew.

The bar that holds the correction, and those after it, are cut once more from the day's ticks; what comes out otherwise
than before is published, with the next revision. A tick more makes no bar end later, since volumes are not negative,
so there are never fewer bars than before, and each keeps its key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import repeat

import numpy as np

from infra.market.counts import Measure
from processors.core import counting
from processors.core.cutting import cut
from processors.core.kept import KeptTick, KeptTicks
from processors.core.making import Addition
from processors.core.series import Identity, OpenBar, Series
from processors.core.work import Work


class Done(Enum):
    """What became of a correction."""

    NOTHING = auto()
    """It belongs to no bar that was published."""
    TAKEN = auto()
    """Only the open bar changed, or a new one opened."""
    REVISED = auto()
    LEFT = auto()
    """The bars stay as they are: their ticks are not all at hand, or the rules have changed since the day began."""


def recut(work: Work, series: Series, measure: Measure, more: Addition, position: int, *, ended: bool) -> Done:
    """Take the correction into the bars of its day; ``ended``: that day has closed."""
    name, ts = measure.name, more.identity[0]
    day, to = _day(series, name, ts)
    if not series.complete(name, day) or day < max(series.published_from, series.zone_from or 0):
        return Done.NOTHING
    before = _Before.of(series, name, (day, to), more.identity, ended=ended)
    if not ended and not before.parts:
        counting.add(work, series, measure, more, position)
        return Done.TAKEN
    ticks = _ticks(series, before.parts, to)
    if ticks is None or day < (series.rules_from or 0):
        return Done.LEFT
    ticks = ticks.and_also([kept(more)])
    ends, left = cut(ticks.weights(measure.counted), measure.size, 0.0)
    bars = _bars(ticks, ends, before, more)
    if len(bars) < len(before.parts):
        return Done.LEFT
    changed = Done.TAKEN
    for bar in bars if ended else bars[: len(ends)]:
        old = before.published.get(bar.number)
        if old is None or _differ(old, bar):
            bar.revision = old.revision + 1 if old else int(ended)
            work.publish(series, name, bar, position)
            changed = Done.REVISED
    if not ended:
        _go_on(series, name, bars, len(ends), left)
    return changed


def kept(more: Addition) -> KeptTick:
    """What is kept of the tick."""
    return KeptTick(*more.identity, more.price, more.ask, int(more.counts), more.volume, more.spread, more.amount)


def _day(series: Series, name: str, ts: int) -> Identity:
    count = series.counts.get(name)
    return (count.day, count.to) if count and count.day <= ts < count.to else series.day(ts)


@dataclass(frozen=True, slots=True)
class _Before:
    """A day's bars as they were."""

    day: int
    to: int
    """Its end."""
    published: dict[int, OpenBar]
    """By number."""
    parts: list[OpenBar]
    """Those that may change, in order: published ones, and the open one."""
    number: int
    """Of the first bar that may change, or is new."""
    since: int
    """Where it opens, at the latest."""

    @staticmethod
    def of(series: Series, name: str, span: Identity, identity: Identity, *, ended: bool) -> _Before:
        if series.closed is None:
            raise ValueError(f"the closed bars of {series.symbol} are not at hand")
        day, to = span
        bars = sorted((bar for bar in series.closed.get(name, {}).values() if bar.day == day), key=_number)
        parts = [bar for bar in bars if bar.last > identity]
        if ended and not parts and bars and bars[-1].ts_close == to:
            parts = bars[-1:]  # midnight has closed it, so it may have room
        if not ended and (bar := series.bars.get(name)) and (parts or bar.last >= identity):
            parts.append(bar)
        if parts:
            number, since = parts[0].number, parts[0].ts_open
        else:
            number, since = (bars[-1].number + 1, bars[-1].ts_close) if bars else (0, day)
        return _Before(day, to, {bar.number: bar for bar in bars}, parts, number, since)


def _number(bar: OpenBar) -> int:
    return bar.number


def _ticks(series: Series, parts: Sequence[OpenBar], to: int) -> KeptTicks | None:
    """The ticks of the bars, if all are there."""
    if series.kept is None:
        return None
    first = parts[0].first if parts else (to, 0)
    found = series.kept.ticks.between(first, to)
    return found if len(found) == sum(bar.tick_count for bar in parts) else None


def _bars(ticks: KeptTicks, ends: Sequence[int], before: _Before, more: Addition) -> list[OpenBar]:
    """The ticks as bars; the last one is open, with the day's end as its own, unless it is full."""
    size = len(ticks)
    starts = np.array([0, *ends] if not ends or ends[-1] < size else [0, *ends[:-1]], np.int64)
    lasts = np.append(starts[1:], size) - 1
    volume = np.zeros(len(starts))
    np.add.at(volume, np.repeat(np.arange(len(starts)), lasts + 1 - starts), ticks.volume)
    firsts, finals = (
        list(zip(ticks.ts[which].tolist(), ticks.ordinal[which].tolist(), strict=True)) for which in (starts, lasts)
    )
    closes = [ts + 1 for ts, _ in finals[: len(ends)]] + [before.to] * (len(finals) - len(ends))
    opens = [min(since, ts) for since, (ts, _) in zip([before.since, *closes[:-1]], firsts, strict=True)]
    sources = _Sources(before.parts)
    return list(
        map(
            OpenBar,
            opens,
            closes,
            ticks.price[starts].tolist(),
            np.maximum.reduceat(ticks.price, starts).tolist(),
            np.minimum.reduceat(ticks.price, starts).tolist(),
            ticks.price[lasts].tolist(),
            ticks.ask[starts].tolist(),
            np.maximum.reduceat(ticks.ask, starts).tolist(),
            np.minimum.reduceat(ticks.ask, starts).tolist(),
            ticks.ask[lasts].tolist(),
            np.add.reduceat(ticks.counts, starts).tolist(),
            volume.tolist(),
            np.minimum.reduceat(ticks.spread, starts).tolist(),
            (lasts + 1 - starts).tolist(),
            firsts,
            finals,
            repeat(more.rules),
            [sources.first_offset(first, last, more.offset) for first, last in zip(firsts, finals, strict=True)],
            repeat(more.offset),
            repeat(0),
            repeat(before.day),
            range(before.number, before.number + len(starts)),
        )
    )


class _Sources:
    """From which offset on the records of some bars stand."""

    def __init__(self, parts: Sequence[OpenBar]) -> None:
        self._firsts = [bar.first for bar in parts]
        self._lasts = [bar.last for bar in parts]
        self._offsets = [bar.first_offset for bar in parts]

    def first_offset(self, first: Identity, last: Identity, offset: int) -> int:
        """The least of the bars that have ticks from ``first`` to ``last``, or ``offset``."""
        found = self._offsets[bisect_left(self._lasts, first) : bisect_right(self._firsts, last)]
        return min([*found, offset])


def _differ(old: OpenBar, new: OpenBar) -> bool:
    return replace(new, first_offset=old.first_offset, last_offset=old.last_offset, revision=old.revision) != old


def _go_on(series: Series, name: str, bars: Sequence[OpenBar], full: int, left: float) -> None:
    """After so many full bars, with the one after them open if there is one."""
    count, known = series.counts[name], series.bars.pop(name, None)
    for bar in bars[:full]:
        count.number = bar.number
        count.next(bar.ts_close)
    count.sum = left
    for bar in bars[full:]:
        series.bars[name] = known if known and not _differ(known, bar) else bar
