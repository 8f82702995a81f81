"""Short versions of what `python -m tests.acceptance.gateway` and `.fuzz` do for minutes."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from infra import kafka as clients
from infra import provision
from infra.settings import KafkaSettings, RegistrySettings, Settings
from tests.acceptance import gateway
from tests.acceptance.fuzz import fuzz
from tests.acceptance.oracle import DATA


@pytest.mark.kafka
@pytest.mark.one_broker
@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"there are no tick files in {DATA}")
def test_what_clients_heard_is_the_topic_whatever_is_killed(
    kafka: KafkaSettings, registry_url: str, tmp_path: Path
) -> None:
    world, registry = f"t-{uuid.uuid4().hex[:12]}", RegistrySettings(url=registry_url)
    settings = Settings(world=world, home=tmp_path, kafka=kafka, registry=registry)
    provision.apply(settings, historical=True)
    result = gateway.run(settings, seconds=4, rate=1_500, kills=1)
    admin = clients.admin(kafka)
    for future in admin.delete_topics(provision.world_topics(settings)).values():
        future.result(10)
    assert result.problems == []
    assert result.kills == 1
    assert result.resumed > 0
    assert result.delivered > result.ticks // 10


async def test_every_message_is_answered_as_described() -> None:
    told = await fuzz(6_000)
    refusals = {"400", "402", "410", "411", "412", "414", "415", "416", "417", "418"}
    assert refusals | {"subscribe", "subscriptions", "pong", "seek", "speed", "step", "pause", "live"} <= set(told)
