"""Rates, backfill and import killed at any point: ``python -m tests.acceptance.history --broker kafka --kills 20``.

Each command runs once as it should, then in another world, where it is killed (-9) at a random moment again and again
until one run comes through, with a terminal whose calls fail, hang, break and find history cold. The two worlds have to
hold the same. The import's file has as many real quotes as are at hand (ARBITREX_TEST_DATA), written as a MetaTrader
export; without them the simulated market's.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from infra import provision
from infra.brokers.embedded import EmbeddedBroker
from infra.brokers.kafka import KafkaCluster
from infra.registry.client import connect
from infra.settings import KafkaSettings, RegistrySettings, Settings, StatusSettings
from infra.worlds import World
from producers.files.discovery import discover
from producers.simulated.market import Market
from schemas.records import Bar, Control, ControlKind, Tick
from tests.acceptance.oracle import DATA
from tests.support import ROOT, environment, read_all, registered

FAULTS = ("fail=0.1", "pipe@every20+1", "hang@every40+4", "cold=4")
FROM, TO = "2025-10-24T10:00", "2025-10-27T10:00"


@dataclass(frozen=True)
class Case:
    """One command; ``{world}`` stands for where it writes."""

    name: str
    arguments: tuple[str, ...]
    topic: str


@dataclass(frozen=True)
class Held:
    """What a world holds of a command."""

    records: Counter[bytes]
    """Ticks or bars as they are, and how often."""
    order: tuple[tuple[str, int, int], ...]
    """Ticks by symbol in their order."""
    gaps: frozenset[tuple[object, ...]]
    ends: frozenset[tuple[str, int]]
    """Each shard's last watermark."""


def held(settings: Settings, topic: str) -> Held:
    codec = connect(settings)
    records: Counter[bytes] = Counter()
    order, gaps, ends = [], set[tuple[object, ...]](), dict[str, int]()
    for message in read_all(settings, World(settings.world).topic(topic)):
        value = message.value() or b""
        record = codec.decode(value)
        if isinstance(record, (Tick, Bar)):
            records[value] += 1
        if isinstance(record, Tick):
            order.append((record.symbol, record.ts_event, record.ordinal))
        elif isinstance(record, Control) and record.kind == ControlKind.GAP:
            gaps.add((record.symbol, record.from_, record.to))
        elif isinstance(record, Control) and record.kind == ControlKind.WATERMARK:
            ends[record.shard] = record.time
    return Held(records, tuple(sorted(order, key=lambda row: row[0])), frozenset(gaps), frozenset(ends.items()))


def once(settings: Settings, case: Case, kill_after: float | None = None) -> bool:
    """Run the command; whether it came to its end before it was to be killed."""
    arguments = [argument.format(world=settings.world) for argument in case.arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *arguments],
        env=environment(settings),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, said = process.communicate(timeout=kill_after or 1_200)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    assert process.returncode == 0, said
    return True


def killed(settings: Settings, case: Case, kills: int, chance: random.Random, seconds: float) -> int:
    """Run it, killed at up to ``kills`` moments, then to the end; how often it was killed."""
    count = 0
    for _ in range(kills):
        count += not once(settings, case, chance.uniform(0.2, 0.8) * seconds)
    once(settings, case)
    return count


def export(path: Path) -> int:
    """Write a MetaTrader export; how many ticks."""
    folder = DATA / "forex" / "oanda" / "tick" / "eurusd"
    ticks = (
        np.concatenate([day.load().ticks for day in discover([folder]).days])
        if folder.exists()
        else np.concatenate(list(Market(7).ticks("EURUSD", 1_761_300_000_000, 1_761_386_400_000)))
    )
    with path.open("w", newline="") as file:
        file.write("<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n")
        for time_ms, bid, ask in ticks[["time_msc", "bid", "ask"]].tolist():
            moment = datetime.fromtimestamp(time_ms // 1_000, UTC)
            file.write(f"{moment:%Y.%m.%d\t%H:%M:%S}.{time_ms % 1_000:03}\t{bid}\t{ask}\t\t\t6\r\n")
    return len(ticks)


def cases(file: Path) -> list[Case]:
    span = ("--from", FROM, "--to", TO)
    named = ("--symbols", "EURUSD,BTC*")
    bars = ("--timeframes", "M1,H1,4H", "--workers", "2", "--world", "{world}")
    return [
        Case("rates", ("rates", *named, *span, *bars), "rates"),
        Case("backfill", ("backfill", *named, *span, "--into", "{world}"), "ticks.raw"),
        Case("import", ("import", str(file), "--feed", "f", "--zone", "UTC", "--into", "{world}"), "ticks.raw"),
    ]


def table(rows: Sequence[tuple[object, ...]]) -> Table:
    shown = Table("command", "kills", "records", "twice", "missing", "foreign", "order", "gaps", "end", "same")
    for row in rows:
        shown.add_row(*map(str, row))
    return shown


def compare(settings: Settings, case: Case, kills: int, seed: int) -> tuple[object, ...]:
    """A row of the table; its last is whether all is the same."""
    names = [f"{settings.world}-{case.name}-{way}" for way in ("clean", "killed")]
    worlds = [settings.model_copy(update={"world": name}) for name in names]
    for world in worlds:
        provision.apply(world, historical=True)
    began = time.monotonic()
    once(worlds[0], case)
    producer = settings.producer.model_copy(update={"call_seconds": 2.0})
    simulator = settings.simulator.model_copy(update={"faults": FAULTS})
    faulty = worlds[1].model_copy(update={"producer": producer, "simulator": simulator})
    count = killed(faulty, case, kills, random.Random(seed), time.monotonic() - began)
    clean, broken = (held(world, case.topic) for world in worlds)
    twice = sum(broken.records.values()) - len(broken.records) - sum(clean.records.values()) + len(clean.records)
    missing, foreign = len(clean.records - broken.records), len(broken.records.keys() - clean.records.keys())
    same = [clean.order == broken.order, clean.gaps == broken.gaps, clean.ends == broken.ends]
    told = ["same" if each else "OTHER" for each in same]
    whole = all(same) and not (twice or missing or foreign)
    return case.name, count, sum(clean.records.values()), twice, missing, foreign, *told, "yes" if whole else "NO"


def main() -> int:
    """Run it and print the table; 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as exits:
        home, embedded = Path(folder), options.broker == "embedded"
        broker: Any = exits.enter_context(EmbeddedBroker(home) if embedded else KafkaCluster(home, nodes=1))
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, embedded=embedded, partitions=4)
        settings = Settings(
            world="past", home=home, kafka=kafka, registry=RegistrySettings(port=0), status=StatusSettings(port=0)
        )
        settings = exits.enter_context(registered(settings))
        export(home / "EURUSD_2014.csv")
        for case in cases(home / "EURUSD_2014.csv"):
            rows.append(compare(settings, case, options.kills, options.seed))
            Console(width=140).print(table(rows))
    return 0 if all(row[-1] == "yes" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
