"""A real Kafka of one node, an embedded registry and a topic full of ticks: what the benchmarks of streams run on."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from confluent_kafka import TopicPartition
from numpy.typing import NDArray

from infra import kafka as clients
from infra import provision, topics
from infra.brokers.kafka import KafkaCluster
from infra.kafka_log import read_to_end
from infra.market.calendar import parse_calendar
from infra.registry.client import connect
from infra.settings import KafkaSettings, RegistrySettings, Settings
from infra.topics import Topic
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Control, ControlKind, SymbolSpec, Tick
from tests.support import Child

SYMBOLS = [f"SYM{number:02}" for number in range(28)]
FEED, SHARD = "bench", "a"
START_MS = 1_750_000_000_000
STEP_MS = 20
"""Between two ticks of all symbols together: two a second for each."""
PARTITIONS = 8

Ints = NDArray[np.int64]
Record = tuple[str, bytes, int]
"""Symbol, value, UTC milliseconds."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a benchmark runs."""

    settings: Settings
    codec: Codec

    @property
    def raw(self) -> str:
        """The full name of ``ticks.raw``."""
        return World(self.settings.world).topic(topics.TICKS_RAW.name)

    def fill(self, count: int) -> int:
        """Write the specs and ``count`` ticks to ``ticks.raw``; how many records that is."""
        return publish(
            self.settings, chain(controls(self.codec, START_MS), ticks(self.codec, count, START_MS, STEP_MS))
        )

    def reset(self) -> None:
        """Make every topic but ``ticks.raw`` anew, so that it is processed from its start."""
        admin = clients.admin(self.settings.kafka)
        names = [name for name in provision.world_topics(self.settings) if name != self.raw]
        for future in admin.delete_topics(names, operation_timeout=15).values():
            future.result(30)
        while set(provision.world_topics(self.settings)) != {self.raw}:
            time.sleep(0.05)
        provision.apply(self.settings, historical=True)

    def consume(self) -> float:
        """Records of ``ticks.raw`` a second that a bare consumer gets."""
        start, count = time.perf_counter(), 0
        places = [TopicPartition(self.raw, number, 0) for number in range(provision.partitions(self.settings))]
        for messages in read_to_end(self.settings.kafka, places):
            count += len(messages)
        return count / (time.perf_counter() - start)


@contextmanager
def stage(partitions: int = PARTITIONS) -> Iterator[Stage]:
    """A stage with empty topics. Needs Java, and KAFKA_HOME or Maven."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with KafkaCluster(home, nodes=1) as cluster:
            kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers, partitions=partitions)
            base = Settings(home=home, world="bench", kafka=kafka, registry=RegistrySettings(port=0))
            with Child(base, "registry") as registry:
                address = RegistrySettings(url=registry.ready["url"], port=0)
                settings = base.model_copy(update={"registry": address})
                provision.apply(settings, historical=True)
                yield Stage(settings, connect(settings))


def controls(codec: Codec, start_ms: int) -> Iterator[Record]:
    """What comes before the ticks: each symbol's spec, and that it is covered from ``start_ms`` on."""
    calendar = parse_calendar("24/7").to_json()
    for symbol in SYMBOLS:
        spec = SymbolSpec(
            symbol=symbol, feed=FEED, shard=SHARD, broker_name=symbol, digits=5, point=1e-5, calendar=calendar
        )
        for kind, content in ((ControlKind.SYMBOL_SPEC, spec), (ControlKind.COVERAGE, None)):
            control = Control(kind=kind, feed=FEED, shard=SHARD, symbol=symbol, time=start_ms, spec=content)
            yield symbol, codec.encode(control), start_ms


def ticks(codec: Codec, count: int, start_ms: int, step_ms: float) -> Iterator[Record]:
    """Random walks of symbols drawn at random, one tick every ``step_ms``."""
    draw = np.random.default_rng(7)
    which, steps = draw.integers(0, len(SYMBOLS), count), draw.choice((-1, 1), count)
    points = np.empty(count, np.int64)
    for at in range(len(SYMBOLS)):
        points[which == at] = 110_000 + np.cumsum(steps[which == at])
    times = start_ms + 1 + (np.arange(count) * step_ms).astype(np.int64)
    values = _encoded(codec, which, times, points)
    for at, time_ms, value in zip(which.tolist(), times.tolist(), values, strict=True):
        yield SYMBOLS[at], value, time_ms


def _encoded(codec: Codec, which: Ints, times: Ints, points: Ints) -> Iterator[bytes]:
    """The ticks' messages by column. All are as long as the first, whose bytes are the pattern for the rest."""

    def tick(at: int) -> bytes:
        time_ms, bid, ask = int(times[at]), points[at] / 1e5, (points[at] + 10) / 1e5
        times_of = {"ts_event": time_ms, "ordinal": 0, "server_time": time_ms, "ts_recv": time_ms * 1_000}
        return codec.encode(Tick(symbol=SYMBOLS[which[at]], bid=bid, ask=ask, flags=6, feed=FEED, **times_of))

    pattern = np.frombuffer(tick(0), np.uint8)
    rows = np.tile(pattern, (len(times), 1))
    symbols = np.array([list(symbol.encode()) for symbol in SYMBOLS], np.uint8)
    rows[:, 6:11] = symbols[which]
    rows[:, 11:17] = rows[:, 57:63] = _varints(times, 6)
    rows[:, 18:26] = (points / 1e5).view(np.uint8).reshape(-1, 8)
    rows[:, 26:34] = ((points + 10) / 1e5).view(np.uint8).reshape(-1, 8)
    rows[:, 63:71] = _varints(times * 1_000, 8)
    for at in (0, len(times) // 2, len(times) - 1):
        if rows[at].tobytes() != tick(at):
            raise SystemExit("a tick's bytes are not laid out as they were when this was written")
    return map(bytes, rows)


def _varints(numbers: Ints, size: int) -> NDArray[np.uint8]:
    """Avro longs that all take ``size`` bytes."""
    shifted = (numbers[:, None] << 1) >> (7 * np.arange(size))
    found: NDArray[np.uint8] = (shifted & 0x7F | 0x80).astype(np.uint8)
    found[:, -1] &= 0x7F
    return found


def publish(settings: Settings, records: Iterable[Record], to: Topic = topics.TICKS_RAW) -> int:
    """Write records to a topic and wait until they are there; how many."""
    producer = clients.producer(settings.kafka)
    topic, partitions = World(settings.world).topic(to.name), provision.partitions(settings)
    count = 0
    for symbol, value, time_ms in records:
        count += 1
        partition = clients.partition_for(symbol, partitions)
        while True:
            try:
                producer.produce(topic, value, symbol, partition, None, None, time_ms)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return count
