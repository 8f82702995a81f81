"""Worlds listed and dropped."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TopicPartition

from infra import kafka as clients
from infra import provision, world_admin
from infra.kafka_log import partition_count
from infra.settings import Settings
from infra.world_admin import worlds_in
from infra.worlds import World
from schemas.errors import BrokerError
from tests.support import Out, eventually, produce_all


def test_worlds_are_recognised_by_their_topics() -> None:
    topics = ["main.ticks.raw", "main.bars", "desk-2.bars.live", "_schemas", "bars", "a.b.bars", "other.topic", ".bars"]
    assert worlds_in(topics) == ["desk-2", "main"]


def test_a_dropped_world_is_gone_and_its_neighbour_is_not(settings: Settings, world: World) -> None:
    neighbour = settings.model_copy(update={"world": f"{settings.world}-n"})
    provision.apply(neighbour, historical=True)
    produce_all(settings, world.topic("ticks.raw"), [Out("EURUSD", b"x", time.time_ns() // 1_000_000)])
    consumer = clients.consumer(settings.kafka, group=world.group("sink.lake"), **{"auto.offset.reset": "earliest"})
    consumer.subscribe([world.topic("ticks.raw")])
    try:
        eventually(lambda: consumer.poll(1))
        with pytest.raises(BrokerError, match=f"consumer group {world.group('sink.lake')} is in use"):
            world_admin.drop_from_kafka(settings)
        consumer.commit(offsets=[TopicPartition(world.topic("ticks.raw"), 0, 0)], asynchronous=False)
    finally:
        consumer.close()
    (settings.csv_dir / "ticks").mkdir(parents=True)
    (neighbour.csv_dir / "ticks").mkdir(parents=True)
    found = {each.name: each for each in world_admin.found(settings)}
    assert (found[settings.world].historical, found[neighbour.world].historical) == (False, True)
    assert found[settings.world].partitions == partition_count(settings.kafka, world.topic("ticks.raw"))

    dropped = world_admin.drop_from_kafka(settings)
    assert world_admin.drop_from_lake(settings) == 0
    world_admin.drop_files(settings)
    assert world.group("sink.lake") in dropped
    assert world.topic("bars") in dropped
    names = {each.name for each in world_admin.found(settings)}
    assert settings.world not in names
    assert neighbour.world in names
    assert not settings.csv_dir.exists()
    assert neighbour.csv_dir.exists()
    assert world_admin.drop_from_kafka(settings) == []
    world_admin.drop_from_kafka(neighbour)
