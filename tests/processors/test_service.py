"""The processor as a process, on real brokers."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import pytest
from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from infra import kafka as clients
from infra import topics
from infra.kafka import partition_for
from infra.kafka_log import partition_count
from infra.proof.reading import Reader
from infra.proof.verification import Scope, verify
from infra.settings import BarSettings, ProcessorSettings, Settings
from infra.worlds import World
from processors.app import GROUP
from processors.service import STOP_SECONDS
from schemas.codec import Codec
from schemas.records import Bar, BarStatus, Control, ControlKind, EventKind, FeedEvent, Tick
from tests.processors.oracle import caught_up, check, output
from tests.processors.stream import FEED, SHARD, Stream
from tests.support import Child, Out, eventually, produce_all

pytestmark = pytest.mark.kafka


def recent_ms() -> int:
    """Half an hour ago, at a minute's start: what is older would fall to retention."""
    return (int(time.time()) - 1_800) // 60 * 60_000


@pytest.fixture
def raw(settings: Settings) -> str:
    return World(settings.world).topic(topics.TICKS_RAW.name)


@pytest.fixture
def stream(settings: Settings, codec: Codec, raw: str) -> Stream:
    return Stream(codec, recent_ms(), partitions=partition_count(settings.kafka, raw))


def aborted(settings: Settings, raw: str, records: Iterator[Out]) -> None:
    """Leave records in ``raw`` that no read_committed reader sees, and the hole of a transaction's marker."""
    producer = clients.producer(settings.kafka, transactional_id=f"{settings.world}.foreign")
    producer.init_transactions(20)
    partitions = partition_count(settings.kafka, raw)
    producer.begin_transaction()
    for record in records:
        partition = clients.partition_for(record.key, partitions) if record.partition is None else record.partition
        producer.produce(raw, record.value, record.key, partition, timestamp=record.timestamp)
    producer.flush(20)
    producer.abort_transaction(20)


def test_a_stream_with_everything_in_it(settings: Settings, codec: Codec, raw: str, stream: Stream) -> None:
    produce_all(settings, raw, stream.specs())
    produce_all(settings, raw, stream.ticks(3_000, rubbish=True, late=True))
    with Child(settings, "processor"):
        eventually(lambda: caught_up(settings, codec), 60)
    aborted(settings, raw, Stream(codec, stream.time, partitions=1, seed=99).ticks(50))
    produce_all(settings, raw, stream.ticks(2_000))
    with Child(settings, "processor"):
        produce_all(settings, raw, stream.ticks(500, rubbish=True, late=True))
        produce_all(settings, raw, stream.watermark(stream.time))
        eventually(lambda: caught_up(settings, codec), 60)
    expected = check(settings, codec)
    assert expected.repeats > 50
    assert sum(map(len, expected.dead.values())) > 50
    assert len(expected.bars) > 15
    assert sum(len(revisions) - 1 for revisions in expected.bars.values()) > 5
    reasons = {dict(m.headers() or [])["reason"] for m in output(settings, topics.DEAD_LETTERS)}
    assert reasons == {b"decode", b"unknown_schema"}


@pytest.mark.one_broker
def test_a_stop_takes_seconds_and_leaves_the_group(settings: Settings, raw: str, stream: Stream) -> None:
    produce_all(settings, raw, stream.specs())
    for _ in range(2):
        with Child(settings, "processor") as child:
            assert child.ready["partitions"] == partition_count(settings.kafka, raw)
            asked = time.monotonic()
        assert child.process.returncode == 0  # 1 is the hard end after 15 s
        assert time.monotonic() - asked < STOP_SECONDS
        if not settings.kafka.embedded:
            admin = clients.admin(settings.kafka)  # its futures end only while it lives
            (found,) = admin.describe_consumer_groups([World(settings.world).group(GROUP)]).values()
            assert not found.result(20).members  # nobody waits for one that said goodbye


@pytest.mark.one_broker
def test_too_many_dead_letters_stop_the_worker_for_good(
    settings: Settings, codec: Codec, raw: str, stream: Stream
) -> None:
    few = settings.model_copy(update={"processor": ProcessorSettings(dead_letter_limit=5)})
    symbol = stream.symbols[0]
    rubbish = [Out(symbol, b"rubbish", stream.start_ms + n) for n in range(5)]
    produce_all(settings, raw, stream.specs())
    produce_all(settings, raw, rubbish)
    with Child(few, "processor") as child:
        eventually(lambda: caught_up(settings, codec))
        produce_all(settings, raw, rubbish[:1])
        assert child.process.wait(30) == 1
    assert len(output(settings, topics.DEAD_LETTERS)) == 5
    with Child(few, "processor") as child:  # started again it remembers
        assert child.process.wait(30) == 1
    assert len(output(settings, topics.DEAD_LETTERS)) == 5
    with Child(settings, "processor"):
        eventually(lambda: caught_up(settings, codec))
    assert len(output(settings, topics.DEAD_LETTERS)) == 6


def test_records_lost_to_retention(settings: Settings, codec: Codec, raw: str, stream: Stream) -> None:
    produce_all(settings, raw, stream.specs())
    with Child(settings, "processor"):
        eventually(lambda: caught_up(settings, codec))
    produce_all(settings, raw, stream.ticks(400))
    partitions = partition_count(settings.kafka, raw)
    gone = [TopicPartition(raw, partition, OFFSET_END) for partition in range(partitions)]
    admin = clients.admin(settings.kafka)  # its futures end only while it lives
    try:
        for future in admin.delete_records(gone).values():
            future.result(20)
    except (KafkaException, TimeoutError) as error:
        pytest.skip(f"this broker does not delete records: {error!r}")
    with pytest.raises(AssertionError, match="ended before it was ready"), Child(settings, "processor"):
        pass
    texts = [getattr(codec.decode(m.value() or b""), "text", "") for m in output(settings, topics.FEED_EVENTS)]
    assert any("gone before they were processed" in text for text in texts)
    accepting = settings.model_copy(update={"processor": ProcessorSettings(accept_loss=True)})
    lost_to = stream.time
    with Child(accepting, "processor"):
        pass  # it may end before there is a record to say how much was lost
    with Child(settings, "processor"):
        produce_all(settings, raw, [*stream.ticks(100), *stream.watermark(stream.time)])
        eventually(lambda: caught_up(settings, codec))
    events = [codec.decode(m.value() or b"") for m in output(settings, topics.FEED_EVENTS)]
    gaps = {e.symbol: e for e in events if isinstance(e, FeedEvent) and e.kind == EventKind.GAP}
    assert gaps.keys() == set(stream.symbols)
    assert sum(isinstance(e, FeedEvent) and e.kind == EventKind.GAP for e in events) == len(gaps)
    assert {gap.from_ for gap in gaps.values()} == {stream.start_ms}
    assert all(lost_to - 5_000 < (gap.to or 0) <= stream.time for gap in gaps.values())


def test_a_correction_revises_what_closed_before_a_restart(
    settings: Settings, codec: Codec, raw: str, stream: Stream
) -> None:
    def bars() -> dict[str, list[Bar]]:
        found: dict[str, list[Bar]] = defaultdict(list)
        for message in output(settings, topics.BARS):
            bar = codec.decode(message.value() or b"")
            assert isinstance(bar, Bar)
            found[bar.key].append(bar)
        return found

    symbol = stream.symbols[0]
    late = Tick(
        symbol=symbol, ts_event=stream.start_ms, ordinal=999, bid=0.5, ask=0.75, flags=6, feed=FEED,
        server_time=stream.start_ms, ts_recv=stream.time * 1_000, correction=True,
    )  # fmt: skip
    produce_all(settings, raw, [*stream.specs(), *stream.ticks(500, step_ms=4_000), *stream.watermark(stream.time)])
    with Child(settings, "processor"):
        eventually(lambda: caught_up(settings, codec))
    before = bars()
    with Child(settings, "processor"):
        for ordinal in (999, 1_000):
            produce_all(settings, raw, stream.ticks(500, step_ms=4_000))
            again = replace(late, ordinal=ordinal)
            produce_all(settings, raw, [Out(symbol, codec.encode(again), again.ts_event)])
            eventually(lambda: caught_up(settings, codec))
    after = bars()
    key = f"{symbol}|M1|{stream.start_ms}"
    first, second, third = after[key]
    assert before[key] == [first]
    assert (second.revision, second.status, second.low) == (1, BarStatus.REVISED, 0.5)
    assert third == replace(second, revision=2, tick_count=first.tick_count + 2, tick_volume=first.tick_volume + 2,
                            last_tick_ts=third.last_tick_ts, last_tick_ordinal=third.last_tick_ordinal)  # fmt: skip
    revised = {bar.key for bars in after.values() for bar in bars if bar.revision}
    assert all(name.startswith(f"{symbol}|") and name.endswith(f"|{stream.start_ms}") for name in revised)


@pytest.mark.one_broker
def test_a_correction_cuts_the_days_tick_bars_anew_after_a_restart(
    settings: Settings, codec: Codec, raw: str, stream: Stream
) -> None:
    name, size, symbol = "T:10", 10, stream.symbols[0]
    counting = settings.model_copy(update={"bars": BarSettings(timeframes=("M1", name))})
    since = stream.start_ms - 26 * 3_600_000
    covered = Control(kind=ControlKind.COVERAGE, feed=FEED, shard=SHARD, symbol=symbol, time=since)
    late = Tick(
        symbol=symbol, ts_event=stream.start_ms + 60_000, ordinal=999, bid=0.5, ask=0.75, flags=6, feed=FEED,
        server_time=stream.start_ms, ts_recv=stream.time * 1_000, correction=True,
    )  # fmt: skip
    produce_all(settings, raw, [*stream.specs(), Out(symbol, codec.encode(covered), since)])
    produce_all(settings, raw, stream.ticks(500, step_ms=2_000))
    with Child(counting, "processor"):
        eventually(lambda: caught_up(settings, codec))
    with Child(counting, "processor"):
        produce_all(settings, raw, [Out(symbol, codec.encode(late), late.ts_event)])
        produce_all(settings, raw, stream.ticks(100, step_ms=2_000))
        eventually(lambda: caught_up(settings, codec))
    ticks = [codec.decode(m.value() or b"") for m in output(settings, topics.TICKS_CLEAN)]
    mine = sorted((t.ts_event, t.ordinal) for t in ticks if isinstance(t, Tick) and t.symbol == symbol)
    days: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for identity in mine:
        days[identity[0] // 86_400_000 * 86_400_000].append(identity)
    expected = {
        f"{symbol}|{name}|{day}.{at // size}": (found[at], found[at + size - 1])
        for day, found in days.items()
        for at in range(0, len(found) - size + 1, size)
    }
    bars = [codec.decode(m.value() or b"") for m in output(settings, topics.BARS)]
    counted = [bar for bar in bars if isinstance(bar, Bar) and bar.timeframe == name and bar.tick_count == size]
    seen = {
        bar.key: ((bar.first_tick_ts, bar.first_tick_ordinal), (bar.last_tick_ts, bar.last_tick_ordinal))
        for bar in counted
    }
    assert seen == expected
    assert sum(bar.revision == 1 for bar in counted) > 1
    assert {bar.symbol for bar in counted} == {symbol}
    report = verify(counting, Reader(counting, codec, Event()), Scope(), with_rates=False)
    assert report.proved
    tally = report.bars.tallies[symbol, name]
    assert (tally.equal, tally.gone) == (
        len({bar.key for bar in bars if isinstance(bar, Bar) and bar.timeframe == name}),
        0,
    )
    forged = replace(counted[-1], high=9.0)
    place = partition_for(symbol, partition_count(settings.kafka, raw))
    produce_all(
        settings,
        World(settings.world).topic(topics.BARS.name),
        [Out(forged.key, codec.encode(forged), forged.ts_close, place)],
    )
    assert (
        verify(counting, Reader(counting, codec, Event()), Scope(), with_rates=False)
        .bars.tallies[symbol, name]
        .differing
        == 1
    )


def test_a_second_worker_stands_by_or_shares(settings: Settings, codec: Codec, raw: str, stream: Stream) -> None:
    produce_all(settings, raw, stream.specs())
    with Child(settings, "processor"):
        with Child(settings, "processor"):
            produce_all(settings, raw, stream.ticks(1_000))
            eventually(lambda: caught_up(settings, codec))
            check(settings, codec)
        if settings.kafka.embedded:
            pytest.skip("the embedded broker keeps a static member's partitions when it leaves")
        produce_all(settings, raw, stream.ticks(1_000))
        eventually(lambda: caught_up(settings, codec))
    check(settings, codec)
