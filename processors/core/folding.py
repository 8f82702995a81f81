"""Bars from columns: groups of the shortest timeframe from ticks, those of the longer ones from its groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.market.counts import Counted, Measure
from infra.market.timeframes import base_of, bounds
from infra.market.zones import ServerZone
from processors.core.filter import FLAG_BID, FLAG_LAST, FLAG_VOLUME, Columns, spreads_of
from processors.core.pieces import Pieces
from processors.core.series import OpenBar, Series
from processors.core.work import Work

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TIME_BITS: Final = 42
"""Enough for moments up to 2109, in milliseconds."""
_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Ends:
    """A shard's watermarks in a batch: where they stand and how far they reach, never going back."""

    positions: Ints
    times: Ints
    before: int
    """The watermark before the batch."""

    @staticmethod
    def of(marks: Sequence[tuple[int, int]], before: int) -> Ends:
        """From positions and times, in order."""
        positions, times = np.array(marks, np.int64).reshape(-1, 2).T
        return Ends(positions, np.maximum.accumulate(np.maximum(times, before)), before)

    def standing(self, positions: Ints) -> Ints:
        """The watermark in force at each position."""
        return np.append(self.before, self.times)[np.searchsorted(self.positions, positions)]

    def covering(self, closes: Ints) -> Ints:
        """Where the first watermark of the batch stands that closes bars with these ends."""
        return np.append(self.positions, _NEVER)[np.searchsorted(self.times, closes - 1)]

    def first_covering(self, close: int) -> int | None:
        """The same for one; None if there is none."""
        position = int(self.covering(np.array([close], np.int64))[0])
        return None if position == _NEVER else position

    def reached(self, position: int) -> int:
        """Up to which end the watermark at ``position`` closes bars."""
        return int(self.times[np.searchsorted(self.positions, position)]) + 1


@dataclass(slots=True)
class Table:
    """Ticks sorted by symbol, in order within each."""

    code: Ints
    """Which symbol, as an index into the batch's."""
    position: Ints
    ticks: Columns

    def take(self, which: Ints | NDArray[np.bool_]) -> Table:
        """The ticks at ``which`` places, or where it is true."""
        return Table(self.code[which], self.position[which], self.ticks.take(which))


@dataclass(slots=True)
class _Groups:
    """Bars of one timeframe that this batch's ticks make, sorted by symbol and time."""

    code: Ints
    ts_open: Ints
    first: Ints
    """Indices of the ticks that came first and last, among those that make bars."""
    last: Ints
    high: Floats
    low: Floats
    ask_high: Floats
    ask_low: Floats
    spread: Ints
    volume: Ints
    count: Ints

    def merged(self, starts: Ints, ts_open: Ints) -> _Groups:
        """Longer bars of whole groups."""
        return _Groups(
            self.code[starts],
            ts_open[starts],
            self.first[starts],
            self.last[np.append(starts[1:], len(self.code)) - 1],
            np.maximum.reduceat(self.high, starts),
            np.minimum.reduceat(self.low, starts),
            np.maximum.reduceat(self.ask_high, starts),
            np.minimum.reduceat(self.ask_low, starts),
            np.minimum.reduceat(self.spread, starts),
            np.add.reduceat(self.volume, starts),
            np.add.reduceat(self.count, starts),
        )


def among(code: Ints, codes: Sequence[int]) -> NDArray[np.bool_]:
    """Which of them are one of ``codes``; all are at least 0."""
    table = np.zeros(int(max(code.max(initial=0), *codes, 0)) + 1, np.bool_)
    table[codes] = True
    found: NDArray[np.bool_] = table[code]
    return found


def fold(work: Work, clean: Table, series: dict[int, Series], by_shard: dict[str, Ends]) -> None:
    """Clean ticks into the bars of ``series`` (by code); close those that have ended."""
    closing = _Closing(clean, series, by_shard)
    makers = _Makers(clean, series)
    if work.timed:
        base = makers.groups(base_of(work.timed))
        for timeframe in work.timed:
            _time(_Folding(work, timeframe, series, closing), base, makers)
    for measure in work.counted:
        _count(_Folding(work, measure.name, series, closing), measure, makers)


def _time(folding: _Folding, base: _Groups, makers: _Makers) -> None:
    """Fold the bars of one timeframe."""
    groups, closes = makers.of(folding.timeframe, base)
    folding.close_old(groups)
    if len(groups.code):
        folding.settle(groups, closes, folding.closing.positions(groups.code, closes), makers)


def _count(folding: _Folding, measure: Measure, makers: _Makers) -> None:
    """Fold the bars of one measure."""
    pieces = Pieces.of(measure, folding.series, makers.code, makers.ticks.ts, makers.weights(measure))
    groups = makers.singles(makers.ticks.ts)
    if len(groups.code):
        starts, ts_open = np.array(pieces.starts, np.int64), np.empty_like(groups.ts_open)
        ts_open[starts] = pieces.ts_open
        groups = groups.merged(starts, ts_open)
    folding.close_old(groups)
    if len(groups.code):
        closes, full = np.array(pieces.closes, np.int64), np.array(pieces.full, np.bool_)
        positions = np.where(full, makers.position[groups.last], folding.closing.positions(groups.code, closes))
        folding.settle(groups, closes, positions, makers, repeat(0), pieces.days, pieces.numbers)
    pieces.keep(folding.timeframe, folding.series)


class _Closing:
    """Which record closes a bar."""

    def __init__(self, clean: Table, series: dict[int, Series], by_shard: dict[str, Ends]) -> None:
        self._keys = (clean.code << _TIME_BITS) + clean.ticks.ts
        self._code = np.append(clean.code, -1)
        self._position = np.append(clean.position, _NEVER)
        codes: dict[str, list[int]] = {}
        for code, one in series.items():
            if one.terms:
                codes.setdefault(one.terms.shard, []).append(code)
        self._ends = [
            (by_shard[shard], items)
            for shard, items in codes.items()
            if shard in by_shard and len(by_shard[shard].positions)
        ]

    def positions(self, code: Ints, closes: Ints) -> Ints:
        """Where the record stands that closes a bar of each symbol ending then; _NEVER if none does."""
        at = np.searchsorted(self._keys, (code << _TIME_BITS) + closes)
        found: Ints = np.where(self._code[at] == code, self._position[at], _NEVER)
        for ends, codes in self._ends:
            of_shard = among(code, codes)
            found[of_shard] = np.minimum(found[of_shard], ends.covering(closes[of_shard]))
        return found


class _Makers:
    """The ticks that make bars, and their groups."""

    def __init__(self, clean: Table, series: dict[int, Series]) -> None:
        size = max(series, default=-1) + 1
        by_last, point = np.zeros(size, np.bool_), np.ones(size)
        self._zones: dict[ServerZone, list[int]] = {}
        for key, one in series.items():
            if one.terms:
                by_last[key], point[key] = one.terms.last, one.terms.point
                self._zones.setdefault(one.terms.zone, []).append(key)
        lasts = by_last[clean.code]
        if lasts.any():
            makes = ~lasts | (clean.ticks.flags & FLAG_LAST != 0)
            clean, lasts = clean.take(makes), lasts[makes]
        ticks = clean.ticks
        self.code, self.position, self.ticks = clean.code, clean.position, ticks
        self.price = np.where(lasts, ticks.last, ticks.bid) if lasts.any() else ticks.bid
        self.ask = ticks.ask + 0.0  # -0.0 becomes 0.0, as in the plain loop
        self._counts = (lasts | (ticks.flags & FLAG_BID != 0)).astype(np.int64)
        self._spread = spreads_of(point[clean.code], ticks)
        self.volume = np.where(ticks.flags & (FLAG_LAST | FLAG_VOLUME) != 0, ticks.volume, 0.0)
        self.trades = bool(self.volume.any())
        self._lasts = lasts

    def groups(self, timeframe: str) -> _Groups:
        """The timeframe's groups."""
        ts_open, _ = self._bounds(timeframe, self.code, self.ticks.ts)
        singles = self.singles(ts_open)
        return singles.merged(_changes(self.code, ts_open), ts_open) if len(self.code) else singles

    def singles(self, ts_open: Ints) -> _Groups:
        """Every tick as a group of its own."""
        count = len(self.code)
        return _Groups(
            self.code,
            ts_open,
            np.arange(count),
            np.arange(count),
            self.price,
            self.price,
            self.ask,
            self.ask,
            self._spread,
            self._counts,
            np.ones(count, np.int64),
        )

    def weights(self, measure: Measure) -> Floats:
        """What each tick brings a count bar nearer to being full."""
        if measure.counted == Counted.TICKS:
            return np.ones(len(self.code))
        amount = np.where(self._lasts, self.volume + 0.0, self._counts)
        return amount if measure.counted == Counted.VOLUME else self.price * amount

    def of(self, timeframe: str, base: _Groups) -> tuple[_Groups, Ints]:
        """The timeframe's groups and the ends of their bars."""
        ts_open, ts_close = self._bounds(timeframe, base.code, base.ts_open)
        if not len(ts_open):
            return base, ts_close
        starts = _changes(base.code, ts_open)
        return base.merged(starts, ts_open), ts_close[starts]

    def _bounds(self, timeframe: str, code: Ints, ts: Ints) -> tuple[Ints, Ints]:
        if len(self._zones) == 1:
            return bounds(timeframe, ts, next(iter(self._zones)))
        opens, closes = np.empty_like(ts), np.empty_like(ts)
        for zone, codes in self._zones.items():
            which = among(code, codes)
            opens[which], closes[which] = bounds(timeframe, ts[which], zone)
        return opens, closes


@dataclass(frozen=True, slots=True)
class _Folding:
    """Bars of one timeframe."""

    work: Work
    timeframe: str
    series: dict[int, Series]
    closing: _Closing

    def close_old(self, groups: _Groups) -> None:
        """Close open bars that this batch's ticks do not continue, if something closes them."""
        firsts = dict(zip(groups.code[::-1].tolist(), groups.ts_open[::-1].tolist(), strict=True))
        old = [
            (code, one, bar)
            for code, one in self.series.items()
            if (bar := one.bars.get(self.timeframe)) is not None and firsts.get(code) != bar.ts_open
        ]
        codes = np.array([code for code, _, _ in old], np.int64)
        positions = self.closing.positions(codes, np.array([bar.ts_close for _, _, bar in old], np.int64))
        for (_, one, bar), position in zip(old, positions.tolist(), strict=True):
            if position != _NEVER:
                del one.bars[self.timeframe]
                self._close(one, bar, position)

    def settle(
        self, groups: _Groups, closes: Ints, positions: Ints, makers: _Makers, *more: Iterable[int | None]
    ) -> None:
        """Join the groups with the bars that were open, close what has ended and keep the rest.

        ``positions`` are those of the records that close them, ``more`` further fields of the bars, from revision on.
        """
        firsts = np.flatnonzero(np.append(True, groups.code[1:] != groups.code[:-1])).tolist()
        before = {
            at: bar
            for at in firsts
            if (bar := self.series[int(groups.code[at])].bars.pop(self.timeframe, None)) is not None
        }
        bars = self._bars(groups, closes, makers, _real_volume(groups, makers, before), more)
        for at, ((code, bar), position) in enumerate(zip(bars, positions.tolist(), strict=True)):
            joined = _joined(before[at], bar) if at in before else bar
            if position == _NEVER:
                self.series[code].bars[self.timeframe] = joined
            else:
                self._close(self.series[code], joined, position)

    def _bars(
        self, groups: _Groups, closes: Ints, makers: _Makers, real: Floats, more: Iterable[Iterable[Any]]
    ) -> Iterator[tuple[int, OpenBar]]:
        """Each group as a bar, with its symbol's code."""
        first, last, ticks = groups.first, groups.last, makers.ticks
        offsets = self.work.offsets
        hashes = {code: one.terms.hash if one.terms else "" for code, one in self.series.items()}
        identities = (
            zip(ticks.ts[which].tolist(), ticks.ordinal[which].tolist(), strict=True) for which in (first, last)
        )
        codes = groups.code.tolist()
        return zip(
            codes,
            map(
                OpenBar,
                groups.ts_open.tolist(),
                closes.tolist(),
                makers.price[first].tolist(),
                groups.high.tolist(),
                groups.low.tolist(),
                makers.price[last].tolist(),
                makers.ask[first].tolist(),
                groups.ask_high.tolist(),
                groups.ask_low.tolist(),
                makers.ask[last].tolist(),
                groups.volume.tolist(),
                real.tolist(),
                groups.spread.tolist(),
                groups.count.tolist(),
                *identities,
                map(hashes.__getitem__, codes),
                offsets[makers.position[first]].tolist(),
                offsets[makers.position[last]].tolist(),
                *more,
            ),
            strict=True,
        )

    def _close(self, series: Series, bar: OpenBar, position: int) -> None:
        if count := series.counts.get(self.timeframe):
            count.next(bar.ts_close)
        self.work.close(series, self.timeframe, bar, position)
        self.work.touch(series.symbol, position)


def _joined(bar: OpenBar, more: OpenBar) -> OpenBar:
    """``bar`` with the later ticks of ``more``, whose real volume already holds both."""
    more.open, more.ask_open, more.first = bar.open, bar.ask_open, bar.first
    more.high, more.low = max(bar.high, more.high), min(bar.low, more.low)
    more.ask_high, more.ask_low = max(bar.ask_high, more.ask_high), min(bar.ask_low, more.ask_low)
    more.tick_volume += bar.tick_volume
    more.spread = min(bar.spread, more.spread)
    more.tick_count += bar.tick_count
    more.rules, more.first_offset = bar.rules, bar.first_offset
    return more


def _real_volume(groups: _Groups, makers: _Makers, open_before: dict[int, OpenBar]) -> Floats:
    """Each bar's volume, added tick by tick in order: sums of floats depend on it."""
    total = np.zeros(len(groups.code))
    for at, bar in open_before.items():
        total[at] = bar.real_volume
    if makers.trades:
        sizes = np.append(groups.first[1:], len(makers.code)) - groups.first
        np.add.at(total, np.repeat(np.arange(len(sizes)), sizes), makers.volume)
    return total


def _changes(code: Ints, ts_open: Ints) -> Ints:
    """Where a new bar begins."""
    starts: Ints = np.flatnonzero(np.append(True, (code[1:] != code[:-1]) | (ts_open[1:] != ts_open[:-1])))
    return starts
