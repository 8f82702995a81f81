"""What the generators of the fire test write: one shard each, a stream with everything in it that a processor meets.

Ticks of all its symbols; among them repeats (single ones, and whole minutes sent again), corrections of up to a day
ago and older, crossed quotes, prices that are none, ticks from the future, ticks behind the watermark, gaps, watermarks
that go back, rubbish. The same seed gives the same stream; how far it gets is the machine's matter.

    python -m tests.acceptance.fire_generator SHARD SEED RATE PARTITIONS     (settings as for any component)

Standard input says up to how many records it may go (`allow N` lines), and ends it when it ends; each second standard
output has how many were acknowledged.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra import kafka as clients
from infra import settings as trees
from infra import topics
from infra.market.calendar import parse_calendar
from infra.registry.client import connect
from infra.worlds import World
from producers.encoding import TickColumns, encode_ticks, ordinals
from schemas.codec import Codec
from schemas.records import ChartMode, Control, ControlKind, CrossedPolicy, SymbolSpec, Tick
from tests.support import Out

START_MS: Final = 1_741_370_400_000
"""Friday 2025-03-07 18:00 UTC: New York closes at 22:00, and sets its clocks forward on Sunday."""
MINUTE: Final = 60_000
BLOCK_MINUTES: Final = 10
STEP_MS: Final = 2_500
"""Between two ticks of a symbol, on average."""
CLOSED_STEP_MS: Final = 120_000
LAGS_MS: Final = (1, 700, 30_000, 70_000, 400_000, 5_000_000, 40_000_000, 86_300_000, 2 * 86_400_000)
"""How late corrections come."""
RUBBISH: Final = (("rubbish", b"1"),)


@dataclass(frozen=True)
class Shard:
    """One terminal and the rules of its symbols."""

    feed: str
    name: str
    calendar: str
    zone: str = "UTC"
    chart_mode: ChartMode = ChartMode.BID
    crossed: CrossedPolicy = CrossedPolicy.REJECT


HOLIDAY: Final = '{"zone":"America/New_York","open":["Sun 17:00-Fri 17:00"],"holidays":["2025-03-10"]}'
SHARDS: Final = (
    Shard("sim", "a", "24/7"),
    Shard("sim", "b", "fx", "New_York+7"),
    Shard("sim", "c", "metals", "New_York+7", crossed=CrossedPolicy.KEEP),
    Shard("ecn", "d", "24/7", "New_York+7", chart_mode=ChartMode.LAST),
    Shard("ecn", "e", HOLIDAY, "UTC+3"),
)


class Stream:
    """The records of one shard, in order; a symbol in every partition."""

    def __init__(self, codec: Codec, number: int, *, seed: int, partitions: int, step_ms: int = STEP_MS) -> None:
        self.shard: Final = SHARDS[number % len(SHARDS)]
        self._codec = codec
        self._step_ms = step_ms
        self._chance = np.random.default_rng([seed, number])
        self._partitions = partitions
        self._calendar = parse_calendar(self.shard.calendar)
        self.symbols: Final = _symbols(f"F{number}", partitions)
        self._price = dict.fromkeys(self.symbols, 10_000)
        self._corrections = 0
        self._rubbish = 0
        self.now = START_MS

    def begin(self) -> Iterator[Out]:
        """Specs, and the start of coverage."""
        for symbol in self.symbols:
            spec = SymbolSpec(
                symbol=symbol,
                feed=self.shard.feed,
                shard=self.shard.name,
                broker_name=symbol.lower(),
                digits=2,
                point=0.01,
                chart_mode=self.shard.chart_mode,
                zone=self.shard.zone,
                crossed=self.shard.crossed,
                calendar=self._calendar.to_json(),
            )
            yield self._control(ControlKind.SYMBOL_SPEC, symbol, self.now, spec=spec)
            yield self._control(ControlKind.COVERAGE, symbol, self.now)

    def block(self) -> list[Out]:
        """Ten minutes of market time."""
        placed: list[tuple[float, Out]] = []
        for symbol in self.symbols:
            placed += self._series(symbol)
        for minute in range(1, BLOCK_MINUTES + 1):
            placed += self._end_of_minute(self.now + minute * MINUTE)
        if self._chance.random() < 0.3:
            placed += self._gap()
        self.now += BLOCK_MINUTES * MINUTE
        order = np.argsort([at for at, _ in placed], kind="stable")
        records = [placed[at][1] for at in order.tolist()]
        if self._chance.random() < 0.05:  # a producer that went back to an older cursor
            records += records[-len(records) // 4 :]
        return records

    def finish(self) -> list[Out]:
        """The last watermark; bars beyond it stay open."""
        return [*self._watermark(self.now - 3 * MINUTE)]

    def _series(self, symbol: str) -> list[tuple[float, Out]]:
        chance, span = self._chance, BLOCK_MINUTES * MINUTE
        step = self._step_ms if self._calendar.is_open(self.now) else CLOSED_STEP_MS
        count = int(chance.poisson(span / step))
        ts = np.sort(self.now + chance.integers(0, span, count))
        close = chance.random(count) < 0.1  # several in a millisecond
        ts[1:][close[1:]] = ts[:-1][close[1:]]
        ts = np.maximum.accumulate(ts)
        late = int(chance.binomial(count, 0.004))
        late_ts = self.now + chance.integers(0, span, late) - chance.choice(LAGS_MS, late)
        late_ts = np.maximum(late_ts, START_MS)
        arrival = np.concatenate([ts.astype(float), self.now + chance.random(late) * span])
        late_ordinals = 100_000 + (self._corrections + np.arange(late)) % 900_000
        self._corrections += late
        columns = self._columns(
            symbol, np.concatenate([ts, late_ts]), np.concatenate([ordinals(ts), late_ordinals.astype(np.int64)])
        )
        header = self._codec.headers["Tick"]
        values = encode_ticks(columns, header=header, symbol=symbol, feed=self.shard.feed)
        values[count:] = [value[:-1] + b"\x01" for value in values[count:]]  # the last field is `correction`
        records = [Out(symbol, value, time) for value, time in zip(values, columns.ts_event.tolist(), strict=True)]
        placed = list(zip(arrival.tolist(), records, strict=True))
        for at in np.flatnonzero(chance.random(len(placed)) < 0.01).tolist():
            placed.append((placed[at][0] + float(chance.exponential(5_000)), records[at]))
        if records and chance.random() < 0.03:
            at = int(chance.integers(len(records)))
            placed.append((placed[at][0], self._rubbish_of(records[at])))
        return placed

    def _columns(self, symbol: str, ts: NDArray[np.int64], ordinal: NDArray[np.int64]) -> TickColumns:
        chance, count = self._chance, len(ts)
        walk = np.maximum(self._price[symbol] + np.cumsum(chance.integers(-2, 3, count)), 100)
        self._price[symbol] = int(walk[-1]) if count else self._price[symbol]
        bid, ask = walk * 0.01, (walk + chance.integers(0, 5, count)) * 0.01
        fate = chance.random(count)
        crossed = fate < 0.005
        bid[crossed], ask[crossed] = ask[crossed] + 0.01, bid[crossed]
        none = (fate > 0.005) & (fate < 0.01)
        bid[none] = chance.choice((0.0, -1.0, -0.0, np.nan, np.inf), int(none.sum()))
        received = ts * 1_000 + chance.integers(0, 5_000, count)
        future = (fate > 0.01) & (fate < 0.0105) & (ordinal < 100_000)
        received[future] -= 61_000_000
        flags = chance.choice((6, 6, 2, 4) if self.shard.chart_mode == ChartMode.BID else (24, 24, 8, 6), count)
        return TickColumns(
            ts_event=ts,
            ordinal=ordinal,
            bid=bid.astype(np.float64),
            ask=ask.astype(np.float64),
            last=(walk * 0.01).astype(np.float64),
            volume=(chance.integers(0, 9, count) * 0.25).astype(np.float64),
            flags=flags.astype(np.int64),
            server_time=ts,
            ts_recv=received,
        )

    def _end_of_minute(self, end: int) -> Iterator[tuple[float, Out]]:
        """A watermark, most of the time, and behind it now and then a tick that should have come before it."""
        if self._chance.random() < 0.2:
            return
        back = int(self._chance.choice((0, 0, 0, 5_000, 200_000)))
        for record in self._watermark(end - 1 - back):
            yield end - 0.5, record
        if self._chance.random() < 0.1:
            symbol = self.symbols[int(self._chance.integers(len(self.symbols)))]
            columns = self._columns(symbol, np.array([end - 2]), np.array([50_000]))
            header = self._codec.headers["Tick"]
            (value,) = encode_ticks(columns, header=header, symbol=symbol, feed=self.shard.feed)
            yield end - 0.25, Out(symbol, value, end - 2)

    def _gap(self) -> Iterator[tuple[float, Out]]:
        """Of one symbol, or of the whole shard."""
        chance = self._chance
        told = self.now + float(chance.random()) * BLOCK_MINUTES * MINUTE
        start = int(told) - int(chance.integers(0, 10 * MINUTE))
        end = start + int(chance.integers(1, 5 * MINUTE))
        if chance.random() < 0.2:
            feed, shard = self.shard.feed, self.shard.name
            control = Control(kind=ControlKind.GAP, feed=feed, shard=shard, time=int(told), from_=start, to=end)
            yield from ((told, record) for record in self._to_all(control))
        else:
            symbol = self.symbols[int(chance.integers(len(self.symbols)))]
            yield told, self._control(ControlKind.GAP, symbol, int(told), from_=start, to=end)

    def _watermark(self, time_ms: int) -> Iterator[Out]:
        shard = self.shard
        return self._to_all(Control(kind=ControlKind.WATERMARK, feed=shard.feed, shard=shard.name, time=time_ms))

    def _to_all(self, control: Control) -> Iterator[Out]:
        value = self._codec.encode(control)
        for partition in range(self._partitions):
            yield Out(f"@{control.feed}/{control.shard}", value, control.time, partition)

    def _control(self, kind: ControlKind, symbol: str, time_ms: int, **more: object) -> Out:
        control = Control(
            kind=kind,
            feed=self.shard.feed,
            shard=self.shard.name,
            symbol=symbol,
            time=time_ms,
            **more,  # type: ignore[arg-type]
        )
        return Out(symbol, self._codec.encode(control), time_ms)

    def _rubbish_of(self, good: Out) -> Out:
        """Something that is no record of ours, or is not where it belongs; a header says so for the check."""
        value = good.value or b""
        self._rubbish += 1
        match self._rubbish % 9:
            case 0:
                bad = good._replace(value=b"not Avro at all")
            case 1:
                bad = good._replace(value=b"\x00\x00\x0f\xff\xff" + value[5:])  # a schema id that nobody has
            case 2:
                bad = good._replace(value=value[:-9])
            case 3:
                bad = good._replace(key="EURGBP", partition=clients.partition_for(good.key, self._partitions))
            case 4:
                bad = good._replace(value=None)
            case 5:
                bad = good._replace(timestamp=good.timestamp + 1)
            case 6:
                bad = good._replace(value=value[:5] + struct.pack(">q", 2**62) + value[5:])
            case 7:
                tick = self._codec.decode(value)
                assert isinstance(tick, Tick)
                bad = good._replace(value=self._codec.encode(replace(tick, feed="nobody's")))
            case _:
                spec = SymbolSpec(symbol=good.key, feed="sim", shard="a", broker_name="", digits=2, point=0.01)
                bad = good._replace(value=self._codec.encode(spec))  # a record of ours, but of another topic
        return bad._replace(headers=list(RUBBISH))


def _symbols(prefix: str, partitions: int) -> list[str]:
    """For each partition a symbol that goes there."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        symbol = f"{prefix}X{number:03}"
        found.setdefault(clients.partition_for(symbol, partitions), symbol)
        number += 1
    return [found[partition] for partition in range(partitions)]


class _Sender:
    """Produces records in order; at most ``rate`` a second, and no more than it is allowed."""

    def __init__(self, topic: str, settings: trees.Settings, partitions: int, rate: float) -> None:
        self._topic, self._partitions, self._rate = topic, partitions, rate
        self._producer = clients.producer(settings.kafka, on_delivery=self._delivered)
        self._allowed, self._sent, self._acknowledged = 0, 0, 0
        self._more = threading.Condition()
        self._over = False
        self._began = time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._tell, daemon=True).start()

    @property
    def over(self) -> bool:
        return self._over

    def send(self, records: list[Out]) -> None:
        """Produce all of them, waiting until they are allowed."""
        for start in range(0, len(records), 500):
            part = records[start : start + 500]
            with self._more:
                self._more.wait_for(lambda: self._over or self._sent < self._allowed)
            if self._rate:
                time.sleep(max(0.0, self._sent / self._rate - (time.monotonic() - self._began)))
            for record in part:
                self._produce(record)
            self._sent += len(part)

    def finish(self) -> None:
        """Wait until all are acknowledged."""
        assert self._producer.flush(120) == 0
        print(self._acknowledged, flush=True)  # noqa: T201 - what the fire test reads

    def _produce(self, record: Out) -> None:
        partition = record.partition
        if partition is None:
            partition = clients.partition_for(record.key, self._partitions)
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    record.value,
                    record.key,
                    partition,
                    timestamp=record.timestamp,
                    headers=record.headers,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _delivered(self, error: object, _: object) -> None:
        assert error is None, error
        self._acknowledged += 1

    def _listen(self) -> None:
        for line in sys.stdin:
            with self._more:
                self._allowed = int(line)
                self._more.notify()
        with self._more:
            self._over = True
            self._more.notify()

    def _tell(self) -> None:
        while not self._over:
            time.sleep(0.5)
            print(self._acknowledged, flush=True)  # noqa: T201 - what the fire test reads


def main(number: int, seed: int, rate: float, partitions: int) -> None:
    """Write until standard input ends."""
    settings = trees.load()
    stream = Stream(connect(settings), number, seed=seed, partitions=partitions)
    sender = _Sender(World(settings.world).topic(topics.TICKS_RAW.name), settings, partitions, rate)
    sender.send(list(stream.begin()))
    while not sender.over:
        sender.send(stream.block())
    sender.send(stream.finish())
    sender.finish()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
