"""One world replayed in several ways: the values of its bars must be the same bytes. One command, one table.

    python -m tests.acceptance.reproducible [--broker embedded|kafka] [--speed 4000]

The real Lean days are imported and processed. Then they are replayed into worlds of their own: as fast as can be, with
processors that fetch few records at a time, with processors that are killed, and paced. Every bar, by key and revision,
and every clean tick, in order within its partition, must be what the first world has.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from infra import provision, topics, world_admin
from infra.brokers.embedded import EmbeddedBroker
from infra.brokers.kafka import KafkaCluster
from infra.kafka_log import beginnings, ends, read_to_end
from infra.process import MANAGED
from infra.registry.client import connect
from infra.settings import KafkaSettings, RegistrySettings, Settings, StatusSettings
from infra.topics import Topic
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Bar
from tests.acceptance import census, oracle
from tests.acceptance.lean import processed
from tests.support import ROOT, environment, eventually, registered

_PROCESSOR = "import processors.transport as t; t.BATCH_RECORDS = {}; from infra.cli.main import main; main()"
USUAL = 20_000


@dataclass(frozen=True)
class Way:
    """How a world is written and processed."""

    name: str
    speed: str | None = "max"
    """None: it is there already."""
    batch: int = USUAL
    """Records that a processor fetches at most at once."""
    kills: int = 0
    workers: int = 1


@dataclass
class Row:
    """What came of it."""

    way: Way
    seconds: float
    records: int
    transactions: int
    bars: list[tuple[bytes, int, bytes]]
    """Key, revision, value."""
    clean: int
    """How many ticks passed."""
    ticks: dict[int | None, str]
    """SHA-256 of each partition's clean ticks in order: key, value, time."""

    @property
    def digest(self) -> str:
        """Of keys, revisions and values of all bars."""
        return hashlib.sha256(repr(self.bars).encode()).hexdigest()[:12]

    def same(self, other: Row) -> bool:
        """Whether bars and clean ticks are the other's."""
        return self.bars == other.bars and self.ticks == other.ticks


class Workers:
    """Processors that are started again whenever they are gone; a context manager."""

    def __init__(self, settings: Settings, way: Way) -> None:
        self._settings, self._way = settings, way
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._running = [self._start() for _ in range(self._way.workers)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running:
            _close(worker)
        for worker in self._running:
            try:
                worker.wait(20)
            finally:
                worker.kill()
                worker.wait()

    def kill(self, which: int) -> None:
        """Kill one, and start it again."""
        self._running[which].kill()
        self._running[which].wait()
        self.tend()

    def tend(self) -> None:
        """Start again what has left, as the supervisor would."""
        for which, worker in enumerate(self._running):
            if worker.poll() is not None:
                _close(worker)
                self._running[which] = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", _PROCESSOR.format(self._way.batch), "processor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment(self._settings) | {MANAGED: "1"},
            cwd=ROOT,
        )


def follow(settings: Settings, codec: Codec, source: str, way: Way) -> Row:
    """Write the settings' world from ``source`` unless it is there, process it, and read what came of it."""
    began = time.monotonic()
    chance = random.Random(5)
    if way.speed:
        provide(settings, source)
    with Workers(settings, way) as workers, _replay(settings, source, way) as writing:
        for _ in range(way.kills):
            before = _transactions(settings)
            eventually(lambda: _transactions(settings) > before + 1, 120)  # noqa: B023 - called at once
            assert not processed(settings, codec) or (writing and writing.poll() is None), "nothing is left to disturb"
            workers.kill(chance.randrange(way.workers))

        def done() -> bool:
            workers.tend()
            return (writing is None or writing.poll() is not None) and processed(settings, codec)

        eventually(done, 1_800, every=0.5)
        assert writing is None or writing.returncode == 0
    return Row(way, time.monotonic() - began, *_found(settings, codec))


def provide(settings: Settings, source: str) -> None:
    """The topics of a world to replay into, so that processors can wait there."""
    partitions = provision.partitions(settings.model_copy(update={"world": source}))
    kafka = settings.kafka.model_copy(update={"partitions": partitions})
    provision.apply(settings.model_copy(update={"kafka": kafka}), historical=True)


@contextlib.contextmanager
def _replay(settings: Settings, source: str, way: Way) -> Iterator[subprocess.Popen[bytes] | None]:
    if way.speed is None:
        yield None
        return
    options = ("--source", source, "--into", settings.world, "--speed", way.speed)
    with subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "replay", *options], env=environment(settings), cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _found(settings: Settings, codec: Codec) -> tuple[int, int, Any, int, Any]:
    bars = []
    for message in census.messages(settings, topics.BARS):
        key, value = message.key(), message.value()
        assert key is not None
        assert value is not None
        bar = codec.decode(value)
        assert isinstance(bar, Bar)
        bars.append((key, bar.revision, value))
    hashes: dict[int | None, Any] = {}
    clean, topic = 0, World(settings.world).topic(topics.TICKS_CLEAN.name)
    for messages in read_to_end(settings.kafka, beginnings(settings.kafka, topic)):
        clean += len(messages)
        for message in messages:
            tick = repr((message.key(), message.value(), message.timestamp()))
            hashes.setdefault(message.partition(), hashlib.sha256()).update(tick.encode())
    ticks = {partition: found.hexdigest() for partition, found in hashes.items()}
    return _end(settings, topics.TICKS_RAW), _transactions(settings), sorted(bars), clean, ticks


def _transactions(settings: Settings) -> int:
    """Committed by the processors: each writes the progress of its partition."""
    return len(census.messages(settings, topics.PROGRESS))


def _end(settings: Settings, topic: Topic) -> int:
    return sum(ends(settings.kafka, World(settings.world).topic(topic.name)).values())


def _close(worker: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, if it still runs."""
    assert worker.stdin is not None
    worker.stdin.close()


def table(rows: Sequence[Row]) -> Table:
    """The rows as people read them."""
    shown = Table()
    for column in ("way", "speed", "fetch", "kills", "seconds", "raw records", "transactions", "clean", "bars"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    shown.add_column("sha256 of bars")
    shown.add_column("as the first")
    for row in rows:
        way = row.way
        numbers = (way.speed or "-", way.batch, way.kills, round(row.seconds), row.records, row.transactions)
        results = (row.clean, len(row.bars), row.digest, "yes" if row.same(rows[0]) else "NO")
        shown.add_row(way.name, *map(str, (*numbers, *results)))
    return shown


def lean_days(settings: Settings) -> None:
    """Import all feeds into the settings' world."""
    for feed in oracle.FEEDS:
        options = ["--feed", feed.name, "--zone", feed.zone, "--symbol", feed.symbol, "--into", settings.world]
        options += ["--calendar", feed.hours]
        subprocess.run(
            [sys.executable, "-m", "infra.cli", "import", *map(str, feed.tick_files), *options],
            env=environment(settings),
            cwd=ROOT,
            check=True,
            timeout=600,
        )


def main() -> int:
    """Run the check and print the table; 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--speed", default="4000", help="of the paced replay; nine days last 195 s at 4000")
    options = parser.parse_args()
    ways = (
        Way("as imported", None),
        Way("replayed"),
        Way("small fetches", batch=700),
        Way("killed workers", batch=3_000, kills=8, workers=2),
        Way("paced", speed=options.speed),
    )
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as exits:
        home = Path(folder)
        embedded = options.broker == "embedded"
        broker: Any = EmbeddedBroker(home) if embedded else KafkaCluster(home, nodes=1)
        exits.enter_context(broker)
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, embedded=embedded, partitions=4)
        settings = Settings(
            world="lean", home=home, kafka=kafka, registry=RegistrySettings(port=0), status=StatusSettings(port=0)
        )
        settings = exits.enter_context(registered(settings))
        lean_days(settings)
        for number, way in enumerate(ways):
            world = settings.model_copy(update={"world": f"lean-{number}" if number else "lean"})
            rows.append(follow(world, connect(world), "lean", way))
            Console(width=180).print(table(rows))
            if number:
                world_admin.drop_from_kafka(world)
    return 0 if all(row.same(rows[0]) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
