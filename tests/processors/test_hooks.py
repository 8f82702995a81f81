"""What `processors.hooks` replaces still looks as it did when it was replaced."""

import asyncio
import gc
import hashlib
import inspect
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from processors import hooks

REVIEWED = {
    "__next__": (PartitionRecords, "63ac34a08c30"),
    "_unpack_records": (PartitionRecords, "b803e6d46480"),
    "getall": (FetchResult, "3e717e30de50"),
    "_proc_fetch_request": (Fetcher, "59bf948fff47"),
}
"""Methods that are replaced, or call what is, and the source that the replacement was written against."""


@pytest.mark.parametrize("name", REVIEWED)
def test_what_is_replaced_is_what_was_reviewed(name: str) -> None:
    owner, known = REVIEWED[name]
    source = inspect.getsource(getattr(owner, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == known, (
        f"aiokafka's {owner.__name__}.{name} has changed: see whether processors/hooks.py still fits"
    )


def log_of(*batches: tuple[int, list[int], dict[str, Any]]) -> bytes:
    """Record batches as a broker sends them: base offset, offsets after it, and what is special about each."""
    found = b""
    for base, offsets, special in batches:
        usual: dict[str, Any] = {"is_transactional": False, "producer_id": 1, "producer_epoch": 0, "base_sequence": 0}
        builder = DefaultRecordBatchBuilder(magic=2, compression_type=3, batch_size=99_999, **(usual | special))
        for offset in offsets:
            builder.append(offset, 1_700_000_000_000 + base + offset, b"EURUSD" if offset else None, b"%d" % base, [])
        found += base.to_bytes(8, "big") + bytes(builder.build())[8:]
    return found


def result_of(log: bytes, start: int, aborted: list[tuple[int, int]]) -> tuple[FetchResult, Any]:
    """What a fetcher makes of the log, and its assignment's state."""
    partition = TopicPartition("t", 0)
    records = PartitionRecords(partition, fetcher.MemoryRecords(log), aborted, start, None, None, True, READ_COMMITTED)
    state = SimpleNamespace(paused=False, position=start)
    state.consumed_to = lambda position: setattr(state, "position", position)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    return FetchResult(partition, assignment=assignment, partition_records=records, backoff=0), state


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 100, None])
@pytest.mark.parametrize("start", [0, 1, 4, 10, 15])
def test_bulk_gives_what_aiokafka_gives(start: int, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {"is_transactional": True, "producer_id": 7}
    whole: list[tuple[int, list[int], dict[str, Any]]] = [
        (0, [0, 1, 2], {}), (4, [0, 1, 3], {}), (10, [0, 1], foreign), (12, [0], {}), (14, [0, 1, 2, 3], {}),
    ]  # fmt: skip
    log = log_of(*(batch for batch in whole if batch[0] + batch[1][-1] >= start))  # as a broker answers
    both = []
    for bulk in (False, True):
        if bulk:
            monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)
            monkeypatch.setattr(PartitionRecords, "_unpack_records", PartitionRecords._unpack_records)
            monkeypatch.setattr(FetchResult, "getall", FetchResult.getall)
            hooks.unpack_in_bulk()
        result, state = result_of(log, start, [(7, 10)])
        got = []
        while result.has_more():
            records: Any = result.getall(limit)
            got.append(([(r.offset, r.timestamp, r.key, r.value) for r in records], state.position))
        both.append(got)
    assert both[0] == both[1]
    assert sum(len(records) for records, _ in both[0]) >= 3


def test_bulk_sees_a_broken_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)
    monkeypatch.setattr(PartitionRecords, "_unpack_records", PartitionRecords._unpack_records)
    monkeypatch.setattr(FetchResult, "getall", FetchResult.getall)
    hooks.unpack_in_bulk()
    log = bytearray(log_of((0, [0, 1, 2], {})))
    log[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        result_of(bytes(log), 0, [])[0].getall(10)


async def test_fetches_are_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def empty(*_: Any) -> bool:
        return False

    monkeypatch.setattr(hooks, "_ORIGINAL_FETCH", empty)
    monkeypatch.setattr(Fetcher, "_proc_fetch_request", Fetcher._proc_fetch_request)
    hooks.pace_fetches(0.05)
    fetcher = object.__new__(Fetcher)
    start = time.monotonic()
    for _ in range(4):
        assert not await Fetcher._proc_fetch_request(fetcher, None, 1, None)
    assert time.monotonic() - start >= 0.14
    waiting = asyncio.create_task(Fetcher._proc_fetch_request(fetcher, None, 1, None))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await waiting is False  # as aiokafka's own, which its caller relies on


def test_the_collector_is_calmed() -> None:
    before = gc.get_threshold()
    try:
        hooks.calm_garbage_collector()
        assert gc.get_threshold()[0] >= 10 * before[0]
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
