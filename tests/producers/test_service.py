from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from infra import kafka_log
from infra.kafka import partition_for
from infra.market.zones import ServerZone
from infra.settings import ProducerSettings, Settings, SimulatorSettings
from infra.worlds import World
from producers.recent import Recent
from producers.restore import recall, restore
from producers.simulated.market import Market
from producers.terminal import TICK_DTYPE
from schemas.codec import Codec
from schemas.records import Control, ControlKind, EventKind, FeedEvent, Tick
from tests.support import Child, eventually, read_all

pytestmark = pytest.mark.kafka

_END = 2**62
SYMBOLS = ("EURUSD", "BTCUSD", "USDJPY")


def with_source(settings: Settings, **simulator: Any) -> Settings:
    return settings.model_copy(
        update={
            "producer": ProducerSettings(symbols=SYMBOLS, poll_ms=20),
            "simulator": SimulatorSettings(**simulator),
        }
    )


def count(settings: Settings) -> int:
    return sum(kafka_log.ends(settings.kafka, World(settings.world).topic("ticks.raw")).values())


def watermarks(settings: Settings) -> int:
    return sum(message.key() == b"@sim/a" for message in read_all(settings, World(settings.world).topic("ticks.raw")))


def watermarks_of(settings: Settings, symbol: str) -> int:
    """How many stand in the symbol's partition."""
    topic = World(settings.world).topic("ticks.raw")
    place = partition_for(symbol, kafka_log.partition_count(settings.kafka, topic))
    return sum(m.key() == b"@sim/a" for m in read_all(settings, topic) if m.partition() == place)


def published(
    settings: Settings, world: World, codec: Codec
) -> tuple[dict[str, list[Tick]], list[tuple[int, Control]]]:
    """Ticks by symbol, and controls with their partition, in order."""
    ticks: dict[str, list[Tick]] = defaultdict(list)
    controls: list[tuple[int, Control]] = []
    for message in read_all(settings, world.topic("ticks.raw")):
        value = message.value()
        assert value is not None
        record = codec.decode(value)
        assert message.timestamp()[1] == (record.ts_event if isinstance(record, Tick) else record.time)  # type: ignore[union-attr]
        if isinstance(record, Tick):
            assert message.key() == record.symbol.encode()
            ticks[record.symbol].append(record)
        else:
            assert isinstance(record, Control)
            controls.append((message.partition() or 0, record))
    return ticks, controls


def check_complete(settings: Settings, ticks: dict[str, list[Tick]], controls: list[tuple[int, Control]]) -> None:
    """Each tick of the market since coverage once and in order, as far as it was published."""
    market = Market(settings.simulator.seed, settings.simulator.rate)
    zone = ServerZone.parse(settings.simulator.zone)
    for symbol, found in ticks.items():
        identities = [(tick.ts_event, tick.ordinal) for tick in found]
        highest = (-1, -1)
        fresh = []
        for identity, tick in zip(identities, found, strict=True):
            if identity > highest:
                highest = identity
                fresh.append(tick)
        begins = {c.time for _, c in controls if c.symbol == symbol and c.kind == ControlKind.COVERAGE}
        assert len(begins) == 1
        expected = np.concatenate(list(market.ticks(symbol, begins.pop(), highest[0] + 1)))
        assert [t.ts_event for t in fresh] == expected["time_msc"].tolist()[: len(fresh)]
        assert len(expected) - len(fresh) <= 3  # ticks of the last millisecond that a poll cut in two
        assert [t.bid for t in fresh] == expected["bid"].tolist()[: len(fresh)]
        assert [t.ask for t in fresh] == expected["ask"].tolist()[: len(fresh)]
        server = zone.to_server(np.array([t.ts_event for t in fresh], np.int64))
        assert [t.server_time for t in fresh] == server.tolist()


def check_known(recent: Mapping[str, Recent], ticks: Mapping[str, list[Tick]]) -> None:
    """Of each series' last minutes every tick is known, once: shown again none is late, shown twice each is."""
    for symbol, one in recent.items():
        once = list({(t.ts_event, t.ordinal): t for t in ticks[symbol]}.values())
        answer = np.zeros(len(once), TICK_DTYPE)
        for name, field in (("bid", "bid"), ("ask", "ask"), ("last", "last"), ("volume_real", "volume")):
            answer[name] = [getattr(tick, field) for tick in once]
        times = np.array([tick.ts_event for tick in once])
        assert not len(one.late(answer, times, until=_END)[0])
        rows, _ = one.late(np.repeat(answer, 2), np.repeat(times, 2), until=_END)
        assert len(rows) == np.count_nonzero(times >= one.since) > 0


def test_what_was_published_is_the_market_after_kills(settings: Settings, world: World, codec: Codec) -> None:
    settings = with_source(settings, start="2026-03-05T08:00:00Z", speed=600)
    for more in (0, 1, 30, 500, 2_000, 5_000):
        before = count(settings)
        with Child(settings, "producer", "--shard", "a") as child:
            eventually(lambda: count(settings) >= before + more, every=0.2)  # noqa: B023
            child.kill()
    with Child(settings, "producer", "--shard", "a"):
        before = watermarks(settings)
        eventually(lambda: watermarks(settings) > before + 30, every=0.5)
    ticks, controls = published(settings, world, codec)
    assert set(ticks) == set(SYMBOLS)
    check_complete(settings, ticks, controls)
    standing = restore(settings, codec, "sim")
    past = recall(settings, codec, "sim", "a", standing)
    check_known(past.recent, ticks)
    assert past.watermark == max(c.time for _, c in controls if c.kind == ControlKind.WATERMARK)
    for partition in {p for p, _ in controls}:
        times = [c.time for p, c in controls if p == partition and c.kind == ControlKind.WATERMARK]
        assert times == sorted(times)
        assert len(times) > 5


def test_a_watermark_is_in_every_partition_of_its_shard_and_behind_its_ticks(
    settings: Settings, world: World, codec: Codec
) -> None:
    settings = with_source(settings, start="2026-03-05T08:00:00Z", speed=2_000)
    with Child(settings, "producer", "--shard", "a"):
        eventually(lambda: count(settings) > 10_000 and watermarks(settings) > 20, every=0.5)
    highest: dict[tuple[int, str], int] = {}
    reached: dict[int, int] = {}
    marks: dict[int, set[int]] = defaultdict(set)
    for message in read_all(settings, world.topic("ticks.raw")):
        value = message.value()
        assert value is not None
        record, partition = codec.decode(value), message.partition() or 0
        if isinstance(record, Tick):
            assert record.ts_event > reached.get(partition, 0), "a tick came after its watermark"
            highest[partition, record.symbol] = record.ts_event
        elif isinstance(record, Control) and record.kind == ControlKind.WATERMARK:
            assert message.key() == b"@sim/a"
            reached[partition] = record.time
            marks[partition].add(record.time)
    assert len({frozenset(times) for times in marks.values()}) == 1
    assert {p for p, _ in highest} == set(marks)


def test_a_first_start_begins_in_the_past_and_goes_on(settings: Settings, world: World, codec: Codec) -> None:
    settings = with_source(settings)
    with Child(settings, "producer", "--shard", "a"):
        eventually(lambda: count(settings) > 3_000, every=0.2)
    standing = restore(settings, codec, "sim")
    past = recall(settings, codec, "sim", "a", standing.of(["EURUSD", "BTCUSD"]))
    assert past.recent.keys() == {"EURUSD", "BTCUSD"}
    first, _ = published(settings, world, codec)
    for symbol, cursor in past.cursors.items():
        assert cursor.last_msc == first[symbol][-1].ts_event
        assert cursor.taken == first[symbol][-1].ordinal + 1
        assert standing.since[symbol] <= cursor.last_msc + 1 - settings.producer.reread_minutes * 60_000
    check_known(past.recent, first)
    before = watermarks_of(settings, "USDJPY")
    with Child(with_source(settings, faults=("drop=USDJPY",)), "producer", "--shard", "a"):
        eventually(lambda: len(published(settings, world, codec)[0]["BTCUSD"]) > len(first["BTCUSD"]), every=0.5)
        eventually(lambda: watermarks_of(settings, "USDJPY") > before, every=0.5)
    ticks, controls = published(settings, world, codec)
    check_complete(settings, ticks, controls)
    assert len(ticks["BTCUSD"]) == len({(t.ts_event, t.ordinal) for t in ticks["BTCUSD"]}), "nothing is repeated"
    events = [codec.decode(m.value() or b"") for m in read_all(settings, world.topic("feed.events"))]
    told = [(e.kind, e.symbol) for e in events if isinstance(e, FeedEvent)]
    assert told == [(EventKind.CONNECTED, None)] * 2 + [(EventKind.DISCONNECTED, "USDJPY")]
