"""Four terminals with every fault, producers killed and Kafka restarted under them: what arrives is what brokers had.

    python -m tests.acceptance.soak [--minutes 20] [--symbols 50] [--rate 4]

Each shard has a simulated terminal in a process of its own, behind an agent. Two of them show ticks late, two lose
their history now and then: what was late and is lost before it was shown, nobody ever saw. Afterwards ``ticks.raw``
without repeats must be what the brokers ever had, in order, but for what lies in a gap; ``ticks.clean`` and
``ticks.rejected`` hold each of them once; and each gap must begin behind a published tick, end with one, and span a
moment at which history was lost. Needs Java. FX sleeps at weekends: then only the coins' series say something.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import yaml
from rich.console import Console
from rich.table import Table

from infra import provision
from infra.brokers.kafka import KafkaCluster
from infra.cli.drain import processed
from infra.kafka_log import beginnings, read_to_end
from infra.registry.client import connect
from infra.settings import KafkaSettings, ProducerSettings, RegistrySettings, Settings, SimulatorSettings
from infra.topics import TICKS_CLEAN, TICKS_RAW, TICKS_REJECTED
from infra.worlds import World
from producers.simulated.faults import Faults, Kind
from producers.simulated.history import History
from producers.simulated.instruments import offered
from producers.simulated.market import Market
from producers.terminal import TICK_DTYPE
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.records import Control, ControlKind
from tests.support import Child, eventually, registered

SHARDS = ("a", "b", "c", "d")
COMMON = ("cold=5@every400+60", "fail=0.3@every120+20", "pipe@every90+1", "lag=2@every100+30", "slow=0.2@every200+3",
          "timeout@every300+5", "offline@every250+15", "hang@every240+4", "flood=12000@every400+1",
          "memory=6000@every300+20", "refused@every400+3")  # fmt: skip
WORST = {"a": "late=0.01", "b": "late=0.02@every200+60", "c": "forget@every120+1", "d": "forget@every60+1"}
KILL_SECONDS = (3.0, 9.0)
KAFKA_SECONDS = 90.0
SETTLE_MS = 60_000
"""What is younger at the end may be late still."""


@dataclass
class Row:
    """What was found of one shard."""

    shard: str
    ever: int = 0
    raw: int = 0
    repeats: int = 0
    corrections: int = 0
    gaps: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Log:
    """What stands in the world."""

    ticks: pl.DataFrame
    gaps: dict[str, list[tuple[int, int]]]
    begins: dict[str, int]
    marks: dict[str, int]


@dataclass(frozen=True)
class Broker:
    """What the simulated broker of one shard had."""

    symbols: list[str]
    faults: Faults
    history: History

    @classmethod
    def of(cls, shard: str, rate: float, copies: int, symbols: list[str]) -> Broker:
        wanted = simulator(shard, rate, copies)
        faults = Faults.parse(wanted.faults, wanted.seed)
        return cls(symbols, faults, History(Market(wanted.seed, rate, copies), faults))


def simulator(shard: str, rate: float, copies: int) -> SimulatorSettings:
    return SimulatorSettings(seed=SHARDS.index(shard) + 1, rate=rate, copies=copies, faults=(*COMMON, WORST[shard]))


def read(settings: Settings, codec: Codec, topic: str) -> Log:
    """A topic's ticks with their place, and its controls."""
    found: list[pl.DataFrame] = []
    log = Log(pl.DataFrame(), {}, {}, {})
    for messages in read_to_end(settings.kafka, beginnings(settings.kafka, World(settings.world).topic(topic))):
        decoded = decode_batch([message.value() for message in messages], codec)
        found.append(decoded.frame.select("symbol", "ts_event", "ordinal", "bid", "ask", "correction"))
        for _, record in decoded.others:
            if not isinstance(record, Control):
                continue
            if record.kind == ControlKind.GAP:
                log.gaps.setdefault(record.symbol or "", []).append((record.from_ or 0, record.to or 0))
            elif record.kind == ControlKind.COVERAGE:
                log.begins[record.symbol or ""] = record.time
            elif record.kind == ControlKind.WATERMARK:
                log.marks[record.shard] = max(record.time, log.marks.get(record.shard, 0))
    log.ticks = pl.concat(found) if found else log.ticks
    return log


def check_shard(row: Row, log: Log, once: pl.DataFrame, broker: Broker, end: int) -> None:
    """Compare what was published of one shard with what its broker ever had up to ``end``."""
    history, faults = broker.history, broker.faults
    for symbol in broker.symbols:
        mine = once.filter(pl.col("symbol") == symbol, pl.col("ts_event") < end)
        ever = np.concatenate([np.empty(0, TICK_DTYPE), *history.ever(symbol, log.begins[symbol], end)])
        truth = pl.DataFrame({"ts_event": ever["time_msc"], "bid": ever["bid"], "ask": ever["ask"]})
        key = ["ts_event", "bid", "ask"]
        had, got = (frame.group_by(key).len() for frame in (truth, mine))
        both = had.join(got, on=key, how="full", coalesce=True, suffix="_got").fill_null(0)
        missing = both.filter(pl.col("len") > pl.col("len_got")).sort("ts_event")
        row.ever += len(truth)
        row.lost += int((missing["len"] - missing["len_got"]).sum())
        made_up = both.filter(pl.col("len") < pl.col("len_got"))
        if len(made_up):
            row.wrong.append(f"{symbol}: {len(made_up)} ticks that the broker never had")
        gaps = sorted(set(log.gaps.get(symbol, [])))
        row.gaps += len(gaps)
        outside = missing.filter(
            ~pl.any_horizontal(
                [pl.lit(value=False), *((pl.col("ts_event") >= a) & (pl.col("ts_event") < b) for a, b in gaps)]
            )
        )
        if len(outside):
            row.wrong.append(f"{symbol}: {len(outside)} ticks lost without a gap, first at {outside['ts_event'][0]}")
        times = set(mine["ts_event"].to_list())
        for since, until in gaps:
            if until >= end:
                continue
            forgot = any(
                since <= over <= until for _, over, _ in faults.spans(Kind.FORGET, since - 10_000, until + 10_000)
            )
            if until not in times or (since - 1 not in times and since != log.begins[symbol]) or not forgot:
                row.wrong.append(f"{symbol}: the gap from {since} to {until} has wrong bounds")


def check_order(log: Log, wrong: list[str]) -> pl.DataFrame:
    """The ticks of raw without repeats; in order per series but for corrections."""
    once = log.ticks.unique(["symbol", "ts_event", "ordinal"], keep="first", maintain_order=True)
    regular = once.filter(~pl.col("correction")).with_columns(place=pl.col("ts_event") * 100_000 + pl.col("ordinal"))
    fallen = regular.with_columns(fell=pl.col("place").diff().over("symbol") <= 0).filter(pl.col("fell"))
    if len(fallen):
        wrong.append(f"{len(fallen)} ticks out of order, first {fallen.row(0)}")
    return once


def torment(producer: Child, cluster: KafkaCluster | None, minutes: float, console: Console) -> dict[str, int]:
    """Kill shards and restart Kafka for so long; how often, and how much memory shards took at the most, in MB."""
    chance, began = random.Random(7), time.monotonic()
    next_kill, next_kafka = began + 5, began + KAFKA_SECONDS
    told = {"kills": 0, "kafka": 0, "memory": 0}
    while (now := time.monotonic()) - began < minutes * 60:
        shards = psutil.Process(producer.process.pid).children()
        for shard in shards:
            try:
                told["memory"] = max(told["memory"], shard.memory_info().rss >> 20)
            except psutil.Error:
                continue
        if shards and now >= next_kill:
            chance.choice(shards).kill()
            told["kills"] += 1
            next_kill = now + chance.uniform(*KILL_SECONDS)
        if cluster is not None and now >= next_kafka:
            cluster.kill(0) if told["kafka"] % 2 else cluster.nodes[0].stop()
            time.sleep(chance.uniform(0, 5))  # how long it is away, not a synchronisation
            cluster.start(0)
            told["kafka"] += 1
            next_kafka = time.monotonic() + KAFKA_SECONDS
            console.print(
                f"{(now - began) / 60:5.1f} min  {told['kills']} kills, Kafka restarted {told['kafka']} times"
            )
        time.sleep(0.2)  # the pace of looking
    return told


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a soak does."""

    minutes: float
    symbols: int
    """Of each shard."""
    rate: float
    shards: tuple[str, ...] = SHARDS


def run(plan: Plan, console: Console) -> bool:
    """The whole soak on a Kafka of its own; whether all was right."""
    with ExitStack() as exits:
        home = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        cluster = exits.enter_context(KafkaCluster(home / "kafka", 1))
        base = Settings(
            world="soak",
            home=home,
            kafka=KafkaSettings(bootstrap_servers=cluster.bootstrap_servers),
            registry=RegistrySettings(port=0),
        )
        base = exits.enter_context(registered(base))
        provision.apply(base)
        return burn(base, plan, cluster, console)


def burn(base: Settings, plan: Plan, cluster: KafkaCluster | None, console: Console) -> bool:
    """The soak in a world that is there; whether all was right."""
    copies = -(-plan.symbols * len(plan.shards) // len(offered(1)))
    names = sorted(offered(copies), key=lambda name: (not name.startswith("BTC"), name))
    symbols = {shard: names[i :: len(plan.shards)][: plan.symbols] for i, shard in enumerate(plan.shards)}
    with ExitStack() as exits:
        entries: dict[str, Any] = {}
        for shard in plan.shards:
            served = base.model_copy(
                update={
                    "simulator": simulator(shard, plan.rate, copies),
                    "producer": ProducerSettings(call_seconds=8),
                }
            )
            agent = exits.enter_context(Child(served, "simulate", "--port", "0"))
            entries[shard] = {"symbols": symbols[shard], "remote": {"address": agent.ready["address"]}}
        path = base.home / "shards.yaml"
        path.write_text(yaml.safe_dump(entries), "utf-8")
        wanted = ProducerSettings(
            source="remote", shards_file=path, poll_ms=250, call_seconds=10, patience_seconds=15, reread_seconds=10
        )
        exits.enter_context(Child(base, "processor"))
        with Child(base.model_copy(update={"producer": wanted}), "producer") as producer:
            told = torment(producer, cluster, plan.minutes, console)
            end = time.time_ns() // 1_000_000
            codec = connect(base)
            eventually(lambda: all(read_marks(base, codec).get(s, 0) > end for s in plan.shards), 300, every=3)
        eventually(lambda: processed(base, codec), 300, every=1)
        brokers = {shard: Broker.of(shard, plan.rate, copies, symbols[shard]) for shard in plan.shards}
        return report(base, codec, brokers, end=end - SETTLE_MS, told=told, console=console)


def read_marks(settings: Settings, codec: Codec) -> dict[str, int]:
    return read(settings, codec, TICKS_RAW.name).marks


def report(
    settings: Settings, codec: Codec, brokers: dict[str, Broker], *, end: int, told: dict[str, int], console: Console
) -> bool:
    """Print what was found; whether all was right."""
    log = read(settings, codec, TICKS_RAW.name)
    general: list[str] = []
    once = check_order(log, general)
    table = Table("shard", "symbols", "had", "in raw", "repeats", "late", "gaps", "lost in gaps", "wrong")
    rows = []
    for shard, broker in brokers.items():
        row = Row(shard)
        mine = log.ticks.filter(pl.col("symbol").is_in(broker.symbols))
        row.raw, row.corrections = len(mine), int(mine["correction"].sum())
        row.repeats = len(mine) - len(once.filter(pl.col("symbol").is_in(broker.symbols)))
        check_shard(row, log, once, broker, end)
        counts = (len(broker.symbols), row.ever, row.raw, row.repeats, row.corrections, row.gaps, row.lost)
        table.add_row(shard, *(f"{count:,}" for count in counts), "\n".join(row.wrong[:5]) or "nothing")
        rows.append(row)
    clean = read(settings, codec, TICKS_CLEAN.name).ticks
    rejected = read(settings, codec, TICKS_REJECTED.name).ticks
    both = pl.concat([frame for frame in (clean, rejected) if len(frame)])
    if both.select("symbol", "ts_event", "ordinal").is_duplicated().any():
        general.append("a tick is there twice behind the processor")
    if len(both) != len(once):
        general.append(f"{len(once):,} ticks in raw, {len(both):,} behind the processor")
    console.print(table)
    console.print(
        f"{len(once):,} ticks; {told['kills']} shards killed, Kafka restarted {told['kafka']} times; a shard took "
        f"{told['memory']} MB at the most; {len(clean):,} clean, {len(rejected):,} rejected; "
        f"{'; '.join(general) or 'each once, in order'}"
    )
    return not general and not any(row.wrong for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--symbols", type=int, default=50, help="of each shard")
    parser.add_argument("--rate", type=float, default=4)
    given = parser.parse_args()
    plan = Plan(minutes=given.minutes, symbols=given.symbols, rate=given.rate)
    sys.exit(0 if run(plan, Console()) else 1)


if __name__ == "__main__":
    main()
