"""The lake's sink under fire: `python -m tests.acceptance.sinks [--store disk|s3] [--kills 50] [--seed 1] [--nodes 3]`.

A real Kafka, of whose nodes, where it has three, one at a time is killed and comes back; two sinks of one group, a
rival of another, an optimizer without rest, two readers. Meanwhile: kill -9, SIGSTOP past the session time-out, writes
that fail halfway as on a full disk, an S3 server that refuses and loses answers. Then every offset must be in the lake
exactly once, no reader may have seen a double row or an error, and nobody may have ended because a node was lost.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl
import psutil
from confluent_kafka import KafkaException
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed

from benchmarks.stage import Stage, stage
from infra import kafka as clients
from infra.brokers.kafka import KafkaCluster
from infra.kafka_log import ends as topic_ends
from infra.lake.layout import BARS, REJECTED, TABLES, TICKS
from infra.lake.query import connect
from infra.lake.storage import revealed
from infra.lake.tables import ends, open_table
from infra.process import MANAGED
from infra.settings import LakeSettings, Settings
from infra.worlds import World
from schemas.errors import ArbitrexError
from sinks.verification import Verdict, verify
from tests.acceptance.flaky_s3 import FlakyS3
from tests.sinks import servers
from tests.sinks.records import SYMBOLS, bar, tick
from tests.support import ROOT, environment, eventually

SESSION_MS: Final = 6_000
AWAY: Final = "Kafka away"
_NODE_SHARE: Final = 0.2
_NODE_SECONDS: Final = 8.0
"""How long a killed node stays away: longer than Kafka waits for it before others lead."""
_DRAIN_SECONDS: Final = 240
SINK: Final = ("-m", "infra.cli", "sink", "lake")
WORKER: Final = ("-m", "tests.acceptance.sink_worker")
PROGRAMS: Final = {"sink-a": SINK, "sink-b": SINK, "rival": (*WORKER, "rival"), "optimizer": (*WORKER, "optimizer")}


@dataclass
class Report:
    """What happened, and what was found."""

    done: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    """Processes that ended by themselves, by why."""
    seen: list[str] = field(default_factory=list)
    """What a reader must not see."""
    reads: int = 0
    rewritten: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    drained: bool = False

    @property
    def wrong(self) -> bool:
        ended = self.left["?"] or self.left[AWAY]
        return bool(self.seen or [each for each in self.verdicts if each.wrong] or not self.drained or ended)


class Programs:
    """The processes under fire; who ends is started again."""

    def __init__(self, settings: Settings, logs: Path, report: Report) -> None:
        self._environment = environment(settings) | {MANAGED: "1", "ARBITREX_LOG__FORMAT": "json"}
        self._logs = logs
        self._report = report
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def keep(self, names: Sequence[str]) -> None:
        """Start whoever does not run."""
        with self._lock:
            for name in names:
                process = self._running.get(name)
                if process is None or process.poll() is not None:
                    if process is not None and process.stdin is not None:
                        process.stdin.close()
                    if process is not None and process.returncode not in (-signal.SIGKILL, 0):
                        self._report.left[self._why(name)] += 1
                    self._start(name)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def stop(self, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                process = self._running.pop(name, None)
                if process is None:
                    continue
                process.send_signal(signal.SIGCONT)
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def rewritten(self) -> int:
        """Files that the optimizer has put together."""
        lines = (self._logs / "optimizer.out").read_text("utf-8").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("rewritten"))

    def _start(self, name: str) -> None:
        with (self._logs / f"{name}.out").open("ab") as out, (self._logs / f"{name}.err").open("ab") as err:
            self._running[name] = subprocess.Popen(
                [sys.executable, *PROGRAMS[name]],
                stdin=subprocess.PIPE, stdout=out, stderr=err, env=self._environment, cwd=ROOT,
            )  # fmt: skip

    def _why(self, name: str) -> str:
        last = (self._logs / f"{name}.err").read_text("utf-8", "replace").strip().splitlines()[-1:]
        text = last[0] if last else ""
        for word, reason in (("taken over", "fenced"), ("cannot be", "store away"), ("Kafka", AWAY)):
            if word in text:
                return reason
        self._report.seen.append(f"{name} ended, nobody knows why: {text}")
        return "?"


def feed(stage: Stage, stop: threading.Event, rate: int) -> None:
    """Ticks, rejected ticks and bars in transactions, one in ten of which is aborted."""
    world, codec = World(stage.settings.world), stage.codec
    producer = clients.producer(stage.settings.kafka, transactional_id=f"{world.name}-fire")
    producer.init_transactions(30)
    number = 0
    for turn in itertools.count(1):
        if stop.is_set():
            return
        producer.begin_transaction()
        first = number
        for _ in range(rate // 5):
            symbol = SYMBOLS[number % 4]
            now = int(time.time() * 1_000)
            for table, record in (
                (TICKS, tick(number, symbol)),
                (REJECTED, tick(number, symbol)),
                (BARS, bar(number, symbol)),
            ):
                topic = world.topic(table.topic.name)
                partition = clients.partition_for(symbol, 4)
                key = f"{symbol}|{number}" if table is BARS else symbol
                producer.produce(topic, codec.encode(record), key.encode(), partition, timestamp=now)
            number += 1
        try:
            if turn % 10:
                _repeat(producer.commit_transaction)
            else:
                producer.flush(30)  # so that there is something to abort
                _repeat(producer.abort_transaction)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            _repeat(producer.abort_transaction)
            number = first
        stop.wait(0.2)


def feed_till_stopped(stage: Stage, stop: threading.Event, rate: int, report: Report) -> None:
    """Feed, and note when that ended by itself: then little was shown."""
    try:
        feed(stage, stop, rate)
    except Exception as error:  # noqa: BLE001 - whatever it was
        report.seen.append(f"the feed ended: {error}"[:300])


def _repeat(end: Callable[[float], None]) -> None:
    """End a transaction, again while a node is lost."""
    while True:
        try:
            return end(30)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise


def watch(settings: Settings, stop: threading.Event, report: Report) -> None:
    """Read as users do, and note what must not be."""
    lake, options, most = settings.lake, settings.lake.storage_options, 0
    while not stop.is_set():
        for table in (TICKS, BARS):
            try:
                handle = open_table(settings.lake_uri, options, table)
                if handle is None:
                    continue
                rows = pl.scan_delta(handle, storage_options=revealed(options)).collect()
                doubled = rows.height - rows.select("source_partition", "source_offset").n_unique()
                if doubled:
                    report.seen.append(f"{doubled} double rows in {table.name} at version {handle.version()}")
                if table is TICKS and rows.height < most:
                    report.seen.append(f"{rows.height} ticks after {most}")
                most = max(most, rows.height) if table is TICKS else most
                with connect(settings.lake_uri, lake.storage_options, [settings.world]) as connection:
                    sql = "select count(*) - count(distinct (source_partition, source_offset)) from ticks"
                    (found,) = connection.execute(sql).fetchall()
                if found[0]:
                    report.seen.append(f"DuckDB sees {found[0]} double ticks")
                report.reads += 1
            except Exception as error:  # noqa: BLE001 - every error is one too many
                report.seen.append(f"{type(error).__name__}: {error}"[:300])
        stop.wait(0.5)


def fire(
    programs: Programs,
    report: Report,
    kills: int,
    chance: random.Random,
    *,
    flaky: FlakyS3 | None,
    cluster: KafkaCluster,
) -> None:
    """Until so many processes were killed."""
    names = list(PROGRAMS)
    whole = threading.Lock()
    """Held while a node is lost."""
    helpers: list[threading.Thread] = []
    while report.done["kill -9"] < kills:
        programs.keep(names)
        time.sleep(chance.uniform(0.5, 3.5))
        name = chance.choice([*names, "sink-a", "sink-b"])
        if len(cluster.nodes) > 1 and chance.random() < _NODE_SHARE and whole.acquire(blocking=False):
            helper = threading.Thread(target=_lose, args=(cluster, chance.randint(1, len(cluster.nodes)), whole))
            helper.start()
            helpers.append(helper)
            report.done["Kafka nodes killed"] += 1
            continue
        what = chance.choices(["kill -9", "SIGSTOP past the time-out", "full disk"], [8, 1, 1])[0]
        if what == "full disk" and flaky is not None:
            what = "S3 errors"
        pid = programs.pid(name)
        if not psutil.pid_exists(pid):
            continue
        report.done[what] += 1
        if what == "kill -9":
            os.kill(pid, signal.SIGKILL)
            continue
        helper = threading.Thread(target={"full disk": _full, "S3 errors": _s3}.get(what, _freeze), args=(pid, flaky))
        helper.start()
        helpers.append(helper)
    for helper in helpers:
        helper.join()


_GONE: Final = (ProcessLookupError, psutil.Error)
"""Whoever was killed meanwhile is not missed."""


def _freeze(pid: int, _: object) -> None:
    with suppress(*_GONE):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(SESSION_MS / 1_000 + 3)
        os.kill(pid, signal.SIGCONT)


def _lose(cluster: KafkaCluster, number: int, whole: threading.Lock) -> None:
    """Kill a node, and bring it back."""
    try:
        cluster.kill(number)
        time.sleep(_NODE_SECONDS)
        cluster.start(number)
    finally:
        whole.release()


def _full(pid: int, _: object) -> None:
    """Each of the process's writes fails beyond the first 2,000 bytes of a file: half files, as on a full disk."""
    with suppress(*_GONE):
        process = psutil.Process(pid)
        before = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (2_000, before[1]))
        time.sleep(4)
        process.rlimit(psutil.RLIMIT_FSIZE, before)


def _s3(_: int, flaky: FlakyS3 | None) -> None:
    assert flaky is not None
    flaky.failing.set()
    time.sleep(4)
    flaky.failing.clear()


def run(store: str, kills: int, seed: int, nodes: int = 1, rate: int = 400) -> Report:
    report, chance = Report(), random.Random(seed)
    with ExitStack() as stack:
        found = stack.enter_context(stage(4, nodes))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flaky = None
        quick = {"rotate_seconds": 0.7, "rotate_rows": 3_000, "session_timeout_ms": SESSION_MS}
        lake = LakeSettings(**quick)
        if store == "s3":
            place = servers.s3_lake(f"fire-{seed}-{os.getpid()}")
            flaky = stack.enter_context(FlakyS3(place["storage_options"]["AWS_ENDPOINT_URL"], seed))
            place["storage_options"]["AWS_ENDPOINT_URL"] = flaky.url
            lake = LakeSettings(**quick, **place)
        settings = found.settings.model_copy(update={"lake": lake})
        programs = Programs(settings, logs, report)
        feeding, reading = threading.Event(), threading.Event()
        threads = [
            threading.Thread(target=feed_till_stopped, args=(found, feeding, rate, report)),
            threading.Thread(target=watch, args=(settings, reading, report)),
        ]
        stack.callback(programs.stop, list(PROGRAMS))
        for thread in threads:
            thread.start()
        try:
            fire(programs, report, kills, chance, flaky=flaky, cluster=found.cluster)
        finally:
            feeding.set()
            threads[0].join()
        programs.stop(["sink-b", "rival"])
        report.drained = _drained(settings, lambda: programs.keep(["sink-a", "optimizer"]))
        programs.stop(["sink-a", "optimizer"])
        reading.set()
        threads[1].join()
        report.rewritten = programs.rewritten()
        report.verdicts = list(verify(settings, found.codec, threading.Event()))
        if flaky is not None:
            report.done |= Counter({"requests refused": flaky.refused, "answers lost": flaky.lost})
        report.done["data files left to a vacuum"] = _orphans(settings)
    return report


def _drained(settings: Settings, keep: Callable[[], None]) -> bool:
    def there() -> bool:
        keep()
        lake = ends(settings.lake_uri, settings.lake.storage_options, settings.world, 4)
        return all(
            lake[topic].get(number, 0) == end
            for topic in (World(settings.world).topic(table.topic.name) for table in TABLES)
            for number, end in topic_ends(settings.kafka, topic).items()
        )

    try:
        return eventually(there, _DRAIN_SECONDS, every=0.5)
    except AssertionError:
        return False


def _orphans(settings: Settings) -> int:
    if "://" in settings.lake_uri:
        return 0
    named: set[str] = set()
    for table in TABLES:
        handle = open_table(settings.lake_uri, None, table)
        named |= {Path(uri).name for uri in handle.file_uris()} if handle else set()
    return sum(path.name not in named for path in Path(settings.lake_uri).rglob("p*-*.parquet"))


def show(report: Report, console: Console) -> None:
    table = Printed("what", "found", box=SIMPLE_HEAD)
    for what, count in sorted(report.done.items()):
        table.add_row(what, f"{count:,}")
    table.add_row("two sinks at one partition: one of them fenced", f"{report.left['fenced']:,}")
    left = ", ".join(f"{count} {why}" for why, count in report.left.items() if why != "fenced")
    table.add_row("ended by themselves for another reason", left or "none")
    table.add_row("files put together meanwhile", f"{report.rewritten:,}")
    table.add_row("reads by polars and DuckDB", f"{report.reads:,}")
    table.add_row("readers saw an error or a double row", f"{len(report.seen)}")
    for name in ("records", "rows", "missing", "double", "strange"):
        table.add_row(name, f"{sum(getattr(each, name) for each in report.verdicts):,}")
    table.add_row("drained", "yes" if report.drained else "no")
    console.print(table)
    for line in report.seen[:10]:
        console.print(line, style="red", markup=False)
    for each in report.verdicts:
        if each.wrong:
            console.print(f"{each.topic}/{each.partition}: {each.examples}", style="red", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["disk", "s3"], default="disk")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, choices=[1, 3], default=1, help="of Kafka")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        report = run(given.store, given.kills, given.seed, given.nodes)
    except ArbitrexError as error:
        sys.exit(f"arbitrex: {error}")
    console = Console()
    show(report, console)
    console.print(f"{given.store}, Kafka of {given.nodes}, seed {given.seed}, {time.monotonic() - began:.0f} s")
    sys.exit(report.wrong)


if __name__ == "__main__":
    main()
