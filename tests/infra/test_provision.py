"""Topics as code against real brokers."""

from __future__ import annotations

import threading
import time

import pytest

from infra import provision
from infra.settings import Settings
from infra.topics import TOPICS
from infra.worlds import World
from schemas.errors import BrokerError, UsageError
from tests.support import Out, produce_all, read_all


def with_kafka(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=values)})


def test_an_applied_world_has_all_topics_and_nothing_left_to_plan(settings: Settings, world: World) -> None:
    assert provision.world_topics(settings) == sorted(world.topic(topic.name) for topic in TOPICS)
    assert provision.plan(settings) == []
    assert provision.apply(settings) == []


def test_partitions_never_grow_and_nothing_is_changed_by_a_refusal(settings: Settings) -> None:
    grown = with_kafka(settings, partitions=8)
    assert {change.kind for change in provision.plan(grown)} == {"refuse"}
    with pytest.raises(UsageError, match="ARBITREX_KAFKA__PARTITIONS"):
        provision.apply(grown)
    assert provision.plan(settings) == []


def test_an_unset_number_of_partitions_keeps_what_is_there(settings: Settings) -> None:
    assert provision.plan(with_kafka(settings, partitions=None)) == []


def test_drift_is_shown_and_corrected(settings: Settings, world: World) -> None:
    assert provision.is_historical(settings) is False
    changed = provision.apply(settings, historical=True)
    raw = next(change for change in changed if change.topic == world.topic("ticks.raw"))
    assert (raw.kind, raw.before["retention.ms"], raw.config["retention.ms"]) == ("configure", "604800000", "-1")
    assert "604800000 -> -1" in str(raw)
    assert provision.is_historical(settings)
    assert provision.plan(settings) == []  # a world stays what it was created as
    assert {change.topic for change in provision.apply(settings, historical=False)} == {c.topic for c in changed}
    assert not provision.is_historical(settings)


def test_records_come_back_in_order(settings: Settings, world: World) -> None:
    topic, now = world.topic("ticks.raw"), time.time_ns() // 1_000_000  # retention leaves what is new
    assert produce_all(settings, topic, (Out(f"S{n % 7}", b"%d" % n, now + n) for n in range(500))) == 500
    messages = read_all(settings, topic)
    assert sorted(int(message.value() or b"") for message in messages) == list(range(500))
    assert len({message.partition() for message in messages}) > 1


@pytest.mark.one_broker
def test_an_absent_broker_is_named_with_its_setting(settings: Settings, free_port: int) -> None:
    away = with_kafka(settings, bootstrap_servers=f"127.0.0.1:{free_port}")
    with pytest.raises(BrokerError, match=f"127.0.0.1:{free_port} does not answer.*BOOTSTRAP_SERVERS"):
        provision.plan(away)


def test_waiting_for_topics_says_which_command_creates_them(settings: Settings) -> None:
    other = settings.model_copy(update={"world": "nowhere"})
    with pytest.raises(BrokerError, match=r"world nowhere lacks .*nowhere.bars.*arbitrex topics apply"):
        provision.wait_until_there(other, threading.Event(), timeout=0)
    stopping = threading.Event()
    stopping.set()
    provision.wait_until_there(other, stopping)
    provision.wait_until_there(settings, threading.Event())
