"""A terminal that hangs: its shard is back soon, and the others never noticed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from infra.kafka_log import beginnings, read_to_end
from infra.settings import ProducerSettings, Settings, SimulatorSettings
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from tests.support import Child, eventually

LIMIT, HANGS = 3.0, 3.0
BACK_SECONDS = HANGS + LIMIT + 0.5 + 5
"""The hang, the limit, the first pause, a start on a busy machine."""


def ticks(settings: Settings, world: World, codec: Codec, since: int) -> pl.DataFrame:
    """Live ticks by symbol; ages in milliseconds."""
    frames = [
        decode_batch([message.value() for message in batch], codec).frame
        for batch in read_to_end(settings.kafka, beginnings(settings.kafka, world.topic("ticks.raw")))
    ]
    return (
        pl.concat(frames)
        .filter(pl.col("ts_event") > since)
        .with_columns(age=pl.col("ts_recv") / 1_000 - pl.col("ts_event"))
    )


@pytest.mark.kafka
@pytest.mark.one_broker
def test_the_others_go_on_and_it_is_back_within_its_limit_and_the_pause(
    settings: Settings, world: World, codec: Codec, tmp_path: Path
) -> None:
    with ExitStack() as exits:
        hang = datetime.now(UTC) + timedelta(seconds=26)
        script = (f"hang@{hang.isoformat(timespec='seconds').replace('+00:00', 'Z')}+{HANGS:g}",)
        entries = {}
        for shard, symbol, faults in (("hung", "BTCUSD", script), ("other", "BTCUSD.2", ())):
            served = settings.model_copy(
                update={
                    "simulator": SimulatorSettings(copies=2, rate=3, faults=faults),
                    "producer": ProducerSettings(call_seconds=60),
                }
            )
            agent = exits.enter_context(Child(served, "simulate", "--port", "0"))
            entries[shard] = {"symbols": [symbol], "remote": {"address": agent.ready["address"]}}
        path = tmp_path / "shards.yaml"
        path.write_text(yaml.safe_dump(entries), "utf-8")
        wanted = ProducerSettings(source="remote", shards_file=path, poll_ms=50, call_seconds=LIMIT)
        exits.enter_context(Child(settings.model_copy(update={"producer": wanted}), "producer"))
        since = int(hang.timestamp() * 1_000) - 3_000
        over = since + 3_000 + int((HANGS + LIMIT) * 1_000)
        assert time.time() * 1_000 < since, "it runs before the hang"

        def back() -> bool:
            found = ticks(settings, world, codec, over)
            return found["symbol"].n_unique() == len(entries)

        eventually(lambda: time.time() * 1_000 > over, 60, every=0.5)
        eventually(back, 60, every=1)
    found = ticks(settings, world, codec, since)
    other, hung = (found.filter(pl.col("symbol") == symbol) for symbol in ("BTCUSD.2", "BTCUSD"))
    assert other["age"].max() < 1_000  # type: ignore[operator]
    assert hung["age"].max() > 1_000  # type: ignore[operator]
    assert hung["age"].max() < BACK_SECONDS * 1_000  # type: ignore[operator]
