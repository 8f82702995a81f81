"""A terminal that hangs: its shard is back soon, and the others never noticed."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import yaml

from infra.kafka_log import beginnings, read_to_end
from infra.settings import ProducerSettings, Settings, SimulatorSettings
from infra.supervisor.policy import LONGEST_DELAY
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from tests.support import Child, eventually

LIMIT, HANGS = 4.0, 9.0


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
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process is frozen")
def test_the_others_go_on_and_it_is_back_when_its_terminal_is(
    settings: Settings, world: World, codec: Codec, tmp_path: Path
) -> None:
    with ExitStack() as exits:
        entries: dict[str, Any] = {}
        agents: dict[str, Child] = {}
        for shard, symbol in (("hung", "BTCUSD"), ("other", "BTCUSD.2")):
            served = settings.model_copy(update={"simulator": SimulatorSettings(copies=2, rate=3)})
            agents[shard] = exits.enter_context(Child(served, "simulate", "--port", "0"))
            entries[shard] = {"symbols": [symbol], "remote": {"address": agents[shard].ready["address"]}}
        path = tmp_path / "shards.yaml"
        path.write_text(yaml.safe_dump(entries), "utf-8")
        wanted = ProducerSettings(source="remote", shards_file=path, poll_ms=50, call_seconds=LIMIT)
        exits.enter_context(Child(settings.model_copy(update={"producer": wanted}), "producer"))

        def both_since(moment: int) -> bool:
            return ticks(settings, world, codec, moment)["symbol"].n_unique() == len(entries)

        began = now_ms()
        eventually(lambda: both_since(began), 90, every=1)
        since = now_ms()
        agent = psutil.Process(agents["hung"].process.pid)
        frozen = [agent, *agent.children(recursive=True)]
        for process in frozen:
            process.suspend()
        eventually(lambda: now_ms() > since + HANGS * 1_000, 30, every=0.2)
        for process in frozen:
            process.resume()
        over = now_ms()
        eventually(lambda: both_since(over), 60, every=1)
    found = ticks(settings, world, codec, since)
    other, hung = (found.filter(pl.col("symbol") == symbol)["age"] for symbol in ("BTCUSD.2", "BTCUSD"))
    assert float(other.quantile(0.95) or 0) < 1_000
    assert HANGS * 900 < float(hung.max() or 0) < (HANGS + LIMIT) * 1_000 + LONGEST_DELAY * 1_000  # type: ignore[arg-type]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
