"""One transaction holds everything, and only its owner's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from infra import kafka as clients
from infra import topics
from infra.settings import Settings
from infra.worlds import World
from processors.core.types import Outcome, Reason
from processors.drafts import LARGEST_DEAD_LETTER, Draft, Drafts, dead_reason
from processors.producer import TransactionalProducer
from processors.records import RawRecord, Records
from schemas.codec import Codec
from schemas.errors import ArbitrexError, BrokerError, DecodeError, FencedError, ProcessingError, UnknownSchemaError
from schemas.records import Progress
from tests.processors.oracle import output
from tests.processors.test_service import recent_ms

pytestmark = pytest.mark.kafka

PARTITION = 2


@asynccontextmanager
async def owner(settings: Settings, codec: Codec) -> AsyncIterator[TransactionalProducer]:
    world = World(settings.world)
    producer = TransactionalProducer(settings.kafka, world.transactional_id(PARTITION), PARTITION)
    try:
        await producer.start(Drafts(world, codec, PARTITION).topics)
        yield producer
    finally:
        await producer.close()


def drafted(settings: Settings, codec: Codec, records: Records, outcome: Outcome) -> Draft:
    progress = Progress(next_offset=int(records.offsets[-1]) + 1)
    return Drafts(World(settings.world), codec, PARTITION).unit(records, outcome, progress)


def outcome(clean: list[int], rejected: list[int], dead: list[tuple[int, ArbitrexError]] | None = None) -> Outcome:
    return Outcome(
        np.array(clean, np.int64),
        np.array(rejected, np.int64),
        np.full(len(rejected), Reason.CROSSED, np.int8),
        0,
        dead=dead or [],
    )


def records(count: int, start: int) -> Records:
    time = recent_ms()
    return Records.of(RawRecord(b"EURUSD", b"%d" % n, n, time + n) for n in range(start, start + count))


async def test_a_zombie_is_fenced_and_leaves_no_trace(settings: Settings, codec: Codec) -> None:
    async with owner(settings, codec) as old:
        await old.commit(drafted(settings, codec, records(3, 0), outcome([0, 1], [2])))
        async with owner(settings, codec) as new:
            with pytest.raises(FencedError, match="another worker"):
                await old.commit(drafted(settings, codec, records(3, 3), outcome([0, 1, 2], [])))
            await new.commit(drafted(settings, codec, records(3, 3), outcome([0, 2], [1])))
            with pytest.raises(BrokerError):  # and nothing helps it any more
                await old.commit(drafted(settings, codec, records(3, 6), outcome([0, 1, 2], [])))
    assert [m.value() for m in output(settings, topics.TICKS_CLEAN)] == [b"0", b"1", b"3", b"5"]
    assert [m.value() for m in output(settings, topics.TICKS_REJECTED)] == [b"2", b"4"]
    assert {m.partition() for m in output(settings, topics.TICKS_CLEAN)} == {PARTITION}
    assert [codec.decode(m.value() or b"") for m in output(settings, topics.PROGRESS)][-1] == Progress(next_offset=6)


async def test_what_a_zombie_left_open_is_aborted_by_the_next_owner(settings: Settings, codec: Codec) -> None:
    name = World(settings.world).topic(topics.TICKS_CLEAN.name)
    producer = clients.producer(settings.kafka, transactional_id=World(settings.world).transactional_id(PARTITION))
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(name, b"half", b"EURUSD", PARTITION, timestamp=recent_ms())
    producer.flush(20)
    async with owner(settings, codec) as new:
        await new.commit(drafted(settings, codec, records(1, 0), outcome([0], [])))
    assert [m.value() for m in output(settings, topics.TICKS_CLEAN)] == [b"0"]


async def test_dead_letters_keep_bytes_and_say_where_from(settings: Settings, codec: Codec) -> None:
    time = recent_ms()
    batch = Records.of([RawRecord(None, None, 7, time), RawRecord(b"k", b"x" * (LARGEST_DEAD_LETTER + 1), 9, -1)])
    dead: list[tuple[int, ArbitrexError]] = [(0, DecodeError("no value")), (1, UnknownSchemaError("no such id"))]
    async with owner(settings, codec) as found:
        await found.commit(drafted(settings, codec, batch, outcome([], [], dead)))
    first, second = output(settings, topics.DEAD_LETTERS)
    source = World(settings.world).topic("ticks.raw").encode()
    assert (first.key(), first.value(), first.timestamp()[1]) == (None, None, time)
    assert first.headers() == [
        ("topic", source),
        ("partition", b"2"),
        ("offset", b"7"),
        ("reason", b"decode"),
        ("error", b"no value"),
    ]
    assert len(second.value() or b"") == LARGEST_DEAD_LETTER
    assert dict(second.headers() or [])["truncated_from"] == b"%d" % (LARGEST_DEAD_LETTER + 1)
    assert dict(second.headers() or [])["reason"] == b"unknown_schema"


def test_reasons_are_labels() -> None:
    assert dead_reason(ProcessingError("x")) == "processing"
    assert dead_reason(UnknownSchemaError("x")) == "unknown_schema"
