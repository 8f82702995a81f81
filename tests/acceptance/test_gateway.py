"""Short versions of what `python -m tests.acceptance.gateway`, `.seek` and `.fuzz` do for minutes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from infra import kafka as clients
from infra import provision
from infra.settings import KafkaSettings, RegistrySettings, Settings
from tests.acceptance import gateway, gateway_load, seek
from tests.acceptance.fuzz import fuzz
from tests.acceptance.oracle import DATA


@pytest.mark.kafka
@pytest.mark.one_broker
@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"there are no tick files in {DATA}")
def test_what_clients_heard_is_the_topic_whatever_is_killed(
    kafka: KafkaSettings, registry_url: str, tmp_path: Path
) -> None:
    with world_of(kafka, registry_url, tmp_path) as settings:
        result = gateway.run(settings, seconds=4, rate=1_500, kills=1)
    assert result.problems == []
    assert result.kills == 1
    assert result.resumed > 0
    assert result.delivered > result.ticks // 10


@pytest.mark.kafka
@pytest.mark.one_broker
@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"there are no tick files in {DATA}")
def test_the_past_in_the_order_of_events_and_into_the_present(
    kafka: KafkaSettings, registry_url: str, tmp_path: Path
) -> None:
    with world_of(kafka, registry_url, tmp_path) as settings:
        result = seek.run(settings, seek.Plan(hours=0.5, seconds=3, rate=1_000, kills=0))
    assert result.problems == []
    assert result.played > 1_000
    assert result.arrivals > 0
    assert result.delivered > 0


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"there are no tick files in {DATA}")
def test_the_symbols_of_the_load_are_of_the_same_hours() -> None:
    """At a speed of 5,000 a day without ticks lasts 17 s; some symbols began a week after others."""
    market = gateway_load.all_series(gateway_load.recorded(), b"")
    times = [
        moment for series in market for count in (1, 5_000) for _, moment in series.take(np.zeros(count, np.int64))
    ]
    assert max(times) - min(times) < 12 * seek.HOUR


@contextmanager
def world_of(kafka: KafkaSettings, registry_url: str, home: Path) -> Iterator[Settings]:
    """An empty world, removed in the end."""
    world, registry = f"t-{uuid.uuid4().hex[:12]}", RegistrySettings(url=registry_url)
    settings = Settings(world=world, home=home, kafka=kafka, registry=registry)
    provision.apply(settings, historical=True)
    yield settings
    admin = clients.admin(kafka)
    for future in admin.delete_topics(provision.world_topics(settings)).values():
        future.result(10)


async def test_every_message_is_answered_as_described() -> None:
    told = await fuzz(6_000)
    refusals = {"400", "402", "410", "411", "412", "414", "415", "416", "417", "418"}
    assert refusals | {"subscribe", "subscriptions", "pong", "seek", "speed", "step", "pause", "live"} <= set(told)
