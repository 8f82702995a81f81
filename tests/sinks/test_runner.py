"""The runner with real brokers, for every sink: nothing lost, nothing twice."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from infra import kafka as clients
from infra import metrics
from infra.lake.layout import BARS, REJECTED, TABLES, TICKS, Table
from infra.lake.tables import ends
from infra.settings import CsvSettings, KafkaSettings, LakeSettings, Settings
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.errors import BrokerError, FencedError, StoreError
from sinks.kinds import limits_of, sink_of
from sinks.runner import Runner
from sinks.sink import Batch, Sink, Source
from sinks.starts import starts
from tests.sinks.records import SYMBOLS, bar, tick
from tests.sinks.stores import Place, places_of
from tests.support import Child, Out, eventually, produce_all, read_all

pytestmark = pytest.mark.kafka
QUICK = {"rotate_seconds": 0.3, "rotate_rows": 2_000}


@pytest.fixture(params=["lake", "csv"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lake": LakeSettings(**QUICK), "csv": CsvSettings(**QUICK)})


def now_ms() -> int:
    """A record time that retention leaves alone."""
    return int(time.time() * 1_000)


def fill(settings: Settings, codec: Codec, first: int, count: int) -> None:
    """Ticks, rejected ticks and bars with numbers from ``first`` on, spread over all symbols."""
    world, numbers = World(settings.world), range(first, first + count)

    def outs(make: Callable[..., Any], headers: list[tuple[str, str | bytes | None]] | None = None) -> Iterator[Out]:
        for number in numbers:
            record = make(number, SYMBOLS[number % 4])
            yield Out(record.symbol, codec.encode(record), now_ms(), headers=headers)

    produce_all(settings, world.topic(TICKS.topic.name), outs(tick))
    produce_all(settings, world.topic(REJECTED.topic.name), outs(tick, [("reason", b"crossed")]))
    produce_all(settings, world.topic(BARS.topic.name), outs(bar))


def transaction(settings: Settings, codec: Codec, first: int, count: int, *, commit: bool) -> None:
    """Ticks in a transaction, which leaves a hole in the offsets."""
    producer = clients.producer(settings.kafka, transactional_id=f"{settings.world}-test")
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(first, first + count):
        producer.produce(
            World(settings.world).topic(TICKS.topic.name),
            key=b"EURUSD",
            value=codec.encode(tick(number)),
            partition=0,
            timestamp=now_ms(),
        )
    if commit:
        producer.commit_transaction(30)
    else:
        producer.flush(30)
        producer.abort_transaction(30)


def in_topic(settings: Settings, codec: Codec, table: Table) -> list[Place]:
    messages = read_all(settings, World(settings.world).topic(table.topic.name))
    values = decode_batch([message.value() for message in messages], codec, table.record).frame["symbol"]
    return sorted((s, m.partition() or 0, m.offset() or 0) for s, m in zip(values, messages, strict=True))


def in_sink(settings: Settings, name: str, table: Table) -> list[Place]:
    return sorted(places_of(settings, name, table))


def caught_up(settings: Settings, name: str, codec: Codec) -> None:
    """Wait for as many rows as there are records; then they must be the same ones."""
    for table in (TICKS, REJECTED, BARS):
        wanted = in_topic(settings, codec, table)
        eventually(lambda: len(in_sink(settings, name, table)) >= len(wanted), 60)  # noqa: B023 - called at once
        assert in_sink(settings, name, table) == wanted


class Running:
    """A runner in a thread."""

    def __init__(self, settings: Settings, sink: Sink, codec: Codec, **overrides: Any) -> None:
        limits = limits_of(settings, sink.name)
        self.stopping, self.ready = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self._runner = Runner(sink, limits, settings.kafka, World(settings.world), codec, **overrides)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._runner.run(self.stopping, self.ready.set)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(60)
        assert not self.alive


@contextmanager
def running(settings: Settings, sink: Sink, codec: Codec, **overrides: Any) -> Iterator[Running]:
    """A runner that must not fail."""
    with closing(sink):
        found = Running(settings, sink, codec, **overrides)
        try:
            yield found
        finally:
            found.stop()
        assert found.error is None


def test_idle_topics_are_flushed_and_a_restart_goes_on(settings: Settings, codec: Codec, name: str) -> None:
    fill(settings, codec, 0, 200)
    with running(settings, sink_of(settings, name), codec):
        caught_up(settings, name, codec)
        fill(settings, codec, 200, 3)
        caught_up(settings, name, codec)
    fill(settings, codec, 203, 100)
    with running(settings, sink_of(settings, name), codec):
        caught_up(settings, name, codec)


def test_a_graceful_stop_flushes(settings: Settings, codec: Codec, name: str) -> None:
    slow = {"rotate_seconds": 3_600.0}
    settings = settings.model_copy(update={"lake": LakeSettings(**slow), "csv": CsvSettings(**slow)})
    fill(settings, codec, 0, 50)
    with running(settings, sink_of(settings, name), codec) as runner:
        eventually(lambda: sum(runner._runner._buffer.counts().values()) == 150)
        assert in_sink(settings, name, TICKS) == []
    assert len(in_sink(settings, name, TICKS)) == 50


def test_transactions_aborted_ones_and_holes(settings: Settings, codec: Codec) -> None:
    transaction(settings, codec, 0, 20, commit=True)
    transaction(settings, codec, 100, 10, commit=False)
    transaction(settings, codec, 20, 20, commit=True)
    topic = World(settings.world).topic(TICKS.topic.name)
    consumer = clients.consumer(settings.kafka, group="test")
    _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.close()
    with running(settings, sink_of(settings, "lake"), codec):
        caught_up(settings, "lake", codec)
        eventually(lambda: ends(settings.lake_uri, None, settings.world, 4)[topic].get(0) == high)
    assert len(in_sink(settings, "lake", TICKS)) == 40


@pytest.mark.one_broker
def test_killed_hard_at_random_while_data_flow(settings: Settings, codec: Codec, name: str) -> None:
    chance = random.Random(5)
    stop = threading.Event()

    def flow() -> None:
        first = 0
        while not stop.is_set():
            fill(settings, codec, first, 40)
            first += 40
            stop.wait(0.1)

    producing = threading.Thread(target=flow)
    producing.start()
    try:
        for _ in range(3):
            with Child(settings, "sink", name) as child:
                stop.wait(chance.uniform(0.2, 1.5))
                child.kill()
    finally:
        stop.set()
        producing.join()
    with Child(settings, "sink", name):
        caught_up(settings, name, codec)


@pytest.mark.one_broker
def test_two_runners_that_fight_for_the_same_partitions(settings: Settings, codec: Codec) -> None:
    """What both cut at the same place is one commit, which the second may call its own; so ticks trickle in."""
    stop, fenced = threading.Event(), [0, 0]
    hurry = LakeSettings(rotate_seconds=0.3, rotate_rows=40), LakeSettings(rotate_seconds=0.7, rotate_rows=70)

    def fight(number: int) -> None:
        mine = settings.model_copy(update={"lake": hurry[number]})
        while not stop.is_set():
            with closing(sink_of(mine, "lake")) as sink:
                runner = Running(mine, sink, codec, **{"group.id": f"{settings.world}.fighter.{number}"})
                while runner.alive and not stop.is_set():
                    stop.wait(0.05)
                runner.stop()
                if runner.error is not None:
                    assert isinstance(runner.error, FencedError), runner.error
                    fenced[number] += 1

    def trickle() -> Iterator[Out]:
        deadline = time.monotonic() + 60
        for number in itertools.count():
            if sum(fenced) > 1 or time.monotonic() > deadline:
                return
            yield Out(SYMBOLS[number % 4], codec.encode(tick(number, SYMBOLS[number % 4])), now_ms())
            stop.wait(0.002)

    threads = [threading.Thread(target=fight, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        produce_all(settings, World(settings.world).topic(TICKS.topic.name), trickle())
        assert sum(fenced) > 0
        caught_up(settings, "lake", codec)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    caught_up(settings, "lake", codec)


def test_two_runners_of_one_group_share_the_work(settings: Settings, codec: Codec) -> None:
    if settings.kafka.embedded:
        pytest.skip("the embedded broker keeps a static member's partitions when it leaves")
    fill(settings, codec, 0, 100)
    with running(settings, sink_of(settings, "lake"), codec) as first:
        assert first.ready.wait(30)
        fill(settings, codec, 100, 100)
        with running(settings, sink_of(settings, "lake"), codec) as second:
            fill(settings, codec, 200, 100)
            assert second.ready.wait(30)
            fill(settings, codec, 300, 100)
            caught_up(settings, "lake", codec)
        fill(settings, codec, 400, 50)
        caught_up(settings, "lake", codec)


def test_what_a_stranger_writes_is_counted_and_passed_over(settings: Settings, codec: Codec, name: str) -> None:
    world = World(settings.world)
    topic = world.topic(TICKS.topic.name)

    def skipped(reason: str) -> float:
        return float(metrics.SINK_SKIPPED.labels(name, "ticks", reason)._value.get())

    reasons = ("undecodable", "tombstone", "other_record", "out_of_range")
    before = {reason: skipped(reason) for reason in reasons}
    good = codec.encode(tick(1))
    bad: list[bytes | None] = [
        b"rubbish",
        None,
        codec.encode(bar(1)),
        codec.encode(tick(2, bid=float("inf"))),
        codec.encode(tick(3, ts_event=2**62)),
        good[:-3],
    ]
    produce_all(settings, topic, [Out("EURUSD", value, now_ms(), 0) for value in (good, *bad, good)])
    with running(settings, sink_of(settings, name), codec):
        eventually(lambda: len(in_sink(settings, name, TICKS)) == 2)
    assert in_sink(settings, name, TICKS) == [("EURUSD", 0, 0), ("EURUSD", 0, 7)]
    assert {reason: skipped(reason) - before[reason] for reason in reasons} == {
        "undecodable": 2,
        "tombstone": 1,
        "other_record": 1,
        "out_of_range": 2,
    }


class Flaky:
    """A sink whose store is away at times, before or after the commit has landed."""

    name = "lake"
    tables: tuple[Table, ...] = TABLES

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.close = sink.close
        self.away = iter([True, True])
        self.failures = iter(["write", "", "before", "after", "after", "", "before"])

    def positions(self, sources: Collection[Source]) -> dict[Source, int]:
        if next(self.away, False):
            raise StoreError("the store is away")
        return self._sink.positions(sources)

    def write(self, batch: Batch) -> None:
        self.failure = next(self.failures, "")
        if self.failure == "write":
            raise StoreError("the disk is full")
        self._sink.write(batch)

    def commit(self, offsets: Any) -> None:
        if self.failure == "before":
            raise StoreError("the store is away")
        self._sink.commit(offsets)
        if self.failure == "after":
            raise StoreError("the answer was lost")


def test_a_store_that_is_away_holds_the_runner_up_and_costs_nothing(settings: Settings, codec: Codec) -> None:
    fill(settings, codec, 0, 100)
    with running(settings, Flaky(sink_of(settings, "lake")), codec):
        caught_up(settings, "lake", codec)
        fill(settings, codec, 100, 100)
        caught_up(settings, "lake", codec)


class Electing:
    """A client whose partition has no leader for a while."""

    def __init__(self, *codes: int) -> None:
        self.codes = iter(codes)

    def get_watermark_offsets(self, _: TopicPartition, *, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        if code := next(self.codes, None):
            raise KafkaException(KafkaError(code))
        return 3, 9


def test_a_partition_without_a_leader_is_waited_for() -> None:
    place, source = TopicPartition("main.ticks.clean", 0), Source("main.ticks.clean", 0)
    lost: Any = Electing(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT, KafkaError.LEADER_NOT_AVAILABLE)
    (found,) = starts(lost, [place], {source: 5}, "lake", accept_loss=False)
    assert found.offset == 5
    refusing: Any = Electing(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        starts(refusing, [place], {source: 5}, "lake", accept_loss=False)


class Away:
    """A sink whose store is away until ``back`` is set."""

    name = "lake"
    tables: tuple[Table, ...] = TABLES

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.positions, self.commit, self.close = sink.positions, sink.commit, sink.close
        self.back, self.asked = threading.Event(), threading.Event()

    def write(self, batch: Batch) -> None:
        self.asked.set()
        if not self.back.is_set():
            raise StoreError("the store is away")
        self._sink.write(batch)


def test_partitions_that_are_assigned_anew_while_the_store_is_away_are_read_again(
    settings: Settings, codec: Codec
) -> None:
    fill(settings, codec, 0, 100)
    away = Away(sink_of(settings, "lake"))
    with running(settings, away, codec):
        assert away.asked.wait(30)
        instance = {"group.instance.id": "second"} if settings.kafka.embedded else {}
        with running(settings, sink_of(settings, "lake"), codec, **instance) as second:
            assert second.ready.wait(30)
            away.back.set()
            fill(settings, codec, 100, 100)
            caught_up(settings, "lake", codec)


def test_a_group_learns_what_a_killed_owner_had_committed(settings: Settings, codec: Codec) -> None:
    """`import --run` waits for the group's offsets: a sink killed before it stored them must not hold it up."""
    world = World(settings.world)
    place = TopicPartition(world.topic(TICKS.topic.name), 0)
    produce_all(settings, place.topic, [Out("EURUSD", codec.encode(tick(n)), now_ms(), 0) for n in range(5)])
    with closing(sink_of(settings, "lake")) as killed:
        killed.positions([Source(place.topic, 0)])
        killed.commit({Source(place.topic, 0): 5})
    admin, asked = clients.admin(settings.kafka), ConsumerGroupTopicPartitions(world.group("sink.lake"), [place])

    def stored() -> int:
        futures = admin.list_consumer_group_offsets([asked], request_timeout=10)
        return int(futures[asked.group_id].result(10).topic_partitions[0].offset)

    assert stored() < 0
    with running(settings, sink_of(settings, "lake"), codec):
        eventually(lambda: stored() == 5)


def test_a_second_csv_writer_is_refused(settings: Settings, codec: Codec) -> None:
    with running(settings, sink_of(settings, "csv"), codec) as first:
        assert first.ready.wait(30)
        with pytest.raises(FencedError, match="one writer"), closing(sink_of(settings, "csv")) as second:
            second.positions(())


def test_records_lost_to_retention_are_named_and_accepted_only_when_asked(
    settings: Settings, codec: Codec, kafka: KafkaSettings
) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker cannot delete records by request")
    topic = World(settings.world).topic(TICKS.topic.name)

    def produce(count: int) -> None:
        produce_all(settings, topic, [Out("EURUSD", codec.encode(tick(n)), now_ms(), 0) for n in range(count)])

    produce(5)
    with running(settings, sink_of(settings, "lake"), codec):
        eventually(lambda: len(in_sink(settings, "lake", TICKS)) == 5)
    produce(10)
    admin = clients.admin(settings.kafka)  # its futures end only while it lives
    for future in admin.delete_records([TopicPartition(topic, 0, 9)]).values():
        future.result(30)
    with closing(sink_of(settings, "lake")) as sink:
        refused = Running(settings, sink, codec)
        eventually(lambda: not refused.alive)
        assert isinstance(refused.error, BrokerError)
        assert f"{topic}/0: 4 offsets (5 to 8) were deleted" in str(refused.error)
        assert "ARBITREX_LAKE__ACCEPT_LOSS" in str(refused.error)
    accepting = settings.model_copy(update={"lake": LakeSettings(**QUICK, accept_loss=True)})
    with running(accepting, sink_of(settings, "lake"), codec):
        eventually(lambda: len(in_sink(settings, "lake", TICKS)) == 11)


def test_a_topic_that_ends_before_what_the_sink_has_is_an_error(settings: Settings, codec: Codec) -> None:
    topic = World(settings.world).topic(TICKS.topic.name)
    with ExitStack() as stack:
        sink = stack.enter_context(closing(sink_of(settings, "lake")))
        sink.positions([Source(topic, 0)])
        sink.commit({Source(topic, 0): 99})
        runner = Running(settings, sink, codec)
        eventually(lambda: not runner.alive)
        assert isinstance(runner.error, BrokerError)
        assert f"{topic}/0 ends at offset 0" in str(runner.error)


def test_paths_of_worlds(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).csv_dir == tmp_path / "raw"
    assert Settings(home=tmp_path, world="con").csv_dir == tmp_path / "raw" / "worlds" / "%63on"
