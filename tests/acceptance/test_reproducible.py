"""The same world in two ways; `python -m tests.acceptance.reproducible` does more of it, with the real days."""

from __future__ import annotations

import pytest

from infra import provision
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from tests.acceptance.reproducible import Way, follow
from tests.processors.stream import Stream
from tests.processors.test_service import recent_ms
from tests.support import produce_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker, pytest.mark.timeout(300)]


def test_pace_batches_and_a_killed_worker_change_no_byte(settings: Settings, codec: Codec) -> None:
    raw = World(settings.world).topic("ticks.raw")
    stream = Stream(codec, recent_ms(), partitions=provision.partitions(settings))
    produce_all(settings, raw, stream.specs())
    produce_all(settings, raw, stream.ticks(4_000, step_ms=1_000))
    produce_all(settings, raw, stream.watermark(stream.time))
    speed = (stream.time - stream.start_ms) / 6_000
    first = follow(settings, codec, settings.world, Way("as it was", None))
    world = settings.model_copy(update={"world": f"{settings.world}-r"})
    second = follow(world, codec, settings.world, Way("replayed", str(speed), batch=100, kills=1))
    assert first.records == second.records
    assert second.transactions > 2 * first.transactions
    assert len(first.bars) > 20
    assert first.bars == second.bars
    assert first.ticks == second.ticks
    assert first.clean > 3_500
