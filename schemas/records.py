"""The records of the topics, typed. Times are integers: UTC epoch milliseconds unless a field says otherwise.

Field names are the Avro schemas' own; `Control.from_` and others of the name stand for ``from``, which Python
reserves.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(**options: Any) -> Any:
        """The real one, but what is frozen is so for mypy alone: at run time that makes records twice as dear."""
        return dataclasses.dataclass(**options | {"frozen": False, "unsafe_hash": True})


class ControlKind(StrEnum):
    UNKNOWN = "unknown"
    WATERMARK = "watermark"
    COVERAGE = "coverage"
    GAP = "gap"
    SYMBOL_SPEC = "symbol_spec"
    RETIRED = "retired"


class ChartMode(StrEnum):
    BID = "bid"
    LAST = "last"


class CrossedPolicy(StrEnum):
    REJECT = "reject"
    KEEP = "keep"


class BarStatus(StrEnum):
    UNKNOWN = "unknown"
    FINAL = "final"
    PARTIAL = "partial"
    REVISED = "revised"


class EventKind(StrEnum):
    UNKNOWN = "unknown"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CLOCK = "clock"
    COVERAGE = "coverage"
    GAP = "gap"
    SYMBOL_SPEC = "symbol_spec"
    CORRECTION = "correction"
    RETENTION_LOSS = "retention_loss"
    RETIRED = "retired"
    HISTORY = "history"
    """A span of the past was taken in: an import's or backfill's day, or a terminal's bars."""
    SPOOL = "spool"
    """Ticks wait on the producer's disk for Kafka, nearly as many as may, or more than may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One quote or trade. Identity: (feed, symbol, ts_event, ordinal)."""

    symbol: str
    ts_event: int
    ordinal: int
    bid: float
    ask: float
    last: float = 0.0
    volume: float = 0.0
    flags: int
    feed: str
    server_time: int
    """The broker server's wall clock as it came, in milliseconds; not UTC."""
    ts_recv: int
    """UTC epoch microseconds."""
    correction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolSpec:
    """What a series needs to be checked and aggregated."""

    symbol: str
    feed: str
    shard: str
    broker_name: str
    digits: int
    point: float
    chart_mode: ChartMode = ChartMode.BID
    zone: str = "UTC"
    crossed: CrossedPolicy = CrossedPolicy.REJECT
    calendar: str = ""
    """The market calendar's whole definition, JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a bar depends on beside its ticks."""

    kind: ControlKind
    feed: str
    shard: str
    symbol: str | None = None
    time: int
    from_: int | None = None
    to: int | None = None
    spec: SymbolSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar over [ts_open, ts_close); key in its topic: ``symbol|timeframe|ts_open``.

    Tick, volume and value bars (``T:1000``, ``V:500``, ``N:1000000``) have a day and a number in it, which end the key:
    ``symbol|timeframe|day.number``. Such a bar opens where the one before ended and closes after the tick that filled
    it; the first opens and the last closes at the server's midnight.
    """

    symbol: str
    feed: str
    timeframe: str
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
    """The least of the bar, in points."""
    status: BarStatus
    """``revised`` if, and only if, the revision is not 0."""
    revision: int = 0
    """0 for what was known when the interval ended, a bar or that there is none; one more with each correction."""
    feed_gap_ms: int = 0
    tick_count: int
    first_tick_ts: int
    first_tick_ordinal: int
    last_tick_ts: int
    last_tick_ordinal: int
    rules: str
    day: int | None = None
    """The server's midnight from which tick, volume and value bars are counted; none: a timeframe's bar."""
    number: int = 0
    """Which bar of that day, from 0."""

    @property
    def key(self) -> str:
        """The record key of this bar in ``bars``."""
        place = self.ts_open if self.day is None else f"{self.day}.{self.number}"
        return f"{self.symbol}|{self.timeframe}|{place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Ticks in [from_, to) are lost for good; one at ``from_`` itself may be the last that is not."""

    from_: int
    to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TickId:
    """A tick's identity within its series."""

    ts: int
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetRange:
    """First and last source offset of the records that made a bar."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeframeStart:
    """The timeframe is made since event time ``from_``; 0: since the series' first tick."""

    timeframe: str
    from_: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountState:
    """Where the tick, volume or value bars of a name stand in their day."""

    timeframe: str
    day: int
    to: int
    """The day's end."""
    number: int
    """Of the open bar, or the next one."""
    since: int
    """Where the bar before ended."""
    sum: float
    """What the open bar's ticks sum up to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBars:
    """A symbol's open bars in all timeframes, and the aggregator's state for it."""

    symbol: str
    feed: str
    last_ts: int
    last_ordinal: int
    coverage_from: int | None = None
    gaps: tuple[Gap, ...] = ()
    spec: SymbolSpec | None = None
    bars: tuple[Bar, ...] = ()
    corrections: tuple[TickId, ...] = ()
    offsets: tuple[OffsetRange, ...] = ()
    """Of each of the bars, in their order."""
    timeframes: tuple[TimeframeStart, ...] = ()
    zone_from: int | None = None
    """Since when the spec's zone holds, if the series had another before."""
    future: TickId | None = None
    """The highest identity rejected as from the future."""
    published_from: int = 0
    """Bars that opened before may have closed unpublished, not being known to be covered."""
    lost_from: int | None = None
    """Ticks from then on were lost to retention; the series' next tick, or its shard's watermark, says up to where."""
    counts: tuple[CountState, ...] = ()
    rules_from: int | None = None
    """Since when the present rules hold, if the series had others before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Every tick of the shard (``feed/shard``) up to and including ``time`` has been published."""

    shard: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a partition's processor stands."""

    next_offset: int
    watermarks: tuple[Watermark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How often a tick was already published at a cursor's last millisecond."""

    bid: float
    ask: float
    last: float
    volume_real: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a shard goes on with one series."""

    feed: str
    shard: str
    symbol: str
    last_msc: int
    """Server time of the last published tick in milliseconds; not UTC."""
    seen: tuple[Seen, ...] = ()
    reread_from: int | None = None
    """Ticks from here on (UTC ms) are to be looked at again, as some may have come late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEvent:
    """One line of the feed's ledger."""

    time: int
    kind: EventKind
    feed: str
    shard: str
    symbol: str | None = None
    from_: int | None = None
    to: int | None = None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What one partition of a world's ``ticks.raw`` is a replay of, and how far it is written."""

    source: str
    """The topic it is read from."""
    asked: str
    """Range and symbols as they were asked for."""
    symbols: tuple[str, ...] = ()
    """Names or patterns; none: all."""
    partition: int
    first: int
    """The source offset where it begins."""
    end: int
    """The source offset before which it ends."""
    from_: int | None = None
    """Earlier records do not belong to it."""
    to: int | None = None
    """Records from here on do not belong to it."""
    controls: tuple[Control, ...] = ()
    """What was in force at its start, written first."""
    uncertain: tuple[Control, ...] = ()
    """Coverage that begins after the series' first tick: what was before it is gone from the source."""
    next_offset: int
    """The source offset to be read next."""
    written: int = 0
    """Records written when ``next_offset`` is the next to be read."""
    said: tuple[str, ...] = ()
    """Symbols and shards of which the replay has said itself what it says once."""
    complete: bool = False


Record = Tick | Control | Bar | LiveBars | SymbolSpec | FeedEvent | Cursor | Progress | Replay
