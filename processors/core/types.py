"""What goes into a step and what comes out of it.

    from processors.core.state import progress, restore
    from processors.core.step import step

    rules = Rules(settings.bars.timeframes, settings.processor.future_tolerance_ms)
    state = restore(live_bars_of_the_partition, its_progress_or_none, rules)
    outcome, state = step(state, batch, rules)
    progress(state, next_offset)  # the Progress record that goes with this state

``step(state, batch, rules) -> (Outcome, State)`` never changes the state it is given, so a batch on which it raises can
be cut in half and tried again from the same state. How a stream is cut into batches changes nothing but how often live
bars are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.market.counts import Measure, is_count, measure_of
from schemas.errors import ArbitrexError
from schemas.records import Bar, FeedEvent, LiveBars, Record, SymbolSpec


class Reason(IntEnum):
    """Why a tick was rejected; the first that applies, in the order of `processors.core.filter`."""

    CLEAN = 0
    MARKET_CLOSED = 1
    HOLIDAY = 2
    NOT_POSITIVE = 3
    CROSSED = 4
    TOO_LATE = 5
    FUTURE = 6
    NO_SPEC = 7

    @property
    def label(self) -> str:
        """As it stands in headers and metrics, ``market_closed`` for one."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a worker is set to; the rest of the rules come with each symbol's spec, in the log."""

    timeframes: tuple[str, ...]
    """MetaTrader's names, and those of tick, volume and value bars (`infra.market.counts`), in any order."""
    future_tolerance_ms: int = 60_000
    """How far a tick may lie ahead of its own receipt."""

    @property
    def timed(self) -> tuple[str, ...]:
        """The timeframes."""
        return tuple(name for name in self.timeframes if not is_count(name))

    @property
    def counted(self) -> tuple[Measure, ...]:
        """The tick, volume and value bars."""
        return tuple(measure_of(name) for name in self.timeframes if is_count(name))


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one partition of ``ticks.raw``, decoded (see `schemas.batch.Decoded`)."""

    frame: pl.DataFrame
    """The ticks: all fields of Tick, times as Int64, and the column ``index``, a record's position in the batch."""
    others: Sequence[tuple[int, Record]]
    """Records of other types, with their positions, in order."""
    bad: Sequence[tuple[int, ArbitrexError]]
    """Records that could not be decoded; they come out again among the dead letters."""
    keys: pl.Series | Sequence[bytes | None]
    """Every record's key."""
    timestamps: NDArray[np.int64] | Sequence[int]
    """Every record's timestamp, milliseconds."""
    offsets: NDArray[np.int64] | Sequence[int]
    """Every record's offset in the source partition, rising."""


@dataclass(frozen=True, slots=True)
class ClosedBar:
    """A bar for the topic ``bars``, and which source records it stands on (for its headers)."""

    bar: Bar
    first_offset: int
    """Of the first record that made it, as it lay in this world's ``ticks.raw``."""
    last_offset: int
    """Of the last record that made it."""
    cause_offset: int
    """Of the record that closed it: its series' next tick, or a watermark. What readers dedupe and order by."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a batch gives, each in the order of the records that caused it."""

    clean: NDArray[np.int64]
    """Positions of the records that passed, rising: for ``ticks.clean``."""
    rejected: NDArray[np.int64]
    """Positions of the records that did not, rising: for ``ticks.rejected``."""
    reasons: NDArray[np.int8]
    """Their reasons, one each (`Reason`)."""
    repeats: int
    """Records that were there before: counted, written nowhere."""
    dead: list[tuple[int, ArbitrexError]] = field(default_factory=list)
    """Positions and errors, for ``dead.letters``; what was bad in the batch is among them."""
    closed: list[ClosedBar] = field(default_factory=list)
    """For ``bars``."""
    live: list[tuple[LiveBars, int]] = field(default_factory=list)
    """Every symbol whose state changed, by name, as it is after the batch, and the offset of the last record that
    changed it: for ``bars.live``, which is the state. Record time: `LiveBars.last_ts`."""
    specs: list[tuple[int, SymbolSpec]] = field(default_factory=list)
    """New or changed specs, with the position of their control: for ``symbols``."""
    events: list[tuple[int, FeedEvent]] = field(default_factory=list)
    """Coverage, gaps, retirements, spec changes and accepted corrections, with the position of their record: for
    ``feed.events``."""
