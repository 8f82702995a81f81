"""Whole record batches are read as aiokafka reads their records one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from processors.records import RawRecord
from processors.unpacking import Log, _natively, unpacked

BASE = 70_000_000_000
contents = st.binary(max_size=200)
times = st.integers(0, 2**42)
Row = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]


def fetched(rows: Sequence[Row], offsets: Sequence[int], codec: int) -> bytes:
    builder: Any = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=1, producer_epoch=0, base_sequence=0,
        batch_size=2**30,
    )  # fmt: skip
    for offset, (key, value, time, headers) in zip(offsets, rows, strict=True):
        builder.append(offset, time, key, value, headers)
    return BASE.to_bytes(8, "big") + bytes(builder.build())[8:]


def expected(data: bytes) -> list[RawRecord]:
    return [RawRecord(record.key, record.value, record.offset, record.timestamp) for record in DefaultRecordBatch(data)]


@given(st.lists(st.tuples(contents, contents, times, st.just([])), min_size=1, max_size=9), st.sampled_from([0, 1, 3]))
def test_plain_records_are_read_natively(rows: list[Row], codec: int) -> None:
    rows = list(islice(cycle(rows), 120))
    data = fetched(rows, range(0, 3 * len(rows), 3), codec)
    other = fetched(rows[:7], range(5, 12), 0)
    log = Log(data + other + data)
    assert log.size_in_bytes() == 2 * len(data) + len(other)
    batches = [log.next_batch() for _ in range(3)]
    assert not log.has_next()
    assert _natively(batches) is not None
    assert [*unpacked(batches)] == [*expected(data), *expected(other), *expected(data)]


@given(
    st.lists(
        st.tuples(
            st.none() | contents,
            st.none() | contents,
            times,
            st.lists(st.tuples(st.text(max_size=5), st.none() | contents), max_size=2),
        ),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from([1, 120]),
)
def test_any_records_are_read(rows: list[Row], count: int) -> None:
    rows = list(islice(cycle(rows), max(count, len(rows))))
    data = fetched(rows, range(len(rows)), 3)
    assert [*unpacked([Log(data).next_batch()])] == expected(data)


@pytest.mark.parametrize(("attributes", "times"), [(0, set(range(1_000, 1_200))), (0x08, {1_199})])
def test_the_brokers_time_counts_where_the_broker_sets_it(attributes: int, times: set[int]) -> None:
    data = bytearray(fetched([(b"k", b"v", 1_000 + at, []) for at in range(200)], range(200), 0))
    data[22] |= attributes
    found = [*unpacked([Log(bytes(data)).next_batch()])]
    assert found == expected(bytes(data))
    assert {record.timestamp for record in found} == times
