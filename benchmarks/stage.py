"""A real Kafka, an embedded registry and a topic full of ticks: what the benchmarks of streams run on."""

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
from producers.encoding import TickColumns, encode_ticks, ordinals
from schemas.codec import Codec
from schemas.records import Control, ControlKind, SymbolSpec
from tests.support import registered

SYMBOLS = [f"SYM{number:02}" for number in range(28)]
FEED, SHARD = "bench", "a"
START_MS = 1_750_000_000_000
STEP_MS = 20
"""Between two ticks of all symbols together: two a second for each."""
PARTITIONS = 8
BROKER_WARM_UP_SECONDS = 45.0
"""Java compiles that long what a broker does all the time, on as many cores as it gets."""

Ints = NDArray[np.int64]
Record = tuple[str, bytes, int]
"""Symbol, value, UTC milliseconds."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a benchmark runs."""

    settings: Settings
    codec: Codec
    cluster: KafkaCluster

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
def stage(partitions: int = PARTITIONS, nodes: int = 1) -> Iterator[Stage]:
    """A stage with empty topics, on one Kafka node or three. Needs Java, and KAFKA_HOME or Maven."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with KafkaCluster(home, nodes) as cluster:
            kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers, partitions=partitions)
            base = Settings(home=home, world="bench", kafka=kafka, registry=RegistrySettings(port=0))
            with registered(base) as settings:
                provision.apply(settings, historical=True)
                yield Stage(settings, connect(settings), cluster)


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
    values = np.empty(count, object)
    for at, symbol in enumerate(SYMBOLS):
        mine = which == at
        values[mine] = encode_ticks(
            columns(times[mine], points[mine], times[mine] * 1_000),
            header=codec.headers["Tick"],
            symbol=symbol,
            feed=FEED,
        )
    for at, time_ms, value in zip(which.tolist(), times.tolist(), values, strict=True):
        yield SYMBOLS[at], value, time_ms


def columns(times: Ints, points: Ints, ts_recv: Ints) -> TickColumns:
    """One symbol's ticks at rising times (UTC milliseconds), at a price of so many points, and when they came."""
    nothing = np.zeros(len(times))
    return TickColumns(
        ts_event=times,
        ordinal=ordinals(times),
        bid=points / 1e5,
        ask=(points + 10) / 1e5,
        last=nothing,
        volume=nothing,
        flags=np.full(len(times), 6),
        server_time=times,
        ts_recv=ts_recv,
    )


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
