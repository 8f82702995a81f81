"""What the market looks like now: the newest state of every channel, as the rows that clients get."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.cursor import Place
from gateway.patterns import ALL, is_pattern, matches
from gateway.protocol import BARS, CHANNELS, EVENTS, KEPT_ROWS, LIVE, TICKS, Stream
from schemas.codec import to_avro
from schemas.records import ChartMode, EventKind, FeedEvent, LiveBars, SymbolSpec

CLOSED_BARS: Final = KEPT_ROWS
"""Closed bars kept of every symbol and timeframe."""
_STATES: Final = {EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.RETIRED}

Row = dict[str, Any]
"""A record as clients see it: the fields of its Avro schema, times as integers."""
BarId = tuple[int, int]
"""Which bar of its series: when it opens (UTC ms) and 0, or of tick, volume and value bars the day and the number."""


class Placed(NamedTuple):
    """A closed bar and its place in the topic."""

    row: Row
    partition: int
    offset: int


@dataclass(slots=True)
class Update:
    """What one reading of the topics brought, in the order of each topic."""

    specs: list[SymbolSpec] = field(default_factory=list)
    ticks: dict[str, list[Row]] = field(default_factory=dict)
    bars: list[Placed] = field(default_factory=list)
    live: list[LiveBars] = field(default_factory=list)
    events: list[FeedEvent] = field(default_factory=list)
    places: dict[str, dict[int, Place]] = field(default_factory=dict)
    """By channel, where the partitions that were read now stand."""


class ClosedBars:
    """The bars of one series that arrived last, at most `CLOSED_BARS` of them."""

    def __init__(self, since: int) -> None:
        self.since = since
        """Every bar of the series at or after this offset is here; 0: every bar that the topic has."""
        self._bars: dict[BarId, Placed] = {}

    def add(self, bar: Placed) -> None:
        which = bar_id(bar.row)
        self._bars.pop(which, None)
        self._bars[which] = bar
        if len(self._bars) > CLOSED_BARS:
            oldest = self._bars.pop(next(iter(self._bars)))
            self.since = oldest.offset + 1

    def rows(self) -> list[Row]:
        """By time of opening."""
        return sorted((bar.row for bar in self._bars.values()), key=opening)


class Market:
    """The newest state. Used by one thread at a time."""

    def __init__(self) -> None:
        self.specs: dict[str, SymbolSpec] = {}
        self.ticks: dict[str, Row] = {}
        self.live: dict[str, dict[str, Row]] = {}
        self.closed: dict[tuple[str, str], ClosedBars] = {}
        self.events: deque[Row] = deque(maxlen=KEPT_ROWS)
        self.feeds: dict[tuple[str, str], Row] = {}
        """Whether each shard of each feed is connected, and since when, as its ledger says."""
        self.newest: dict[str, int | None] = dict.fromkeys(CHANNELS)
        """Time of the newest record by channel, UTC epoch milliseconds."""
        self.bars_since: dict[int, int] = {}
        """From which offset of each partition of the bars on the market knows them; 0: from the first one."""

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.specs or symbol in self.live or symbol in self.ticks

    def apply(self, update: Update) -> Iterator[tuple[Stream, list[Row]]]:
        """Take an update in, and give what is new by stream."""
        for spec in update.specs:
            self.specs[spec.symbol] = spec
        for rows in update.ticks.values():
            self._newest_tick(max(rows, key=_identity))
        for bar in update.bars:
            self._close(bar)
        for event in update.events:
            self._seen(EVENTS, event.time)
            self._feed(event)
        for stream, rows in parts_of(update):
            if stream.channel == EVENTS:
                self.events.extend(rows)
            yield stream, rows
        for state in update.live:
            yield from self._open(state)

    def take(self, update: Update) -> None:
        """Take an update in that nobody waits for."""
        for _ in self.apply(update):
            pass

    def snapshot(self, stream: Stream, most: int = KEPT_ROWS) -> list[Row]:
        """The state that updates of a stream build on; of bars and events the last ``most``, of each series."""
        symbol, timeframe = stream.symbol, stream.timeframe
        if stream.channel == EVENTS:
            wanted = [row for row in self.events if row["symbol"] is None or matches(symbol, row["symbol"])]
            return wanted[-most:]
        if stream.channel == TICKS:
            return list(_picked(self.ticks, symbol))
        if stream.channel == LIVE:
            return [row for bars in _picked(self.live, symbol) for row in _picked(bars, timeframe)]
        series = [key for key in self.closed if matches(symbol, key[0]) and timeframe in (ALL, key[1])]
        return [row for key in series for row in self.closed[key].rows()[-most:]]

    def window(self, symbol: str, timeframe: str) -> ClosedBars:
        """The last closed bars of a series."""
        return self.closed.get((symbol, timeframe)) or ClosedBars(max(self.bars_since.values(), default=0))

    def _close(self, bar: Placed) -> None:
        symbol, timeframe = bar.row["symbol"], bar.row["timeframe"]
        window = self.closed.get((symbol, timeframe))
        if window is None:
            window = self.closed[symbol, timeframe] = ClosedBars(self.bars_since.get(bar.partition, 0))
        window.add(bar)
        self._seen(BARS, bar.row["ts_close"])

    def _open(self, state: LiveBars) -> Iterator[tuple[Stream, list[Row]]]:
        if state.spec is not None:
            self.specs.setdefault(state.symbol, state.spec)
        before = self.live.get(state.symbol, {})
        now = {bar.timeframe: open_bar(to_avro(bar)) for bar in state.bars}
        self.live[state.symbol] = now
        self._seen(LIVE, state.last_ts)
        if now and state.symbol not in self.ticks and (row := quote(state, self.specs.get(state.symbol))):
            self._newest_tick(row)
        for timeframe, row in now.items():
            if row != before.get(timeframe):
                yield Stream(LIVE, state.symbol, timeframe), [row]

    def _feed(self, event: FeedEvent) -> None:
        if event.kind in _STATES and event.symbol is None:
            about = {"feed": event.feed, "shard": event.shard, "state": event.kind.value, "since": event.time}
            self.feeds[event.feed, event.shard] = about | {"text": event.text}

    def _newest_tick(self, row: Row) -> None:
        symbol = row["symbol"]
        known = self.ticks.get(symbol)
        if known is None or _identity(row) >= _identity(known):
            self.ticks[symbol] = row
            self._seen(TICKS, row["ts_event"])

    def _seen(self, channel: str, time: int) -> None:
        self.newest[channel] = max(time, self.newest[channel] or 0)


def parts_of(update: Update) -> Iterator[tuple[Stream, list[Row]]]:
    """The facts of an update by stream: ticks, closed bars, events."""
    for symbol, rows in update.ticks.items():
        yield Stream(TICKS, symbol), rows
    series: dict[Stream, list[Row]] = {}
    for bar in update.bars:
        series.setdefault(Stream(BARS, bar.row["symbol"], bar.row["timeframe"]), []).append(bar.row)
    yield from series.items()
    for event in update.events:
        yield Stream(EVENTS, event.symbol or ALL), [to_avro(event)]


def bar_id(row: Row) -> BarId:
    """Which bar of its series a row is, whatever its revision."""
    return row["ts_open"] if row["day"] is None else row["day"], row["number"]


def opening(row: Row) -> BarId:
    """What bars are sorted by."""
    return row["ts_open"], row["number"]


def open_bar(row: Row) -> Row:
    """An open bar as clients see it."""
    return row | {"closed": False}


def closed_bar(row: Row) -> Row:
    """A closed bar as clients see it."""
    return row | {"closed": True}


def quote(state: LiveBars, spec: SymbolSpec | None) -> Row | None:
    """The last tick as far as open bars tell it: bid and ask; nothing for a symbol charted by its last price."""
    if spec is not None and spec.chart_mode is not ChartMode.BID:
        return None
    bar = max(state.bars, key=lambda bar: (bar.last_tick_ts, bar.last_tick_ordinal))
    return {
        "symbol": state.symbol,
        "ts_event": bar.last_tick_ts,
        "ordinal": bar.last_tick_ordinal,
        "bid": bar.close,
        "ask": bar.ask_close,
        "feed": state.feed,
    }


def spec_row(spec: SymbolSpec) -> Row:
    """A symbol's spec as clients see it, without the calendar's long text."""
    return {key: value for key, value in dataclasses.asdict(spec).items() if key != "calendar"}


def _identity(row: Row) -> tuple[int, int]:
    return row["ts_event"], row["ordinal"]


def _picked(rows: dict[str, Any], name: str) -> Iterable[Any]:
    if is_pattern(name):
        return [row for key, row in rows.items() if matches(name, key)]
    return [rows[name]] if name in rows else []
