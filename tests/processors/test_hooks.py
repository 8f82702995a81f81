"""What `processors.hooks` replaces still looks as it did when it was replaced."""

import asyncio
import gc
import hashlib
import inspect
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from processors import hooks

REVIEWED = {
    "_consumer_record": (PartitionRecords, "e668541600b0"),
    "_unpack_records": (PartitionRecords, "b803e6d46480"),
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


def test_a_lean_record_has_what_the_processor_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionRecords, "_consumer_record", PartitionRecords._consumer_record)
    hooks.keep_records_lean()
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=9_999,
    )
    builder.append(0, 1_700_000_000_123, b"EURUSD", b"value", [])
    builder.append(1, 1_700_000_000_124, None, None, [])
    records = list(
        PartitionRecords(
            TopicPartition("t", 0),
            MemoryRecords(bytes(builder.build())),
            aborted_transactions=[],
            fetch_offset=0,
            key_deserializer=None,
            value_deserializer=None,
            check_crcs=True,
            isolation_level=READ_COMMITTED,
        )
    )
    assert [(r.offset, r.timestamp, r.key, r.value) for r in records] == [
        (0, 1_700_000_000_123, b"EURUSD", b"value"),
        (1, 1_700_000_000_124, None, None),
    ]
    assert type(records[0]).__module__.startswith("aiokafka.record")


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
