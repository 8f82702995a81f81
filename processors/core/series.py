"""One symbol's state: its highest identity, spec, coverage, gaps and open bars."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from infra.market.timeframes import TIMEFRAMES, bounds, longest_ms
from processors.core.terms import Terms, terms_of
from processors.core.types import Rules
from schemas.records import (
    Bar,
    BarStatus,
    Gap,
    LiveBars,
    OffsetRange,
    SymbolSpec,
    TickId,
    TimeframeStart,
)

DAY_MS: Final = 86_400_000

Identity = tuple[int, int]
"""ts_event and ordinal."""


@dataclass(slots=True)
class OpenBar:
    """A bar in the making; fields as in `schemas.records.Bar`."""

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
        )


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
    corrections: set[Identity] = field(default_factory=set)
    """Those seen of the last day."""
    since: dict[str, int] = field(default_factory=dict)
    """From when on each timeframe is made: the series' start, or the moment a setting added it."""
    bars: dict[str, OpenBar] = field(default_factory=dict)

    def copy(self, rules: Rules) -> Series:
        """A copy to change, with the timeframes of the present rules."""
        twin = copy.copy(self)
        twin.corrections = set(self.corrections)
        start = 0 if self.last < (0, 0) else self.last[0] + 1
        twin.since = {name: self.since.get(name, start) for name in rules.timeframes}
        twin.bars = {name: self.bars[name].copy() for name in rules.timeframes if name in self.bars}
        return twin

    def complete(self, timeframe: str, ts_open: int) -> bool:
        """Whether every tick since the bar began was there to make it, gaps apart: only then it goes to ``bars``."""
        return self.coverage_from is not None and ts_open >= max(self.coverage_from, self.since[timeframe])

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
        whole = not gap_ms and self.complete(timeframe, bar.ts_open) and bar.ts_open >= (self.zone_from or 0)
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
            status=BarStatus.FINAL if whole else BarStatus.PARTIAL,
            feed_gap_ms=gap_ms,
            tick_count=bar.tick_count,
            first_tick_ts=bar.first[0],
            first_tick_ordinal=bar.first[1],
            last_tick_ts=bar.last[0],
            last_tick_ordinal=bar.last[1],
            rules=bar.rules,
        )

    def bounds(self, timeframe: str, ts: int) -> Identity:
        """Opening and close of the bar that ``ts`` belongs to by the present zone."""
        opens, closes = bounds(timeframe, np.array([ts], np.int64), self._known().zone)
        return int(opens[0]), int(closes[0])

    def forget(self) -> None:
        """Drop what can matter no more: corrections of a day ago, gaps that no bar can reach back to.

        What is dropped depends on the state alone, and once it can be dropped that stays so; therefore it makes no
        difference when this is called.
        """
        if self.corrections:
            self.corrections = {item for item in self.corrections if item[0] >= self.last[0] - DAY_MS}
        if self.gaps:
            reach = self.last[0] - DAY_MS - max(map(longest_ms, self.since), default=0)
            oldest = min((bar.ts_open for bar in self.bars.values()), default=self.last[0])
            self.gaps = frozenset(gap for gap in self.gaps if gap[1] > reach or gap[1] > oldest)

    def live(self) -> LiveBars:
        """The state as it is written; `series_of` reads it back."""
        bars = sorted(self.bars.items(), key=lambda item: TIMEFRAMES.index(item[0]))
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
                TimeframeStart(timeframe=name, from_=self.since[name])
                for name in sorted(self.since, key=TIMEFRAMES.index)
            ),
            zone_from=self.zone_from,
            future=TickId(ts=self.future[0], ordinal=self.future[1]) if self.future else None,
        )

    def _known(self) -> Terms:
        if self.terms is None:
            raise ValueError(f"{self.symbol} has no spec")
        return self.terms


def series_of(live: LiveBars, rules: Rules) -> Series:
    """The state that `Series.live` wrote. Raises DecodeError for a spec that cannot be worked with."""
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
        corrections={(item.ts, item.ordinal) for item in live.corrections},
        since={start.timeframe: start.from_ for start in live.timeframes},
        bars={bar.timeframe: _open(bar, offsets) for bar, offsets in zip(live.bars, live.offsets, strict=True)},
    )


def _open(bar: Bar, offsets: OffsetRange) -> OpenBar:
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
        offsets.first,
        offsets.last,
    )
