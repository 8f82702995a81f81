"""A raw stream with everything in it that a processor meets."""

from __future__ import annotations

import random
from collections.abc import Iterator

from infra.market.calendar import parse_calendar
from schemas.codec import Codec
from schemas.records import Control, ControlKind, SymbolSpec, Tick
from tests.support import Out

FEED, SHARD = "sim", "a"
SYMBOLS = ("EURUSD", "USDJPY", "GBPUSD", "AUDUSD", "XAUUSD", "BTCUSD")


class Stream:
    """Ticks of some symbols from a moment on, UTC milliseconds; the same seed gives the same stream."""

    def __init__(
        self, codec: Codec, start_ms: int, *, partitions: int, symbols: tuple[str, ...] = SYMBOLS, seed: int = 1
    ) -> None:
        self._codec = codec
        self._random = random.Random(seed)
        self._partitions = partitions
        self._time = dict.fromkeys(symbols, start_ms)
        self._ordinal = dict.fromkeys(symbols, 0)
        self._bid = dict.fromkeys(symbols, 100.0)
        self._recent: list[Out] = []
        self._corrections = 0
        self.start_ms = start_ms
        self.symbols = symbols

    def specs(self) -> Iterator[Out]:
        """What comes before a series' first tick: its spec and the start of its coverage."""
        calendar = parse_calendar("24/7").to_json()
        for symbol in self.symbols:
            spec = SymbolSpec(
                symbol=symbol, feed=FEED, shard=SHARD, broker_name=symbol, digits=2, point=0.01, calendar=calendar
            )
            yield self._control(ControlKind.SYMBOL_SPEC, symbol, self.start_ms, spec=spec)
            yield self._control(ControlKind.COVERAGE, symbol, self.start_ms)

    def ticks(self, count: int, *, rubbish: bool = False, late: bool = False, step_ms: int = 400) -> Iterator[Out]:
        """Ticks with repeats and rejects among them, now and then a watermark; rubbish and corrections if asked for."""
        draw = self._random
        for number in range(count):
            symbol = draw.choice(self.symbols)
            if self._recent and draw.random() < 0.02:
                yield draw.choice(self._recent)
                continue
            if late and self._time[symbol] > self.start_ms and draw.random() < 0.02:
                yield self._correction(symbol)
            yield self._tick(symbol, draw.randrange(step_ms))
            if number % 997 == 500:
                yield from self.watermark(min(self._time.values()) - 1)
            if rubbish and number % 50 == 25:
                yield from self._rubbish(symbol, number // 50)

    def watermark(self, time: int) -> Iterator[Out]:
        """One in every partition."""
        control = Control(kind=ControlKind.WATERMARK, feed=FEED, shard=SHARD, time=time)
        for partition in range(self._partitions):
            yield Out(f"@{FEED}/{SHARD}", self._codec.encode(control), time, partition)

    @property
    def time(self) -> int:
        """Of the latest tick."""
        return max(self._time.values())

    def _tick(self, symbol: str, step: int) -> Out:
        draw = self._random
        self._time[symbol] += step
        self._ordinal[symbol] = 0 if step else self._ordinal[symbol] + 1
        self._bid[symbol] = round(max(1.0, self._bid[symbol] + draw.choice((-0.01, 0.0, 0.01))), 2)
        return self._out(symbol, self._time[symbol], self._ordinal[symbol], correction=False)

    def _correction(self, symbol: str) -> Out:
        """A tick of up to ten minutes ago that was not there before."""
        self._corrections += 1
        time = max(self.start_ms, self._time[symbol] - self._random.randrange(1, 600_000))
        return self._out(symbol, time, 100_000 + self._corrections, correction=True)

    def _out(self, symbol: str, time: int, ordinal: int, *, correction: bool) -> Out:
        bid, ask = self._bid[symbol], round(self._bid[symbol] + 0.02, 2)
        fate = self._random.random()
        if fate < 0.01:
            bid, ask = ask, bid
        elif fate < 0.02:
            bid = -bid
        tick = Tick(
            symbol=symbol,
            ts_event=time,
            ordinal=ordinal,
            bid=bid,
            ask=ask,
            flags=6,
            feed=FEED,
            server_time=time,
            ts_recv=time * 1000,
            correction=correction,
        )
        out = Out(symbol, self._codec.encode(tick), tick.ts_event)
        self._recent = [*self._recent[-9:], out]
        return out

    def _rubbish(self, symbol: str, kind: int) -> Iterator[Out]:
        time = self._time[symbol]
        good = self._recent[-1]
        assert good.value is not None
        match kind % 7:
            case 0:
                yield Out(symbol, b"not Avro at all", time)
            case 1:
                yield Out(symbol, b"\x00\x00\x0f\xff\xff" + good.value[5:], time)  # a schema id that nobody has
            case 2:
                yield Out(symbol, good.value[:-9], time)  # cut short
            case 3:
                yield good._replace(key="EURGBP")  # a key that is not its symbol
            case 4:
                yield Out(symbol, None, time)
            case 5:
                yield good._replace(timestamp=good.timestamp + 1)
            case _:
                spec = SymbolSpec(symbol=symbol, feed=FEED, shard=SHARD, broker_name=symbol, digits=2, point=0.01)
                yield Out(symbol, self._codec.encode(spec), time)  # a record of ours, but of another topic

    def _control(self, kind: ControlKind, symbol: str, time: int, spec: SymbolSpec | None = None) -> Out:
        control = Control(kind=kind, feed=FEED, shard=SHARD, symbol=symbol, time=time, spec=spec)
        return Out(symbol, self._codec.encode(control), time)
