"""Made-up streams of everything that can stand in ``ticks.raw``, and batches of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import polars as pl

from processors.core.types import Batch
from schemas.codec import Codec
from schemas.columns import dtypes
from schemas.definitions import NAMES, Schema, definition
from schemas.records import ChartMode, Control, ControlKind, CrossedPolicy, SymbolSpec, Tick

FX = '{"zone":"America/New_York","open":["Sun 17:00-Fri 17:00"],"holidays":["2025-03-10"]}'
SYMBOLS = ("EURUSD", "USDJPY", "XAUUSD", "BTCUSD", "NOSPEC")
LATE = (1, 50, 9_000, 70_000, 70_000, 400_000, 5_000_000, 70_000_000, 86_390_000, 2 * 86_400_000)
START = 1_741_380_600_000  # Friday 2025-03-07 20:50 UTC; New York sets its clocks forward on Sunday


@dataclass(frozen=True)
class Message:
    record: Tick | Control
    key: bytes
    stamp: int


class Ids:
    def id_of(self, name: str) -> int:
        return NAMES.index(name) + 1

    def schema_of(self, schema_id: int) -> Schema:
        return definition(NAMES[schema_id - 1])


CODEC = Codec(Ids())


def message(record: Tick | Control) -> Message:
    if isinstance(record, Tick):
        return Message(record, record.symbol.encode(), record.ts_event)
    whole = record.symbol is None or record.kind in {ControlKind.WATERMARK, ControlKind.RETIRED}
    key = f"@{record.feed}/{record.shard}" if whole else str(record.symbol)
    return Message(record, key.encode(), record.time)


def batch(messages: list[Message], first_offset: int) -> Batch:
    ticks = [(at, item.record) for at, item in enumerate(messages) if isinstance(item.record, Tick)]
    columns: dict[str, list[object]] = {"index": [at for at, _ in ticks]}
    columns |= {name: [getattr(tick, name) for _, tick in ticks] for name in dtypes("Tick")}
    frame = pl.DataFrame(columns, schema={"index": pl.Int64(), **dtypes("Tick")})
    return Batch(
        frame,
        [(at, item.record) for at, item in enumerate(messages) if isinstance(item.record, Control)],
        [],
        [item.key for item in messages],
        [item.stamp for item in messages],
        range(first_offset, first_offset + len(messages)),
    )


def spec(symbol: str, **changes: object) -> SymbolSpec:
    usual = SymbolSpec(
        symbol=symbol, feed="sim", shard="a", broker_name=symbol, digits=5, point=1e-5, zone="New_York+7",
        calendar=FX if symbol in {"EURUSD", "USDJPY"} else "",
    )  # fmt: skip
    return replace(usual, **changes)  # type: ignore[arg-type]


class Maker:
    """A stream from a seed: mostly usual, with some of everything else."""

    def __init__(self, seed: int, oddity: float, late: float = 0.0) -> None:
        self.random, self.oddity, self.late = random.Random(seed), oddity, late
        self.now = START
        self.ordinals: dict[tuple[str, int], int] = {}
        self.sent: list[Message] = []

    def make(self, count: int) -> list[Message]:
        pick = self.random
        for symbol in SYMBOLS[:4]:
            if pick.random() < 0.9:
                self.control(ControlKind.SYMBOL_SPEC, symbol, spec=self.spec(symbol))
                self.control(ControlKind.COVERAGE, symbol)
        while len(self.sent) < count:
            self.now += pick.choice((0, 0, 0, 1, 40, 700, 9_000, 9_000, 61_000))
            if pick.random() < 0.004:
                self.now += pick.choice((3_600_000, 20 * 3_600_000, 90 * 3_600_000, 20 * 86_400_000))
            if pick.random() < self.late:
                self.correction(pick.choice(SYMBOLS))
            else:
                (self.odd if pick.random() < self.oddity else self.usual)()
        return self.sent[:count]

    def send(self, record: Tick | Control) -> None:
        self.sent.append(message(record))

    def control(self, kind: ControlKind, symbol: str | None = None, **fields: object) -> None:
        values: dict[str, object] = {"feed": "sim", "shard": "a", "time": self.now} | fields
        self.send(Control(kind=kind, symbol=symbol, **values))  # type: ignore[arg-type]

    def spec(self, symbol: str) -> SymbolSpec:
        pick = self.random
        return spec(
            symbol,
            shard=pick.choice("aaab"),
            zone=pick.choice(("New_York+7", "New_York+7", "UTC", "UTC+3")),
            chart_mode=pick.choice((ChartMode.BID, ChartMode.BID, ChartMode.LAST)),
            crossed=pick.choice((CrossedPolicy.REJECT, CrossedPolicy.KEEP)),
        )

    def usual(self) -> None:
        pick = self.random
        if pick.random() < 0.06:
            self.control(ControlKind.WATERMARK, shard=pick.choice("aab"), time=self.now - pick.choice((1, 1, 5_000)))
            self.now += 1
            return
        bid = 1.1 + pick.randrange(-50, 50) * 1e-5
        self.tick(pick.choice(SYMBOLS), bid=bid, ask=bid + pick.randrange(0, 9) * 1e-5)

    def tick(self, symbol: str, **fields: object) -> None:
        pick = self.random
        ts = fields.pop("ts", self.now)
        assert isinstance(ts, int)
        ordinal = self.ordinals[symbol, ts] = self.ordinals.get((symbol, ts), -1) + 1
        values: dict[str, object] = {
            "ordinal": ordinal, "bid": 1.1, "ask": 1.2, "last": 1.1 + pick.randrange(9) * 1e-5,
            "volume": pick.choice((0.0, 0.1, 0.7, 1e9)), "flags": pick.choice((6, 6, 2, 4, 24, 30, 134)), "feed": "sim",
            "server_time": ts, "ts_recv": ts * 1_000,
        } | fields  # fmt: skip
        self.send(Tick(symbol=symbol, ts_event=ts, **values))  # type: ignore[arg-type]

    def correction(self, symbol: str) -> None:
        bid = 1.1 + self.random.randrange(-90, 90) * 1e-5
        self.tick(symbol, ts=self.now - self.random.choice(LATE), bid=bid, ask=bid + 2e-5, correction=True)

    def odd(self) -> None:  # noqa: C901 - one case for each oddity
        pick, symbol = self.random, self.random.choice(SYMBOLS)
        match pick.randrange(14):
            case 0 | 1:
                rubbish = (0.0, -1.0, -0.0, float("nan"), float("inf"), 1e300, 5e-324)
                self.tick(symbol, **{pick.choice(("bid", "ask", "last", "volume")): pick.choice(rubbish)})
            case 2:
                self.tick(symbol, bid=1.3, ask=1.2)
            case 3 | 4:
                self.correction(symbol)
            case 5:
                self.tick(symbol, ts=self.now + pick.choice((500, 400_000)), ts_recv=self.now * 1_000 - 60_000_000)
            case 6:
                self.sent += pick.sample(self.sent, min(len(self.sent), pick.randrange(1, 9)))
            case 7:
                self.tick(symbol, ts=self.now - pick.choice((1, 9_000)))
            case 8:
                self.control(ControlKind.SYMBOL_SPEC, symbol, spec=self.spec(symbol))
            case 9:
                self.control(
                    ControlKind.COVERAGE, pick.choice((symbol, None)), time=self.now - pick.choice((0, 90_000))
                )
            case 10:
                start = self.now - pick.choice((0, 8_000, 90_000))
                self.control(
                    ControlKind.GAP, pick.choice((symbol, None)), from_=start, to=start + pick.randrange(90_000)
                )
            case 11:
                self.control(ControlKind.RETIRED, pick.choice((symbol, None)), shard=pick.choice("ab"))
            case 12:
                self.tick(symbol, feed="other")
            case _:
                self.usual()
                broken = replace(self.sent[-1], **pick.choice(({"key": b"X"}, {"stamp": 5})))
                self.sent[-1] = broken
