"""Fire: workers killed, frozen, added and removed, Kafka nodes lost, while ticks pour in. One command, one table.

    python -m tests.acceptance.fire --minutes 10 [--seed 1]

A real Kafka of three nodes, three workers, five generators as fast as the workers take it. Afterwards every output is
compared with what an independent recomputation makes of ``ticks.raw``: every record of ``ticks.clean`` and
``ticks.rejected`` once and in order, every revision of every bar in all fields, the live bars, the progress, the events
and the dead letters. It ends with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra import kafka as clients
from infra import kafka_log, provision, topics
from infra.brokers.kafka import KafkaCluster
from infra.ports import free_port
from infra.registry.client import connect
from infra.settings import KafkaSettings, RegistrySettings, Settings
from infra.worlds import World
from schemas.codec import Codec
from tests.acceptance import fire_check, fire_oracle
from tests.acceptance.fire_check import Verdict
from tests.acceptance.fire_faults import FREEZE, JOIN, KILL, LEAVE, NODE, Component, Faults, Watch, Workers, plan
from tests.support import ROOT, environment, eventually

BACKLOG: Final = 60_000
"""Records that may wait for the workers before the generators wait."""
DRAIN_SECONDS: Final = 600.0
CALM_RECORDS: Final = 2_000
"""A second, while it is measured how long partitions stay dark: no more than leaves the processors time."""
AGAIN, GONE, LEFT = "killed, started again at once", "killed for good", "clean leave"


@dataclass
class Result:
    """What happened and what was found."""

    minutes: float
    seed: int
    workers: int
    generators: int
    partitions: int
    rate: float
    losses: int
    """How often each loss of a worker is measured by itself."""
    verdict: Verdict = field(default_factory=Verdict)
    faults: Counter[str] = field(default_factory=Counter)
    transactions: int = 0
    seconds: float = 0.0
    drained: float = 0.0
    dark: list[float] = field(default_factory=list)
    """After each kill, how long the partition that waited longest was silent."""
    calm: dict[str, list[float]] = field(default_factory=dict)
    """The same before the fire, one fault at a time, by what befell the worker."""
    longest: float = 0.0
    exits: Counter[str] = field(default_factory=Counter)
    """Why workers left by themselves."""


class Generators:
    """Processes that write ``ticks.raw``, each a shard."""

    def __init__(self, settings: Settings, count: int, seed: int, rate: float, partitions: int) -> None:
        command = [sys.executable, "-m", "tests.acceptance.fire_generator"]
        self._processes = [
            subprocess.Popen(
                [*command, str(number), str(seed), str(rate), str(partitions)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(settings),
                cwd=ROOT,
                text=True,
                bufsize=1,
            )
            for number in range(count)
        ]
        self._written = [0] * count
        self._readers = [threading.Thread(target=self._read, args=(number,)) for number in range(count)]
        for reader in self._readers:
            reader.start()

    @property
    def written(self) -> int:
        """Records that Kafka acknowledged."""
        return sum(self._written)

    def allow(self, total: int) -> None:
        """All of them together may go on up to so many records."""
        for process in self._processes:
            assert process.stdin is not None
            assert process.poll() is None, "a generator ended"
            print(total // len(self._processes), file=process.stdin)

    def finish(self) -> None:
        """Let them end what they are at."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process, reader in zip(self._processes, self._readers, strict=True):
            assert process.wait(180) == 0
            reader.join()
            assert process.stdout is not None
            process.stdout.close()

    def kill(self) -> None:
        for process in self._processes:
            process.kill()

    def _read(self, number: int) -> None:
        stdout = self._processes[number].stdout
        assert stdout is not None
        for line in stdout:
            self._written[number] = int(line)


def run(
    cluster: KafkaCluster,
    home: Path,
    *,
    minutes: float,
    seed: int,
    workers: int = 3,
    generators: int = 5,
    rate: float = 0.0,
    partitions: int = 12,
    calm: int = 0,
    console: Console | None = None,
) -> Result:
    """Burn and check.

    ``rate``: records a second of each generator, 0 for as many as the workers take. ``calm``: how often each loss of a
    worker is measured by itself before.
    """
    port = free_port()
    settings = Settings(
        world=f"fire-{port}",
        home=home,
        kafka=KafkaSettings(bootstrap_servers=cluster.bootstrap_servers, partitions=partitions),
        registry=RegistrySettings(url=f"http://127.0.0.1:{port}", port=port),
    )
    result = Result(minutes, seed, workers, generators, partitions, rate, calm)
    provision.apply(settings, historical=True)
    _keep_revisions(settings)
    with _Registry(settings), _progress(console) as progress:
        codec = connect(settings)
        _burn(settings, codec, cluster, result, progress)
        task = progress.add_task("checking", total=partitions, about="")
        for partition in range(partitions):
            raw = fire_check.raw(settings, partition)
            expected = fire_oracle.recompute(raw, codec)
            result.verdict.add(
                fire_check.compare(raw, expected, fire_check.read(settings, codec, partition), partition)
            )
            progress.update(task, advance=1, about=f"{result.verdict.records:,} records")
    return result


class _Registry:
    """The embedded registry, started again when it is gone: it may lose its Kafka node."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._over = threading.Event()
        self._tending = threading.Thread(target=self._tend)

    def __enter__(self) -> None:
        self._tending.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._tending.join()

    def _tend(self) -> None:
        running = self._start()
        while not self._over.wait(0.5):
            if running.gone:
                running = self._start()
        running.kill()

    def _start(self) -> Component:
        return Component(self._settings, "registry", self._settings.home / "registry.log")


def _burn(settings: Settings, codec: Codec, cluster: KafkaCluster, result: Result, progress: Progress) -> None:
    chance = random.Random(result.seed)
    raw = World(settings.world).topic(topics.TICKS_RAW.name)
    with ExitStack() as exits:
        watch = Watch(settings, codec)
        exits.callback(watch.stop)
        workers = Workers(settings, result.workers, chance)
        exits.callback(workers.stop)
        generators = Generators(settings, result.generators, result.seed, result.rate, result.partitions)
        exits.callback(generators.kill)
        generators.allow(10 * CALM_RECORDS if result.losses else BACKLOG)
        eventually(lambda: len(watch.moved) == watch.partitions, 300)
        result.calm = _calm(workers, generators, watch, result.losses, progress)
        faults = Faults(plan(result.minutes, result.seed), workers, cluster, chance)
        task = progress.add_task("burning", total=result.minutes * 60, about="")

        def tend() -> int:
            workers.tend()
            faults.tend()
            done = sum(watch.next_offset.values())
            generators.allow(done + BACKLOG)
            happened = Counter(fault.kind for fault in faults.done)
            about = f"{done:,} records, {happened[KILL]} kills, {happened[FREEZE]} freezes, {happened[NODE]} nodes lost"
            progress.update(task, completed=time.monotonic() - faults.began, about=about)
            return done

        while time.monotonic() - faults.began < result.minutes * 60 or not faults.over:
            tend()
            time.sleep(0.1)  # the pace of looking, not a synchronisation
        over = time.monotonic()
        generators.finish()
        ends = kafka_log.ends(settings.kafka, raw)

        def drained() -> bool:
            workers.tend()
            faults.tend()
            return all(watch.next_offset[partition] >= end for partition, end in ends.items())

        task = progress.add_task("draining", total=None, about="")
        eventually(drained, DRAIN_SECONDS, every=0.2)
        result.seconds, result.drained = over - faults.began, time.monotonic() - over
        _tell(result, faults, watch, workers, over)


def _calm(
    workers: Workers, generators: Generators, watch: Watch, times: int, progress: Progress
) -> dict[str, list[float]]:
    """How long the partition that waits longest is dark when a worker goes, one at a time, with time to spare."""
    found: dict[str, list[float]] = {AGAIN: [], GONE: [], LEFT: []}
    task = progress.add_task("calm", total=times * len(found), about="")
    began, allowed, count = time.monotonic(), 10 * CALM_RECORDS, len(workers.running)

    def all_moved(since: float) -> bool:
        workers.tend()
        generators.allow(allowed + int(CALM_RECORDS * (time.monotonic() - began)))
        return len(watch.silences(since, float("inf"))) == watch.partitions

    def whole() -> bool:
        return all_moved(time.monotonic() - 1) and sum(worker.ready for worker in workers.running) == count

    for what in [*found] * times:
        eventually(whole, 300)
        victim = workers.one()
        assert victim is not None
        gone = time.monotonic()
        if what == LEFT:
            workers.remove(victim)
        else:
            if what == GONE:
                workers.running.remove(victim)
            victim.kill()
        eventually(partial(all_moved, gone), 300)
        found[what].append(max(watch.silences(gone, float("inf"))))
        if what != AGAIN:
            workers.add()
        progress.update(task, advance=1, about=f"{what}: {found[what][-1]:.1f} s dark")
    return found


def _tell(result: Result, faults: Faults, watch: Watch, workers: Workers, over: float) -> None:
    result.faults.update(fault.kind for fault in faults.done)
    result.transactions = watch.transactions
    result.longest = watch.longest(faults.began, over)
    kills = [fault.happened for fault in faults.done if fault.kind == KILL]
    result.dark = [max(watch.silences(moment, float("inf")), default=0.0) for moment in kills]
    for log in workers.logs:
        result.exits.update(_reasons(log))


def _reasons(log: Path) -> list[str]:
    """Why a worker left, in short, and any traceback, which there should be none of."""
    lines = log.read_text("utf-8", "replace").splitlines()
    told = [line.removeprefix("arbitrex: ") for line in lines if line.startswith(("arbitrex: ", "Traceback"))]
    return [re.sub(r"\d[\d.:,]*", "#", re.split(r"[(;]|, the last", text)[0]).strip()[:70] for text in told]


def _keep_revisions(settings: Settings) -> None:
    """Have no segment of ``bars`` closed, so that compaction takes none of the revisions to be counted.

    The other compacted topics stay as they are.
    """
    name = World(settings.world).topic(topics.BARS.name)
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in (("segment.ms", str(10**12)), ("segment.bytes", str(2**30)))
    ]
    admin = clients.admin(settings.kafka)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[about]}"),
        console=console,
        disable=console is None,
    )


def table(result: Result) -> Table:
    """The result as people read it."""
    verdict, shown = result.verdict, Table(title=f"fire, {result.minutes:g} minutes, seed {result.seed}")
    shown.add_column("what")
    shown.add_column("found", justify="right")
    setting = f"{result.workers}, {result.generators}, {result.partitions}"
    rate = verdict.records / (result.seconds + result.drained) if result.seconds else 0
    rows = [
        ("workers, generators, partitions", setting),
        ("kill -9", str(result.faults[KILL])),
        ("SIGSTOP past the session time-out, SIGCONT", str(result.faults[FREEZE])),
        ("Kafka nodes killed and brought back", str(result.faults[NODE])),
        ("workers added, clean leaves", f"{result.faults[JOIN]}, {result.faults[LEAVE]}"),
        ("workers that left by themselves, and why", str(result.exits.total())),
        *((f"  {reason}", str(count)) for reason, count in result.exits.most_common(8)),
        ("records of ticks.raw", f"{verdict.records:,}"),
        ("  a second, under fire and drained", f"{rate:,.0f}"),
        ("transactions", f"{result.transactions:,}"),
        ("clean + rejected + repeats = ticks", f"{verdict.clean:,} + {verdict.rejected:,} + {verdict.repeats:,}"),
        ("dead letters", f"{verdict.dead:,}"),
        ("bars, of them revisions, partial", f"{verdict.bars:,}, {verdict.revisions:,}, {verdict.partial:,}"),
        ("lost", str(verdict.lost)),
        ("doubled, or not as recomputed", str(verdict.doubled)),
        ("other differences", str(len(verdict.wrong))),
        *((f"dark, calm, {what}: median, longest", _seconds(dark)) for what, dark in result.calm.items() if dark),
        ("dark after a kill under fire: median, longest", _seconds(result.dark)),
        ("longest silence of a partition", f"{result.longest:.1f} s"),
        ("drained after the fire in", f"{result.drained:.0f} s"),
    ]
    for row in rows:
        shown.add_row(*row)
    return shown


def _seconds(durations: list[float]) -> str:
    return f"{statistics.median(durations):.1f} s, {max(durations):.1f} s" if durations else "-"


def main() -> int:
    """Burn, check, print the table; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it burns (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="decides the streams and the faults (default 1)")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--generators", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="ticks/s of each generator; 0: as the workers take them"
    )
    parser.add_argument("--calm", type=int, default=4, help="losses of each kind measured before the fire (default 4)")
    parser.add_argument("--keep", type=Path, help="a folder for the logs, which are deleted otherwise")
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = options.keep or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        with KafkaCluster(Path(folder) / "kafka", nodes=3) as cluster:
            result = run(
                cluster,
                home,
                minutes=options.minutes,
                seed=options.seed,
                workers=options.workers,
                generators=options.generators,
                rate=options.rate,
                partitions=options.partitions,
                calm=options.calm,
                console=console,
            )
    console.print(table(result))
    for difference in result.verdict.wrong:
        console.print(difference, style="red", markup=False, soft_wrap=True)
    return 1 if result.verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
