"""A reader of the embedded broker rests at the end, and only there."""

from __future__ import annotations

import itertools
import time

from confluent_kafka import TopicPartition

from infra import kafka as clients
from infra import provision
from infra.pacing import Pace
from infra.settings import Settings
from infra.worlds import World
from tests.support import Out, eventually, produce_all


def test_it_rests_once_all_is_read_and_misses_nothing_that_comes_meanwhile(settings: Settings, world: World) -> None:
    topic, now = world.topic("ticks.raw"), time.time_ns() // 1_000_000
    numbers = itertools.count()
    rests: list[int] = []
    read: list[int] = []

    def produce(count: int) -> None:
        produce_all(settings, topic, (Out(f"S{n}", b"%d" % next(numbers), now) for n in range(count)))

    def rest(_: float) -> None:
        rests.append(len(read))
        produce(10)

    produce(1_000)
    consumer = clients.consumer(
        settings.kafka, group="pace", **{"enable.partition.eof": True, "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(provision.partitions(settings))])
    pace = Pace(settings.kafka, consumer, 0.01)

    def has_all() -> bool:
        found = consumer.consume(100, 0.001)  # sooner than a fetch comes back
        read.extend(int(message.value() or b"") for message in found if message.error() is None)
        pace.after(found, rest)
        return len(read) == (1_040 if settings.kafka.embedded else 1_000)

    eventually(has_all, every=0)
    consumer.close()
    assert sorted(read) == list(range(len(read)))
    assert rests[:4] == ([1_000, 1_010, 1_020, 1_030] if settings.kafka.embedded else [])
