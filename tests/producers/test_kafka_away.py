"""Kafka does not answer for a while: what is collected waits, in memory or on disk; nothing is lost."""

from __future__ import annotations

import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread

import numpy as np
import psutil
import pytest
from confluent_kafka import Producer, TopicPartition

from infra import kafka as clients
from infra.kafka import partition_for
from infra.kafka_log import offset_at
from infra.market.zones import ServerZone
from infra.settings import KafkaSettings, ProducerSettings, Settings, SimulatorSettings
from infra.symbols import Symbols
from infra.worlds import World
from producers.clock import RealClock
from producers.cursor import Cursor
from producers.poll import Poller
from producers.publisher import Publisher
from producers.shard import Shard
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.records import Control, ControlKind
from tests.conftest import PARTITIONS
from tests.support import Child, eventually, read_all

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.one_broker,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the broker is frozen"),
]
ZONE = ServerZone.parse("New_York+7")
SYMBOL = "BTCUSD"


@contextmanager
def away(kafka: KafkaSettings) -> Iterator[None]:
    """The broker of this machine is frozen."""
    port = int(kafka.bootstrap_servers.rpartition(":")[2])
    found = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    listening = {each.pid for each in found if each.laddr[1:] == (port,)}
    brokers = [psutil.Process(pid) for pid in listening if pid]
    if not brokers:
        pytest.skip("the broker is not of this machine")
    for broker in brokers:
        broker.suspend()
    try:
        yield
    finally:
        for broker in brokers:
            broker.resume()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def raw(settings: Settings, world: World, codec: Codec) -> tuple[list[tuple[int, float]], list[Control]]:
    """Time and bid of the ticks of `SYMBOL`, each once, which must be in order; and the controls."""
    decoded = decode_batch([message.value() for message in read_all(settings, world.topic("ticks.raw"))], codec)
    found = decoded.frame.unique(["ts_event", "ordinal"], keep="first", maintain_order=True)
    assert found.select("ts_event", "ordinal").rows() == found.sort("ts_event", "ordinal")["ts_event", "ordinal"].rows()
    return found["ts_event", "bid"].rows(), [record for _, record in decoded.others if isinstance(record, Control)]


def expected(simulator: SimulatorSettings, start: int, end: int) -> list[tuple[int, float]]:
    market = Market(simulator.seed, simulator.rate, simulator.copies)
    ticks = np.concatenate(list(market.ticks(SYMBOL, start, end)))
    return list(zip(ticks["time_msc"].tolist(), ticks["bid"].tolist(), strict=True))


def metric(child: Child, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{child.ready['status_port']}/metrics", timeout=5) as answer:
        found = re.search(rf"^{name}\{{.*\}} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_what_was_spooled_survives_a_kill_and_a_terminal_that_has_forgotten_it(
    settings: Settings, world: World, codec: Codec
) -> None:
    simulator = SimulatorSettings(rate=10)
    options = ProducerSettings(symbols=(SYMBOL,), poll_ms=20, patience_seconds=0.5, spool="always")
    producer = settings.model_copy(update={"producer": options, "simulator": simulator})
    with Child(producer, "producer", "--shard", "a") as child:
        place = TopicPartition(world.topic("ticks.raw"), partition_for(SYMBOL, PARTITIONS))
        eventually(lambda: offset_at(settings.kafka, place, now_ms() - 1_000))
        with away(settings.kafka):
            gone, waiting = now_ms(), metric(child, "arbitrex_ticks_queue_size")
            eventually(lambda: metric(child, "arbitrex_ticks_queue_size") > waiting + 60)
            assert metric(child, "arbitrex_spool_bytes") > 0
            killed = now_ms()
            child.kill()
    since, length = datetime.fromtimestamp(gone / 1_000, UTC), (now_ms() + 500 - gone) / 1_000
    forgetful = simulator.model_copy(update={"faults": (f"forget@{since:%Y-%m-%dT%H:%M:%S.%fZ}+{length:.3f}",)})
    with Child(producer.model_copy(update={"simulator": forgetful}), "producer", "--shard", "a") as child:
        eventually(lambda: metric(child, "arbitrex_feed_gaps_total"))
        then = metric(child, "arbitrex_ticks_received_total")
        eventually(lambda: metric(child, "arbitrex_ticks_received_total") > then + 10)
    kept, controls = raw(settings, world, codec)
    (gap,) = [control for control in controls if control.kind == ControlKind.GAP]
    begins = min(control.time for control in controls if control.kind == ControlKind.COVERAGE)
    assert gap.from_ is not None
    assert gap.to is not None
    assert killed - 1_500 < gap.from_ < gap.to
    kept = [row for row in kept if row[0] >= begins]
    assert kept == expected(simulator, begins, gap.from_ + 1) + expected(simulator, gap.to, kept[-1][0] + 1)
    assert sum(gone < moment < killed for moment, _ in kept) > 40


def test_polling_stops_when_the_queue_is_full_and_goes_on_where_it_was(
    settings: Settings, world: World, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Producer(
        clients.librdkafka(settings.kafka) | {"enable.idempotence": True, "queue.buffering.max.messages": 500}
    )
    monkeypatch.setattr("infra.kafka.producer", lambda *_, **__: small)
    stopping, terminal = Event(), SimulatedTerminal(Market(7), ZONE, RealClock())
    terminal.initialize()
    terminal.symbol_select(SYMBOL, True)
    publisher = Publisher(settings, codec, stopping, feed="sim", shard="a")
    options = ProducerSettings(poll_ms=20, patience_seconds=0)
    shard = Shard(terminal, ZONE, RealClock(), publisher, options, Symbols({}), stopping)
    begins = now_ms() - 1_800_000
    poller = Poller(shard, {SYMBOL: Cursor(begins)}, {SYMBOL: SYMBOL})
    polls = 0

    def poll() -> None:
        nonlocal polls
        while not stopping.is_set():
            poller.cycle()
            polls += 1

    thread = Thread(target=poll)
    with away(settings.kafka):
        thread.start()
        eventually(lambda: len(small) >= 500)
        before = polls
        assert not stopping.wait(0.5)
        assert polls == before == 0, "the first poll has more than the queue holds"
    eventually(lambda: polls > 3)
    stopping.set()
    thread.join(10)
    assert publisher.flush(10)
    kept = [row for row in raw(settings, world, codec)[0] if row[0] >= begins]
    assert kept == expected(SimulatorSettings(), begins, kept[-1][0] + 1)
