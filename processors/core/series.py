"""One symbol's state: its highest identity, spec, coverage, gaps, open bars and, where they are needed, closed ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from infra.market.counts import is_count, order_of
from infra.market.timeframes import bounds, longest_ms
from processors.core.kept import Kept
from processors.core.terms import Terms, terms_of
from processors.core.types import Rules
from schemas.errors import DecodeError
from schemas.records import (
    Bar,
    BarStatus,
    CountState,
    Gap,
    LiveBars,
    OffsetRange,
    SymbolSpec,
    TickId,
    TimeframeStart,
)

DAY_MS: Final = 86_400_000

COUNT_REACH_MS: Final = 3 * DAY_MS
"""No count bar that a correction can change closed longer ago: it may lie in the server day that began a day ago."""

Identity = tuple[int, int]
"""ts_event and ordinal."""
Place = int | Identity
"""Which bar of its name: when it opens; of count bars (tick, volume and value bars) the day and the number in it."""


@dataclass(slots=True)
class OpenBar:
    """A bar in the making, or one that a correction may change; fields as in `schemas.records.Bar`."""

    ts_open: int
    ts_close: int
    open: float
    high: float
    low: float
    close: float
    ask_open: float
    ask_high: float
    ask_low: float
    ask_close: float
    tick_volume: int
    real_volume: float
    spread: int
    tick_count: int
    first: Identity
    last: Identity
    rules: str
    """Of the spec under which it opened: a change of spec closes nothing."""
    first_offset: int
    last_offset: int
    revision: int = 0
    """How often it was published before."""
    day: int | None = None
    number: int = 0

    @property
    def begin(self) -> int:
        """Since when all ticks must have been there for it to be complete."""
        return self.ts_open if self.day is None else self.day

    @property
    def place(self) -> Place:
        """Which bar of its name it is."""
        return self.ts_open if self.day is None else (self.day, self.number)

    def copy(self) -> OpenBar:
        """A copy to change; spelled out, since `copy.copy` takes ten times as long."""
        return OpenBar(
            self.ts_open,
            self.ts_close,
            self.open,
            self.high,
            self.low,
            self.close,
            self.ask_open,
            self.ask_high,
            self.ask_low,
            self.ask_close,
            self.tick_volume,
            self.real_volume,
            self.spread,
            self.tick_count,
            self.first,
            self.last,
            self.rules,
            self.first_offset,
            self.last_offset,
            self.revision,
            self.day,
            self.number,
        )


@dataclass(slots=True)
class Count:
    """Where the count bars of a name stand in their server day; fields as in `schemas.records.CountState`."""

    day: int
    to: int
    number: int = 0
    since: int = 0
    sum: float = 0.0

    def copy(self) -> Count:
        """A copy to change."""
        return Count(self.day, self.to, self.number, self.since, self.sum)

    def next(self, ts_close: int) -> None:
        """The open bar is full."""
        self.number, self.since, self.sum = self.number + 1, ts_close, 0.0


@dataclass(slots=True)
class Series:
    """What is known of a symbol; changed in place only by the step that copied it."""

    symbol: str
    feed: str
    last: Identity = (0, -1)
    """The highest identity that came, clean or rejected, unless it came from the future."""
    future: Identity | None = None
    """The highest identity rejected as from the future. It is kept apart: one tick with a wrong clock must not make
    repeats of all that follow."""
    coverage_from: int | None = None
    gaps: frozenset[Identity] = frozenset()
    spec: SymbolSpec | None = None
    terms: Terms | None = None
    zone_from: int | None = None
    """Since when the spec's zone holds, if there was another: a bar that began before lacks what an old one took."""
    published_from: int = 0
    """Bars that opened before may have closed when they were not yet known to be covered, and so be in no topic."""
    lost_from: int | None = None
    """Ticks from here on were lost before they were processed, until the next record that says how far."""
    corrections: set[Identity] = field(default_factory=set)
    """Those seen of the last day."""
    since: dict[str, int] = field(default_factory=dict)
    """From when on each timeframe is made: the series' start, or the moment a setting added it."""
    bars: dict[str, OpenBar] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)
    """Where the count bars of a day in progress stand."""
    rules_from: int | None = None
    """Since when the present rules hold, if there were others: a day that began before is not cut anew."""
    closed: dict[str, dict[Place, OpenBar]] | None = field(default_factory=dict)
    """The published bars that closed in the last day (count bars: `COUNT_REACH_MS`), by timeframe and place, the bars
    never changed in place; none: not at hand (`processors.core.recall`)."""
    kept: Kept | None = None
    """The ticks that made bars lately, of which a correction cuts count bars anew; none: not at hand."""

    def copy(self, rules: Rules) -> Series:
        """A copy to change, with the timeframes of the present rules."""
        twin = copy.copy(self)
        twin.corrections = set(self.corrections)
        start = 0 if self.last < (0, 0) else self.last[0] + 1
        twin.since = {name: self.since.get(name, start) for name in rules.timeframes}
        twin.bars = {name: self.bars[name].copy() for name in rules.timeframes if name in self.bars}
        twin.counts = {name: self.counts[name].copy() for name in rules.timeframes if name in self.counts}
        twin.kept = self.kept.copy() if self.kept else None
        if self.closed is not None:
            twin.closed = {name: dict(bars) for name, bars in self.closed.items()}
        return twin

    def complete(self, timeframe: str, ts_open: int) -> bool:
        """Whether every tick since the bar began was there to make it, gaps apart: only then it goes to ``bars``."""
        return self.coverage_from is not None and ts_open >= max(self.coverage_from, self.since[timeframe])

    def closed_bar(self, timeframe: str, ts: int) -> OpenBar | None:
        """The published bar that took, or would have taken, a tick of that time. Only if those are at hand."""
        if self.closed is None:
            raise ValueError(f"the closed bars of {self.symbol} are not at hand")
        bars = self.closed.get(timeframe, {})
        if self.zone_from is None:
            return bars.get(self.bounds(timeframe, ts)[0])
        holding = [bar for bar in bars.values() if bar.ts_open <= ts < bar.ts_close]  # of two zones, maybe
        return min(holding, key=lambda bar: bar.ts_open, default=None)

    def is_known_empty(self, timeframe: str, ts_open: int) -> bool:
        """Whether a closed bar that was not published had no tick: not so if it was only not known to be covered."""
        return self.complete(timeframe, ts_open) and ts_open >= max(self.published_from, self.zone_from or 0)

    def lose(self, mark: int) -> None:
        """Ticks after the highest identity, and after the shard's watermark ``mark``, were lost."""
        if self.lost_from is None and self.coverage_from is not None:
            self.lost_from = max(self.last[0], self.coverage_from, mark + 1)

    def gap_ms(self, ts_open: int, ts_close: int) -> int:
        """How much of the span lies in gaps."""
        total, reached = 0, ts_open
        for start, end in sorted(self.gaps):
            start, end = max(start, reached), min(end, ts_close)  # noqa: PLW2901 - cut to what is new
            if start < end:
                total, reached = total + end - start, end
        return total

    def record(self, timeframe: str, bar: OpenBar) -> Bar:
        """The bar as it would be if it closed now."""
        gap_ms = self.gap_ms(bar.ts_open, bar.ts_close) if self.gaps else 0
        whole = not gap_ms and self.complete(timeframe, bar.begin) and bar.begin >= (self.zone_from or 0)
        whole = whole and (self.lost_from is None or bar.ts_close <= self.lost_from)
        usual = BarStatus.FINAL if whole else BarStatus.PARTIAL
        return Bar(
            symbol=self.symbol,
            feed=self.feed,
            timeframe=timeframe,
            ts_open=bar.ts_open,
            ts_close=bar.ts_close,
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            ask_open=bar.ask_open,
            ask_high=bar.ask_high,
            ask_low=bar.ask_low,
            ask_close=bar.ask_close,
            tick_volume=bar.tick_volume,
            real_volume=bar.real_volume,
            spread=bar.spread,
            status=BarStatus.REVISED if bar.revision else usual,
            revision=bar.revision,
            feed_gap_ms=gap_ms,
            tick_count=bar.tick_count,
            first_tick_ts=bar.first[0],
            first_tick_ordinal=bar.first[1],
            last_tick_ts=bar.last[0],
            last_tick_ordinal=bar.last[1],
            rules=bar.rules,
            day=bar.day,
            number=bar.number,
        )

    def day(self, ts: int) -> Identity:
        """The server day that ``ts`` belongs to by the present zone."""
        return self.bounds("D1", ts)

    def bounds(self, timeframe: str, ts: int) -> Identity:
        """Opening and close of the bar that ``ts`` belongs to by the present zone."""
        opens, closes = bounds(timeframe, np.array([ts], np.int64), self._known().zone)
        return int(opens[0]), int(closes[0])

    def forget(self) -> None:
        """Drop what can matter no more: corrections and closed bars of a day ago, gaps that no bar can reach back to.

        What is dropped depends on the state alone, and once it can be dropped that stays so; therefore it makes no
        difference when this is called.
        """
        if self.corrections:
            self.corrections = {item for item in self.corrections if item[0] >= self.last[0] - DAY_MS}
        if self.gaps:
            reach = self.last[0] - DAY_MS - max(map(longest_ms, self.since), default=0)
            oldest = min((bar.ts_open for bar in self.bars.values()), default=self.last[0])
            self.gaps = frozenset(gap for gap in self.gaps if gap[1] > reach or gap[1] > oldest)
        for name, bars in (self.closed or {}).items():
            gone = self.last[0] - (COUNT_REACH_MS if is_count(name) else DAY_MS)
            while bars and (first := next(iter(bars.values()))).ts_close <= gone:
                del bars[first.place]

    def live(self) -> LiveBars:
        """The state as it is written; `series_of` reads it back."""
        bars = sorted(self.bars.items(), key=lambda item: order_of(item[0]))
        return LiveBars(
            symbol=self.symbol,
            feed=self.feed,
            last_ts=self.last[0],
            last_ordinal=self.last[1],
            coverage_from=self.coverage_from,
            gaps=tuple(Gap(from_=start, to=end) for start, end in sorted(self.gaps)),
            spec=self.spec,
            bars=tuple(self.record(name, bar) for name, bar in bars),
            corrections=tuple(TickId(ts=ts, ordinal=ordinal) for ts, ordinal in sorted(self.corrections)),
            offsets=tuple(OffsetRange(first=bar.first_offset, last=bar.last_offset) for _, bar in bars),
            timeframes=tuple(
                TimeframeStart(timeframe=name, from_=self.since[name]) for name in sorted(self.since, key=order_of)
            ),
            zone_from=self.zone_from,
            future=TickId(ts=self.future[0], ordinal=self.future[1]) if self.future else None,
            published_from=self.published_from,
            lost_from=self.lost_from,
            counts=tuple(
                CountState(timeframe=name, day=one.day, to=one.to, number=one.number, since=one.since, sum=one.sum)
                for name, one in sorted(self.counts.items(), key=lambda item: order_of(item[0]))
            ),
            rules_from=self.rules_from,
        )

    def _known(self) -> Terms:
        if self.terms is None:
            raise ValueError(f"{self.symbol} has no spec")
        return self.terms


def series_of(live: LiveBars, rules: Rules) -> Series:
    """The state that `Series.live` wrote, its closed bars not at hand.

    Raises DecodeError for one that it did not write: with a spec that cannot be worked with, or bars without offsets.
    """
    if len(live.bars) != len(live.offsets):
        raise DecodeError(f"{len(live.bars)} live bars of {live.symbol} with {len(live.offsets)} offsets")
    return Series(
        symbol=live.symbol,
        feed=live.feed,
        last=(live.last_ts, live.last_ordinal),
        future=(live.future.ts, live.future.ordinal) if live.future else None,
        coverage_from=live.coverage_from,
        gaps=frozenset((gap.from_, gap.to) for gap in live.gaps),
        spec=live.spec,
        terms=terms_of(live.spec, rules.future_tolerance_ms) if live.spec else None,
        zone_from=live.zone_from,
        published_from=live.published_from,
        lost_from=live.lost_from,
        corrections={(item.ts, item.ordinal) for item in live.corrections},
        since={start.timeframe: start.from_ for start in live.timeframes},
        bars={
            bar.timeframe: bar_of(bar, offsets.first, offsets.last)
            for bar, offsets in zip(live.bars, live.offsets, strict=True)
        },
        counts={one.timeframe: Count(one.day, one.to, one.number, one.since, one.sum) for one in live.counts},
        rules_from=live.rules_from,
        closed=None,
    )


def bar_of(bar: Bar, first_offset: int, last_offset: int) -> OpenBar:
    """The bar that `Series.record` wrote, and the source offsets of what made it."""
    return OpenBar(
        bar.ts_open,
        bar.ts_close,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.ask_open,
        bar.ask_high,
        bar.ask_low,
        bar.ask_close,
        bar.tick_volume,
        bar.real_volume,
        bar.spread,
        bar.tick_count,
        (bar.first_tick_ts, bar.first_tick_ordinal),
        (bar.last_tick_ts, bar.last_tick_ordinal),
        bar.rules,
        first_offset,
        last_offset,
        bar.revision,
        bar.day,
        bar.number,
    )
