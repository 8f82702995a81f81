"""A terminal that hangs: its shard is back soon, and the others never noticed."""

from __future__ import annotations

import signal
import time
import urllib.request
from pathlib import Path

import polars as pl
import psutil
import pytest
import yaml

from infra.kafka_log import beginnings, read_to_end
from infra.settings import ProducerSettings, Settings, SimulatorSettings
from infra.supervisor.policy import FIRST_DELAY
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from tests.support import Child, eventually

LIMIT = 2.0


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
def test_the_others_go_on_and_it_is_back_within_its_limit_and_a_pause(
    settings: Settings, world: World, codec: Codec, tmp_path: Path
) -> None:
    path = tmp_path / "shards.yaml"
    path.write_text(yaml.safe_dump({"hung": {"symbols": ["BTCUSD"]}, "other": {"symbols": ["BTCUSD.2"]}}), "utf-8")
    wanted = ProducerSettings(shards_file=path, poll_ms=50, call_seconds=LIMIT)
    settings = settings.model_copy(update={"producer": wanted, "simulator": SimulatorSettings(copies=2, rate=3)})
    with Child(settings, "producer") as producer:
        (shard,) = (each for each in psutil.Process(producer.process.pid).children() if "hung" in each.cmdline())
        start = time.time() - shard.create_time()

        def both_since(moment: int) -> bool:
            return ticks(settings, world, codec, moment)["symbol"].n_unique() == 2

        began = now_ms()
        eventually(lambda: both_since(began), every=0.5)
        shard.suspend()
        frozen = now_ms()
        eventually(lambda: not shard.is_running(), LIMIT + 5)
        killed = now_ms()
        eventually(lambda: both_since(killed), every=0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{producer.ready['status_port']}/metrics") as answer:
            said = answer.read().decode()
    assert 'restarts_total{component="producer-hung",reason="hung"} 1.0' in said
    assert (LIMIT - 1) * 1_000 < killed - frozen < (LIMIT + 2) * 1_000, "since its last word, half a second before"
    found = ticks(settings, world, codec, frozen)
    other, hung = (found.filter(pl.col("symbol") == symbol) for symbol in ("BTCUSD.2", "BTCUSD"))
    assert float(other["age"].quantile(0.99) or 0) < 1_000
    back = hung.filter(pl.col("ts_recv") / 1_000 > killed)["ts_recv"].min() or 0
    assert back / 1_000 - killed < (FIRST_DELAY + 2 * start + 1) * 1_000  # type: ignore[operator]
    assert hung["age"].max() > LIMIT * 900, "what came meanwhile was collected afterwards"  # type: ignore[operator]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
