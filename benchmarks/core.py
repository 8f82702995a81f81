"""Where a worker's CPU time goes, less what Kafka's clients take: microseconds a tick, one thread, no broker.

python benchmarks/core.py [--symbols 28] [--batch 20000] [--batches 20]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is loaded: a partition has one core

import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from infra.market.calendar import default_calendar
from infra.settings import BarSettings
from infra.worlds import World
from processors import hooks
from processors.core.recall import released
from processors.core.state import State
from processors.core.step import step
from processors.core.types import Batch, Rules
from processors.drafts import Drafts
from processors.unpacking import Log, unpacked
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.definitions import NAMES, Schema, definition
from schemas.records import Control, ControlKind, Progress, SymbolSpec, Tick

START = 1_757_894_400_000  # Monday 2025-09-15
FEED, SHARD = "bench", "a"


class Ids:
    """A registry in memory."""

    def id_of(self, name: str) -> int:
        return NAMES.index(name) + 1

    def schema_of(self, schema_id: int) -> Schema:
        return definition(NAMES[schema_id - 1])


def specs(symbols: list[str]) -> list[Tick | Control]:
    found: list[Tick | Control] = []
    for symbol in symbols:
        spec = SymbolSpec(
            symbol=symbol, feed=FEED, shard=SHARD, broker_name=symbol, digits=5, point=1e-5, zone="New_York+7",
            calendar=default_calendar(symbol).to_json(),
        )  # fmt: skip
        found += (
            Control(kind=kind, feed=FEED, shard=SHARD, symbol=symbol, time=START, spec=spec)
            for kind in (ControlKind.SYMBOL_SPEC, ControlKind.COVERAGE)
        )
    return found


def ticks(symbols: list[str], count: int, ticks_per_second: float) -> list[Tick | Control]:
    """Random walks, with a watermark each second of market time."""
    rng = np.random.default_rng(7)
    times = START + np.sort(rng.integers(0, int(count / ticks_per_second * 1_000) + 1, count))
    which, steps, spreads = rng.integers(0, len(symbols), count), rng.normal(0, 2e-5, count), rng.integers(1, 9, count)
    price, seen, found = np.full(len(symbols), 1.1), {}, []
    second = START // 1_000
    for ts, at, change, spread in zip(times.tolist(), which.tolist(), steps, spreads.tolist(), strict=True):
        if ts // 1_000 > second:
            second = ts // 1_000
            found.append(Control(kind=ControlKind.WATERMARK, feed=FEED, shard=SHARD, time=second * 1_000 - 1))
        price[at] += change
        ordinal = seen[at, ts] = seen.get((at, ts), -1) + 1
        bid = round(float(price[at]), 5)
        found.append(
            Tick(
                symbol=symbols[at],
                ts_event=ts,
                ordinal=ordinal,
                bid=bid,
                ask=round(bid + spread * 1e-5, 5),
                flags=6,
                feed=FEED,
                server_time=ts,
                ts_recv=ts * 1_000,
            )
        )
    return found


def key(record: Tick | Control) -> bytes:
    return (record.symbol or f"@{record.feed}/{record.shard}").encode()


def fetched(codec: Codec, part: list[Tick | Control]) -> bytes:
    """The records as a record batch that a broker sends."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=3,
        is_transactional=0,
        producer_id=1,
        producer_epoch=0,
        base_sequence=0,
        batch_size=2**30,
    )
    for at, record in enumerate(part):
        stamp = record.ts_event if isinstance(record, Tick) else record.time
        builder.append(at, stamp, key(record), codec.encode(record), [])
    return bytes(builder.build())


def measured(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=28)
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rate", type=float, default=500.0, help="ticks per second of market time, all symbols")
    parser.add_argument("--also", nargs="*", default=[], help="tick, volume and value bars, T:1000 for one")
    arguments = parser.parse_args()
    symbols = [f"SYM{n:03}" for n in range(arguments.symbols)]
    codec, rules = Codec(Ids()), Rules((*BarSettings().timeframes, *arguments.also))
    stream = specs(symbols) + ticks(symbols, arguments.batch * arguments.batches, arguments.rate)
    state, count, bars = State(), 0, 0
    spent = dict.fromkeys(("unpack", "decode", "step", "draft"), 0.0)
    drafts = Drafts(World("bench"), codec, 0)
    hooks.calm_garbage_collector()
    for start in range(0, len(stream), arguments.batch):
        part = stream[start : start + arguments.batch]
        sent = fetched(codec, part)
        records, unpacking = measured(lambda sent=sent: unpacked([Log(sent).next_batch()]))
        decoded, decoding = measured(lambda records=records: decode_batch(records.values, codec))
        batch = Batch(
            decoded.frame,
            decoded.others,
            decoded.bad,
            records.keys,
            records.timestamps,
            records.offsets + start,
        )
        (outcome, state), stepping = measured(
            lambda batch=batch, state=state: step(released(state, batch.frame), batch, rules)
        )
        done = Progress(next_offset=start + len(part))
        _, drafting = measured(lambda records=records, outcome=outcome, done=done: drafts.unit(records, outcome, done))
        if start:  # the first batch holds the specs and warms caches
            count += decoded.frame.height
            bars += len(outcome.closed)
            for name, seconds in zip(spent, (unpacking, decoding, stepping, drafting), strict=True):
                spent[name] += seconds
        if outcome.dead or outcome.repeats:
            raise SystemExit(
                f"{len(outcome.dead)} dead letters and {outcome.repeats} repeats: not what was to be measured"
            )
    print(f"{count:,} ticks of {len(symbols)} symbols in batches of {arguments.batch:,}; {bars:,} bars closed")
    for name, seconds in {**spent, "all": sum(spent.values())}.items():
        print(f"{name:7} {seconds / count * 1e6:6.2f} us a tick {count / seconds:12,.0f} ticks a CPU second")


if __name__ == "__main__":
    main()
