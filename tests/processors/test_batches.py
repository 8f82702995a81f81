"""Record batches made of columns are what aiokafka's parser, librdkafka's and Kafka's read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from infra import topics
from infra.settings import Settings
from infra.worlds import World
from processors.batches import LARGEST, Out, RecordBatch, batched, columnar
from processors.producer import TransactionalProducer
from tests.processors.oracle import output
from tests.processors.test_service import recent_ms

PRODUCER, EPOCH, SEQUENCE = 2**40 + 7, 3, 2**31 - 5

some_bytes = st.none() | st.binary(max_size=300)
times = st.integers(0, 2**42)
names = st.text(max_size=5)
headers = st.lists(st.tuples(names, some_bytes), max_size=3)


def binary(contents: Iterable[bytes | None]) -> pl.Series:
    return pl.Series(list(contents), dtype=pl.Binary)


def parsed(batches: Sequence[RecordBatch]) -> list[Any]:
    found = []
    for batch in batches:
        batch._set_producer_state(PRODUCER, EPOCH, SEQUENCE)
        read = DefaultRecordBatch(batch._build())
        assert read.validate_crc()
        assert (read.producer_id, read.producer_epoch, read.base_sequence) == (PRODUCER, EPOCH, SEQUENCE)
        assert read.is_transactional
        assert not read.is_control_batch
        records = list(read)
        assert [record.offset for record in records] == list(range(batch.record_count()))
        assert read.max_timestamp == max(record.timestamp for record in records)
        assert read.next_offset == batch.record_count()
        found += records
    return found


@given(st.lists(st.builds(Out, some_bytes, some_bytes, times, headers), max_size=20))
def test_any_records_are_read_back(records: list[Out]) -> None:
    read = [Out(r.key, r.value, r.timestamp, list(r.headers)) for r in parsed([*batched(records)])]
    assert read == records


@given(st.lists(st.tuples(some_bytes, some_bytes, st.just(-1) | times), max_size=20), st.sampled_from([1, 50]))
def test_columns_give_the_same(rows: list[tuple[bytes | None, bytes | None, int]], times: int) -> None:
    rows = rows * times
    stamps = np.array([time for _, _, time in rows], np.int64)
    read = parsed([*columnar(binary(key for key, _, _ in rows), binary(value for _, value, _ in rows), stamps)])
    assert [(r.key, r.value, r.timestamp) for r in read] == rows


@pytest.mark.parametrize("size", [LARGEST // 3, LARGEST + 100])
def test_a_batch_is_no_larger_than_brokers_take_but_for_a_single_record(size: int) -> None:
    values = [bytes([at]) * size for at in range(7)]
    keys, stamps = [b"k"] * 7, np.arange(7)
    for batches in (
        [*batched(map(Out, keys, values, stamps.tolist()))],
        [*columnar(binary(keys * 20), binary(values * 20), np.tile(stamps, 20))],
    ):
        assert {batch.record_count() for batch in batches} <= ({1, 2} if size < LARGEST else {1})
        assert [record.value for record in parsed(batches)] in (values, values * 20)


@pytest.mark.kafka
async def test_a_broker_takes_them_and_others_read_them(settings: Settings) -> None:
    name, time = World(settings.world).topic(topics.TICKS_CLEAN.name), recent_ms()
    values = [b"%d" % at * 8 for at in range(40_000)]
    producer = TransactionalProducer(settings.kafka, f"{settings.world}.batches", 1)
    try:
        await producer.start([name])
        await producer.commit(
            {name: [*columnar(binary([b"EURUSD"] * len(values)), binary(values), np.full(len(values), time))]}
        )
        await producer.commit({name: [*batched([Out(b"k", b"last", time + 1, [("reason", b"x")])])]})
    finally:
        await producer.close()
    *first, last = output(settings, topics.TICKS_CLEAN)
    assert [message.value() for message in first] == values
    assert {(message.key(), message.timestamp()[1]) for message in first} == {(b"EURUSD", time)}
    assert (last.key(), last.value(), last.timestamp()[1], last.headers()) == (
        b"k",
        b"last",
        time + 1,
        [("reason", b"x")],
    )
