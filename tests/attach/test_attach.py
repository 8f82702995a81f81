"""Consumers of strangers: stock clients, Confluent's deserializer, another language; none of our code reads."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from infra.settings import Settings
from infra.topics import BARS, TICKS_CLEAN
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Bar, BarStatus, Tick
from tests.support import Out, produce_all

HERE = Path(__file__).parent
START = 1_790_000_000_123
TICKS = [
    Tick(
        symbol=symbol,
        ts_event=START + number,
        ordinal=number % 2,
        bid=1.08123 + number / 1e5,
        ask=1.08135 + number / 1e5,
        flags=6,
        feed="sim",
        server_time=START + 10_800_000 + number,
        ts_recv=(START + number) * 1_000 + 456,
    )
    for number in range(20)
    for symbol in ("EURUSD", "XAUUSD")
]
BAR = Bar(
    symbol="EURUSD",
    feed="sim",
    timeframe="M1",
    ts_open=START // 60_000 * 60_000,
    ts_close=START // 60_000 * 60_000 + 60_000,
    open=1.1,
    high=1.4,
    low=1.0,
    close=1.2,
    ask_open=1.11,
    ask_high=1.41,
    ask_low=1.01,
    ask_close=1.21,
    tick_volume=20,
    real_volume=0.0,
    spread=12,
    status=BarStatus.PARTIAL,
    feed_gap_ms=1_500,
    tick_count=21,
    first_tick_ts=START,
    first_tick_ordinal=0,
    last_tick_ts=START + 19,
    last_tick_ordinal=1,
    rules="abc",
)


@pytest.fixture
def records(settings: Settings, world: World, codec: Codec) -> dict[str, str]:
    """Full names of the topics, with ticks and a bar in them."""
    clean, bars = world.topic(TICKS_CLEAN.name), world.topic(BARS.name)
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1_000)  # record times of the past would be deleted
    produce_all(settings, clean, [Out(tick.symbol, codec.encode(tick), now) for tick in TICKS])
    produce_all(settings, bars, [Out(BAR.key, codec.encode(BAR), now)])
    return {"ticks": clean, "bars": bars}


def read_as_a_stranger(settings: Settings, topic: str, count: int) -> list[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": f"stranger-{topic}",
            "auto.offset.reset": "earliest",
        }
    )
    found = []
    with SchemaRegistryClient({"url": settings.registry.url}) as registry:
        deserialize = AvroDeserializer(registry)
        consumer.subscribe([topic])
        for _ in range(300):
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(deserialize(message.value(), SerializationContext(topic, MessageField.VALUE)))
            if len(found) == count:
                break
    consumer.close()
    return found


def test_confluents_python_client(settings: Settings, records: dict[str, str]) -> None:
    ticks = read_as_a_stranger(settings, records["ticks"], len(TICKS))
    for symbol in ("EURUSD", "XAUUSD"):
        sent = [tick for tick in TICKS if tick.symbol == symbol]
        got = [tick for tick in ticks if tick["symbol"] == symbol]
        assert [(tick["bid"], tick["ask"], tick["ordinal"]) for tick in got] == [
            (tick.bid, tick.ask, tick.ordinal) for tick in sent
        ]
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert ticks[0]["ts_event"] == epoch + dt.timedelta(milliseconds=START), "a moment in UTC, not a bare number"
    assert ticks[0]["ts_recv"] == epoch + dt.timedelta(microseconds=START * 1_000 + 456)
    assert ticks[0]["server_time"] == (epoch + dt.timedelta(milliseconds=START + 10_800_000)).replace(tzinfo=None)
    (bar,) = read_as_a_stranger(settings, records["bars"], 1)
    assert (bar["symbol"], bar["timeframe"], bar["status"], bar["high"]) == ("EURUSD", "M1", "partial", 1.4)
    assert bar["ts_close"] - bar["ts_open"] == dt.timedelta(minutes=1)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node consumer, its packages installed from the lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "read.js"):
        shutil.copy(HERE / name, folder)
    command = [str(shutil.which("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install the packages: {done.stderr.strip().splitlines()[-1]}")
    return folder


def test_a_node_client(settings: Settings, records: dict[str, str], node: Path) -> None:
    def read(topic: str, count: int) -> list[Any]:
        place = [settings.kafka.bootstrap_servers, settings.registry.url, topic, str(count)]
        done = subprocess.run(
            ["node", "read.js", *place], cwd=node, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    ticks = read(records["ticks"], len(TICKS))
    assert len(ticks) == len(TICKS)
    for symbol in ("EURUSD", "XAUUSD"):
        got = [message["value"] for message in ticks if message["key"] == symbol]
        assert [(tick["bid"], tick["ask"], tick["ts_event"], tick["ts_recv"]) for tick in got] == [
            (tick.bid, tick.ask, tick.ts_event, tick.ts_recv) for tick in TICKS if tick.symbol == symbol
        ]
    (bar,) = read(records["bars"], 1)
    assert bar["key"] == BAR.key
    assert (bar["value"]["status"], bar["value"]["close"], bar["value"]["tick_count"]) == ("partial", 1.2, 21)


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text("utf-8"))
    assert lock["packages"]["node_modules/kafkajs"]["integrity"].startswith("sha512-")
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
