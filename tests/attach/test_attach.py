"""Consumers of strangers: the examples of docs/attach in four languages; none of our code reads."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from infra import kafka as clients
from infra.iso import iso
from infra.kafka_log import partition_count
from infra.settings import KafkaSettings, Settings
from infra.topics import BARS, TICKS_CLEAN
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Bar, BarStatus, Tick
from tests.conftest import BROKERS
from tests.support import ROOT, Out, produce_all

EXAMPLES = ROOT / "docs" / "attach"
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
    low=1.05,
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


@pytest.fixture(scope="session", params=BROKERS[-1:])
def kafka(request: pytest.FixtureRequest, start_broker: Callable[[str], KafkaSettings]) -> KafkaSettings:
    """One kind of broker, a real one if it is at hand: what is tested are the examples."""
    try:
        return start_broker(request.param)
    except pytest.skip.Exception:
        return start_broker("embedded")


@pytest.fixture
def records(settings: Settings, world: World, codec: Codec) -> dict[str, str]:
    """Full names of the topics, with ticks, a bar and a tick of an aborted transaction in them."""
    clean, bars = world.topic(TICKS_CLEAN.name), world.topic(BARS.name)
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1_000)  # record times of the past would be deleted
    aborted = clients.producer(settings.kafka, transactional_id=f"{settings.world}.aborted")
    aborted.init_transactions(20)
    aborted.begin_transaction()
    ghost = replace(TICKS[0], symbol="GHOST")
    for partition in range(partition_count(settings.kafka, clean)):
        aborted.produce(clean, codec.encode(ghost), ghost.symbol, partition, timestamp=now)
    aborted.flush(20)
    aborted.abort_transaction(20)
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


def copied(language: str, factory: pytest.TempPathFactory, *tools: str) -> Path:
    """The example's folder, copied so that nothing is built in the checkout. Skips where a tool is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    return Path(shutil.copytree(EXAMPLES / language, factory.mktemp("attach") / language))


def fetched(folder: Path, *command: str) -> None:
    """Resolve what the example needs by its own client. Skips where that cannot be had."""
    done = _run(folder, command)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if any(map(str.isalpha, line))]
        pytest.skip(f"{command[0]} cannot get what the example needs: {said[-1] if said else done.returncode}")


def built(folder: Path, *command: str) -> None:
    done = _run(folder, command)
    assert done.returncode == 0, done.stdout + done.stderr


def _run(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    program = [str(shutil.which(command[0])), *command[1:]]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return copied("python", tmp_path_factory), [sys.executable, "attach.py"]


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = copied("java", tmp_path_factory, "java", "javac", "mvn")
    fetched(folder, "mvn", "-q", "-B", "dependency:copy-dependencies")
    built(folder, "mvn", "-q", "-B", "compile")
    return folder, ["java", "-cp", os.pathsep.join(["target/classes", "target/dependency/*"]), "Attach"]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = copied("node", tmp_path_factory, "node", "npm")
    fetched(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return folder, ["node", "attach.js"]


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = copied("go", tmp_path_factory, "go")
    fetched(folder, "go", "mod", "download")
    built(folder, "go", "build", "-o", "attach.exe", ".")
    return folder, [str(folder / "attach.exe")]


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("language", ["python", "java", "node", "go"])
def test_the_example_reads_committed_ticks_and_bars(
    settings: Settings, language: str, request: pytest.FixtureRequest
) -> None:
    folder, command = request.getfixturevalue(language)
    place = [settings.kafka.bootstrap_servers, settings.registry.url, settings.world, str(len(TICKS) + 1)]
    done = subprocess.run([*command, *place], cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for symbol in ("EURUSD", "XAUUSD"):
        sent = [
            f"{settings.world}.ticks.clean {symbol} {iso(tick.ts_event)} {tick.bid} {tick.ask}"
            for tick in TICKS
            if tick.symbol == symbol
        ]
        assert [line for line in lines if f"clean {symbol} " in line] == sent
    bar = f"{settings.world}.bars EURUSD M1 {iso(BAR.ts_open)} {BAR.open} {BAR.high} {BAR.low} {BAR.close} partial 0"
    assert [line for line in lines if ".bars " in line] == [bar]
    assert len(lines) == len(TICKS) + 1, "nothing of an aborted transaction"


def test_the_lock_files_name_no_registry() -> None:
    lock = json.loads((EXAMPLES / "node" / "package-lock.json").read_text("utf-8"))
    assert lock["packages"]["node_modules/kafkajs"]["integrity"].startswith("sha512-")
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    locked = (EXAMPLES / "go" / "go.sum").read_text("utf-8") + (EXAMPLES / "java" / "pom.xml").read_text("utf-8")
    assert "https:" not in locked
    assert "<repository>" not in locked
