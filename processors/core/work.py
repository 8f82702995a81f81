"""One batch in progress: copies of the series it touches, and what it has given so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.market.counts import Measure
from processors.core.kept import Kept
from processors.core.series import OpenBar, Series
from processors.core.state import State
from processors.core.types import ClosedBar, Outcome, Reason, Rules
from schemas.errors import ArbitrexError
from schemas.records import Control, EventKind, FeedEvent, LiveBars, SymbolSpec

Mark = tuple[int, str, int]
"""A watermark: position in the batch, shard, time."""


@dataclass(slots=True)
class Work:
    """What both ways of working, plain and columnar, write to; positions are the records' in the batch."""

    state: State
    rules: Rules
    offsets: NDArray[np.int64]
    """Every record's, in the source partition."""
    timed: tuple[str, ...] = field(init=False)
    """The timeframes, shortest first."""
    counted: tuple[Measure, ...] = field(init=False)
    """The tick, volume and value bars."""
    series: dict[str, Series] = field(init=False)
    marks: dict[str, int] = field(init=False)
    """Every shard's watermark, before the section of the batch that is worked through."""
    clean: list[int] = field(default_factory=list)
    rejected: list[tuple[int, int]] = field(default_factory=list)
    """With their reasons."""
    columns: list[tuple[NDArray[np.int64], NDArray[np.int8]]] = field(default_factory=list)
    """Further ticks by column, with their reasons; 0: clean."""
    repeats: int = 0
    dead: list[tuple[int, ArbitrexError]] = field(default_factory=list)
    closed: list[tuple[tuple[int, str, int, int, int], ClosedBar]] = field(default_factory=list)
    specs: list[tuple[int, SymbolSpec]] = field(default_factory=list)
    events: list[tuple[int, FeedEvent]] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    _own: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.timed, self.counted = self.rules.timed, self.rules.counted
        self.series = dict(self.state.series)
        self.marks = dict(self.state.watermarks)

    def own(self, symbol: str, feed: str) -> Series:
        """The symbol's series to change; new if there is none."""
        if symbol not in self._own:
            known = self.series.get(symbol) or Series(symbol, feed)
            self.series[symbol] = known.copy(self.rules)
            if self.counted and known.terms is None and known.kept is None:
                self.series[symbol].kept = Kept.nothing()  # without a spec no tick has made a bar so far
            self._own.add(symbol)
        return self.series[symbol]

    def touch(self, symbol: str, position: int) -> None:
        """The record at ``position`` changed the symbol's state."""
        self.changed[symbol] = max(position, self.changed.get(symbol, position))

    def close(self, series: Series, timeframe: str, bar: OpenBar, position: int) -> None:
        """The record at ``position`` closes the bar: publish it, unless it began before coverage."""
        if series.complete(timeframe, bar.begin):
            self.publish(series, timeframe, bar, position)

    def publish(self, series: Series, timeframe: str, bar: OpenBar, position: int) -> None:
        """The record at ``position`` made the closed bar what it is."""
        record = series.record(timeframe, bar)
        place = (position, series.symbol, self.rules.timeframes.index(timeframe), bar.begin, bar.number)
        self.closed.append((place, ClosedBar(record, bar.first_offset, bar.last_offset, int(self.offsets[position]))))
        if series.closed is not None:
            series.closed.setdefault(timeframe, {})[bar.place] = bar

    def find_loss(self, series: Series, until: int, position: int) -> None:
        """The record at ``position`` says up to where ticks of the series may have been lost: a gap from now on."""
        start = series.lost_from
        if start is None or until <= start:
            return
        series.gaps |= {(start, until)}
        series.lost_from = None
        event = FeedEvent(
            time=until,
            kind=EventKind.GAP,
            feed=series.feed,
            shard=series.spec.shard if series.spec else "",
            symbol=series.symbol,
            from_=start,
            to=until,
            text=f"{(until - start) / 1_000:g} s were lost to retention before they were processed",
        )
        self.events.append((position, event))
        self.touch(series.symbol, position)

    def event(self, position: int, kind: EventKind, control: Control, symbol: str, text: str) -> None:
        """Note what a control said of a series."""
        self.events.append(
            (
                position,
                FeedEvent(
                    time=control.time,
                    kind=kind,
                    feed=control.feed,
                    shard=control.shard,
                    symbol=symbol,
                    from_=control.from_,
                    to=control.to,
                    text=text,
                ),
            )
        )

    def pass_marks(self, marks: Sequence[Mark]) -> None:
        """The watermarks of a section, once it is done."""
        for _, shard, time in marks:
            self.marks[shard] = max(time, self.marks.get(shard, time))

    def finish(self) -> tuple[Outcome, State]:
        """All of it in order, and the state after it."""
        for symbol in self.changed:
            self.series[symbol].forget()
        ticks, reasons = self._filtered()
        passed = reasons == Reason.CLEAN
        outcome = Outcome(
            clean=ticks[passed],
            rejected=ticks[~passed],
            reasons=reasons[~passed],
            repeats=self.repeats,
            dead=sorted(self.dead, key=_position),
            closed=[bar for _, bar in sorted(self.closed, key=_position)],
            live=[self._live(symbol) for symbol in sorted(self.changed)],
            specs=sorted(self.specs, key=_position),
            events=sorted(self.events, key=lambda item: (item[0], item[1].symbol or "")),
        )
        return outcome, State(self.series, self.marks)

    def _filtered(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """All clean and rejected ticks in order, with their reasons."""
        positions = [np.array(self.clean + [at for at, _ in self.rejected], np.int64)]
        reasons = [np.array([Reason.CLEAN] * len(self.clean) + [why for _, why in self.rejected], np.int8)]
        positions += (part for part, _ in self.columns)
        reasons += (part for _, part in self.columns)
        ticks = np.concatenate(positions)
        order = np.argsort(ticks, kind="stable")
        return ticks[order], np.concatenate(reasons)[order]

    def _live(self, symbol: str) -> tuple[LiveBars, int]:
        return self.series[symbol].live(), int(self.offsets[self.changed[symbol]])


def _position(item: tuple[Any, object]) -> Any:
    return item[0]
