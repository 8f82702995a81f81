"""A little market for the gateway's tests: it writes what a processor would write, with the same codec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from confluent_kafka import Producer

from infra import kafka as clients
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import (
    Bar,
    BarStatus,
    EventKind,
    FeedEvent,
    LiveBars,
    SymbolSpec,
    Tick,
    TimeframeStart,
)
from tests.support import Out, produce_all

START = 1_699_999_200_000
"""A full hour."""
MINUTE = 60_000
LENGTHS = {"M1": MINUTE, "M5": 5 * MINUTE, "M15": 15 * MINUTE, "H1": 60 * MINUTE}


def spec(symbol: str, digits: int = 5) -> SymbolSpec:
    return SymbolSpec(
        symbol=symbol, feed="sim", shard="a", broker_name=symbol, digits=digits, point=10**-digits, zone="New_York+7"
    )


@dataclass
class FakeMarket:
    """Ticks of one symbol on a wave, and the bars they make."""

    settings: Settings
    codec: Codec
    symbol: str
    base: float
    digits: int = 5
    time: int = START
    count: int = 0
    open: dict[str, Bar] = field(default_factory=dict)
    closed: list[Bar] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    _producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self._producer = clients.producer(self.settings.kafka)

    @property
    def spec(self) -> SymbolSpec:
        return spec(self.symbol, self.digits)

    def price(self) -> float:
        wave = math.sin(self.count / 40) + 0.4 * math.sin(self.count / 7) + 0.15 * math.sin(self.count * 1.7)
        return round(self.base * (1 + 0.0012 * wave), self.digits)

    def advance(self, step: int = 2_000) -> list[Bar]:
        """One tick later; the bars that it closed."""
        self.count += 1
        self.time += step
        bid = self.price()
        spread = 8 + self.count % 5
        ask = round(bid + spread * 10**-self.digits, self.digits)
        tick = Tick(
            symbol=self.symbol, ts_event=self.time, ordinal=0, bid=bid, ask=ask, flags=6, feed="sim",
            server_time=self.time + 7_200_000, ts_recv=self.time * 1_000,
        )  # fmt: skip
        self.ticks.append(tick)
        closed = []
        for timeframe, length in LENGTHS.items():
            bar = self.open.get(timeframe)
            if bar is not None and tick.ts_event >= bar.ts_close:
                closed.append(replace(bar, status=BarStatus.FINAL))
                bar = None
            self.open[timeframe] = first(tick, timeframe, length, spread) if bar is None else grown(bar, tick, spread)
        self.closed += closed
        return closed

    def live(self) -> LiveBars:
        return LiveBars(
            symbol=self.symbol, feed="sim", last_ts=self.time, last_ordinal=0, coverage_from=START, spec=self.spec,
            bars=tuple(self.open.values()),
            timeframes=tuple(TimeframeStart(timeframe=name, from_=0) for name in LENGTHS),
        )  # fmt: skip

    def publish(self, ticks: int = 1, step: int = 2_000) -> None:
        """Advance, and write it as one transaction of the processor would: ticks, bars, then the open bars."""
        before = len(self.ticks)
        closed = [bar for _ in range(ticks) for bar in self.advance(step)]
        self.write("ticks.clean", (self.tick(tick) for tick in self.ticks[before:]))
        self.write("bars", (self.bar(bar) for bar in closed))
        self.write("bars.live", [Out(self.symbol, self.codec.encode(self.live()), self.time)])

    def correct(self, place: int) -> None:
        """A tick that the source found late, beside one that it has."""
        late = replace(self.ticks[place], ordinal=1, correction=True)
        self.write("ticks.clean", [self.tick(late)])
        self.ticks.append(late)

    def introduce(self) -> None:
        """Write the symbol's spec."""
        self.write("symbols", [Out(self.symbol, self.codec.encode(self.spec), self.time)])

    def tick(self, tick: Tick) -> Out:
        return Out(tick.symbol, self.codec.encode(tick), tick.ts_event)

    def bar(self, bar: Bar) -> Out:
        partition = clients.partition_for(bar.symbol, self.settings.kafka.partitions or 1)
        return Out(bar.key, self.codec.encode(bar), bar.ts_close, partition)

    def event(self, text: str) -> Out:
        record = FeedEvent(
            time=self.time, kind=EventKind.CONNECTED, feed="sim", shard="a", symbol=self.symbol, text=text
        )
        return Out(self.symbol, self.codec.encode(record), self.time)

    def feed_event(self, text: str) -> Out:
        """An event of the whole feed, in the symbol's partition."""
        record = FeedEvent(time=self.time, kind=EventKind.CLOCK, feed="sim", shard="a", text=text)
        return Out(self.symbol, self.codec.encode(record), self.time)

    def write(self, topic: str, records: Iterable[Out] | Iterator[Out]) -> None:
        produce_all(self.settings, World(self.settings.world).topic(topic), records, self._producer)


def first(tick: Tick, timeframe: str, length: int, spread: int) -> Bar:
    opens = tick.ts_event - tick.ts_event % length
    return Bar(
        symbol=tick.symbol, feed=tick.feed, timeframe=timeframe, ts_open=opens, ts_close=opens + length,
        open=tick.bid, high=tick.bid, low=tick.bid, close=tick.bid,
        ask_open=tick.ask, ask_high=tick.ask, ask_low=tick.ask, ask_close=tick.ask,
        tick_volume=1, real_volume=0.0, spread=spread, status=BarStatus.PARTIAL, tick_count=1,
        first_tick_ts=tick.ts_event, first_tick_ordinal=0, last_tick_ts=tick.ts_event, last_tick_ordinal=0, rules="t",
    )  # fmt: skip


def grown(bar: Bar, tick: Tick, spread: int) -> Bar:
    return replace(
        bar,
        high=max(bar.high, tick.bid), low=min(bar.low, tick.bid), close=tick.bid,
        ask_high=max(bar.ask_high, tick.ask), ask_low=min(bar.ask_low, tick.ask), ask_close=tick.ask,
        tick_volume=bar.tick_volume + 1, tick_count=bar.tick_count + 1, spread=min(bar.spread, spread),
        last_tick_ts=tick.ts_event,
    )  # fmt: skip
