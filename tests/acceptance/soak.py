"""Four terminals with every fault, producers killed and Kafka restarted under them: what arrives is what brokers had.

    python -m tests.acceptance.soak --minutes 20 [--symbols 50] [--rate 2] [--seed 1] [--home FOLDER]

Each shard has a simulated terminal in a process of its own, behind an agent. In the first third of the time each fault
comes alone, then they come at random. Shards are killed (-9) every few seconds, all but the first, which lives on
so that its memory tells something. Afterwards ``ticks.raw`` without repeats must be what the brokers ever had, in
order, but for what lies in a gap; ``ticks.clean`` and ``ticks.rejected`` hold each of them once; and each gap must
begin with the last published tick and end with the first one that was not lost. Starts a real Kafka of one node (Java,
and KAFKA_HOME or Maven). FX sleeps at weekends: then only the coins' series say something.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra import kafka_log, provision
from infra.brokers.kafka import KafkaCluster
from infra.cli.drain import processed
from infra.registry.client import connect
from infra.settings import (
    KafkaSettings,
    ProducerSettings,
    RegistrySettings,
    Settings,
    StatusSettings,
    TerminalSettings,
)
from infra.topics import FEED_EVENTS, TICKS_RAW
from infra.worlds import World
from producers.simulated.faults import Faults
from producers.simulated.history import History
from producers.simulated.market import Market
from producers.simulated.terminal import Installation
from schemas.codec import Codec
from schemas.errors import ArbitrexError
from schemas.records import Control, ControlKind, EventKind, FeedEvent
from tests.acceptance.fire_faults import Component
from tests.acceptance.soak_check import Broker, Found, check
from tests.acceptance.soak_faults import MOVED_TO
from tests.acceptance.soak_fire import Fire, Plan, Told
from tests.support import Child, eventually, read_all, registered

STARTS: Final = 4.0
"""How many times what a start takes here passes before the first fault, at the least."""
SETTLE_MS: Final = 60_000
"""What is younger at the end may be late still."""
CALM_MS: Final = 30_000
"""How far the shards must come after the last fault: by then the last minutes of each series are read again."""
FLAT: Final = 1.25
FLAT_MB: Final = 40
FLAT_MINUTES: Final = 4
"""From this long on memory must be flat: no more in the last quarter than so many times the first's, and so many MB."""


def run(plan: Plan, home: Path, console: Console) -> bool:
    """The whole soak on a Kafka of its own; whether all was right."""
    with ExitStack() as exits:
        cluster = exits.enter_context(KafkaCluster(home / "kafka", 1))
        base = Settings(
            world="soak",
            home=home,
            kafka=KafkaSettings(bootstrap_servers=cluster.bootstrap_servers, partitions=8),
            registry=RegistrySettings(port=0),
            status=StatusSettings(port=0),
        )
        base = exits.enter_context(registered(base))
        provision.apply(base)
        return burn(base, plan, cluster, console)


def burn(base: Settings, plan: Plan, cluster: KafkaCluster | None, console: Console) -> bool:
    """The soak in a world that is there; whether all was right."""
    codec = connect(base)
    with ExitStack() as exits:
        progress = exits.enter_context(_progress(console))
        task = progress.add_task("starting", total=plan.seconds, about="")
        fire = Fire(base, plan, cluster)
        exits.callback(fire.stop)
        head = max(plan.head, STARTS * fire.await_processor())
        begin, began = time.time() + head, time.monotonic() + head
        wanted = _producer(base, plan, begin, exits)
        for told in _soak(wanted, fire, began):
            about = f"{sum(told.kills.values())} kills, Kafka restarted {told.kafka} times"
            progress.update(task, description="burning", completed=max(time.monotonic() - began, 0), about=about)
        end = time.time_ns() // 1_000_000
        off = "stays off" in (base.home / "producer.log").read_text("utf-8", "replace")
        progress.update(task, description="catching up")
        with _started(wanted):
            for about in _catch_up(base, codec, plan, fire, end + CALM_MS):
                progress.update(task, about=about)
        brokers = _brokers(plan, begin)
        found = Found({})
        progress.update(task, description="comparing", total=1.0, completed=0.0)
        for done, found in check(base, codec, brokers, end - SETTLE_MS):
            progress.update(task, completed=done, about=f"{found.ticks:,} ticks")
    if "b" in plan.shards and not off:
        found.wrong.append("the shard with another's account went on")
    if "d" in plan.shards and not any(MOVED_TO in text for text in _clocks(base, codec)):
        found.wrong.append("nobody was told that the server's clock was moved")
    if not sum(fire.told.kills.values()):
        found.wrong.append("no shard was killed")
    _judge(found, fire.told, plan)
    console.print(table(found, fire.told, plan))
    for shard, row in found.rows.items():
        for text in row.wrong[:20]:
            console.print(f"{shard}: {text}", style="red", markup=False, soft_wrap=True)
    for text in found.wrong:
        console.print(text, style="red", markup=False, soft_wrap=True)
    return found.right


def _producer(base: Settings, plan: Plan, begin: float, exits: ExitStack) -> Settings:
    """The agents, started at once, and the settings of the producer that uses them."""
    agents = {
        shard: Child(
            base.model_copy(
                update={"simulator": plan.simulator(shard, begin), "producer": ProducerSettings(call_seconds=8)}
            ),
            *("simulate", "--port", "0"),
        )
        for shard in plan.shards
    }
    with ThreadPoolExecutor(len(agents)) as pool:
        list(pool.map(exits.enter_context, agents.values()))
    entries: dict[str, Any] = {
        shard: {"symbols": plan.symbols_of(shard), "remote": {"address": agent.ready["address"]}}
        for shard, agent in agents.items()
    }
    if "b" in entries:
        entries["b"]["terminal"] = {"login": Installation().login}
    if "d" in entries:
        entries["d"]["zone"] = "auto"
    path = base.home / "shards.yaml"
    path.write_text(yaml.safe_dump(entries), "utf-8")
    producer = ProducerSettings(
        source="remote",
        shards_file=path,
        poll_ms=250,
        call_seconds=25,
        patience_seconds=plan.patience,
        reread_seconds=10,
        reread_minutes=6,
        terminal=TerminalSettings(timeout_seconds=20),
    )
    return base.model_copy(update={"producer": producer})


class _started:  # noqa: N801 - a context manager
    """A producer that runs within a block and is asked to stop at its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Component:
        self._component = Component(self._settings, "producer", self._settings.home / "producer.log")
        return self._component

    def __exit__(self, *_: object) -> None:
        self._component.ask_to_stop()
        try:
            self._component.process.wait(60)
        finally:
            self._component.process.kill()
            self._component.process.wait()


def _soak(wanted: Settings, fire: Fire, began: float) -> Iterator[Told]:
    with _started(wanted) as producer:
        eventually(lambda: producer.ready or producer.gone, 300, every=0.5)
        yield from fire.burn(producer, began)


def _catch_up(base: Settings, codec: Codec, plan: Plan, fire: Fire, reached: int) -> Iterator[str]:
    """Wait until all shards have published up to a moment and all of it is processed; what is waited for."""
    deadline = time.monotonic() + 600
    waiting = set(plan.shards)
    while waiting or not processed(base, codec):
        assert time.monotonic() < deadline, f"waiting for {waiting or 'the processor'}"
        yield f"waiting for {', '.join(sorted(waiting)) or 'the processor'}"
        time.sleep(1)
        fire.tend()
        waiting -= {shard for shard, mark in _marks(base, codec, reached).items() if mark > reached}


def _marks(settings: Settings, codec: Codec, since: int) -> dict[str, int]:
    """Each shard's last watermark, if it is of that time or later."""
    starts = kafka_log.since(settings.kafka, World(settings.world).topic(TICKS_RAW.name), since)
    found: dict[str, int] = {}
    for messages in kafka_log.read_to_end(settings.kafka, starts):
        for message in messages:
            if (message.key() or b"").startswith(b"@"):
                record = codec.decode(message.value() or b"")
                if isinstance(record, Control) and record.kind == ControlKind.WATERMARK:
                    found[record.shard] = max(record.time, found.get(record.shard, 0))
    return found


def _brokers(plan: Plan, begin: float) -> dict[str, Broker]:
    found = {}
    for shard in plan.shards:
        wanted = plan.simulator(shard, begin)
        faults = Faults.parse(wanted.faults, wanted.seed)
        history = History(Market(wanted.seed, wanted.rate, wanted.copies), faults)
        found[shard] = Broker(plan.symbols_of(shard), faults, history)
    return found


def _clocks(settings: Settings, codec: Codec) -> list[str]:
    records = [
        codec.decode(m.value() or b"") for m in read_all(settings, World(settings.world).topic(FEED_EVENTS.name))
    ]
    return [record.text for record in records if isinstance(record, FeedEvent) and record.kind == EventKind.CLOCK]


def _judge(found: Found, told: Told, plan: Plan) -> None:
    if plan.spared is None or plan.minutes < FLAT_MINUTES:
        return
    found.wrong += [f"shard {name} collected nothing" for name, row in found.rows.items() if 0 < row.ever <= row.lost]
    first, last = (told.quarter(plan.spared, number, plan.seconds) for number in (0, 3))
    if last > first * FLAT + FLAT_MB:
        found.wrong.append(f"shard {plan.spared} took {first:.0f} MB in the first quarter, {last:.0f} in the last")
    if len(told.processes[plan.spared]) > 1:
        found.wrong.append(f"shard {plan.spared} was started {len(told.processes[plan.spared])} times")


def table(found: Found, told: Told, plan: Plan) -> Table:
    """The result as people read it."""
    shown = Table(title=f"soak, {plan.minutes:g} minutes, seed {plan.seed}")
    for name in ("shard", "symbols", "killed", "brokers had", "in raw", "repeats", "late", "gaps", "lost in gaps"):
        shown.add_column(name, justify="right")
    shown.add_column("MB, by quarters", justify="right")
    shown.add_column("wrong", justify="right")
    for shard, row in found.rows.items():
        counts = (row.symbols, told.kills[shard], row.ever, row.raw, row.repeats, row.corrections, row.gaps, row.lost)
        memory = " ".join(f"{told.quarter(shard, number, plan.seconds):.0f}" for number in range(4))
        shown.add_row(shard, *(f"{count:,}" for count in counts), memory, str(len(row.wrong)))
    shown.caption = (
        f"{found.ticks:,} ticks = {found.clean:,} clean + {found.rejected:,} rejected; Kafka restarted {told.kafka} "
        f"times, the processor started again {told.processors} times; {len(found.wrong)} other differences"
    )
    return shown


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<11}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[about]}"),
        console=console,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--symbols", type=int, default=50, help="of each shard")
    parser.add_argument("--rate", type=float, default=2, help="ticks compared with a usual market's")
    parser.add_argument("--seed", type=int, default=1, help="decides faults and kills")
    parser.add_argument("--home", type=Path, help="a folder for data and logs, which are deleted otherwise")
    given = parser.parse_args()
    plan = Plan(minutes=given.minutes, symbols=given.symbols, rate=given.rate, seed=given.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = given.home or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        try:
            right = run(plan, home, Console(width=150))
        except ArbitrexError as error:
            sys.exit(f"soak: {error}")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
