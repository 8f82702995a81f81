"""Every place where a library's internals are replaced, each with its reason.

`tests/processors/test_hooks.py` fails when what is replaced here no longer looks as it did.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from processors.records import Records
from processors.unpacking import Batch, Log, unpacked

_YOUNG_OBJECTS: Final = 100_000


def unpack_in_bulk() -> None:
    """Have aiokafka hand over columns, a whole record batch at a time (`Records`).

    It builds a dataclass of eleven fields out of each record, most of them unused here, and takes it through two
    generators.
    """
    fetcher.MemoryRecords = Log
    PartitionRecords._unpack_records = _unpack_batches  # noqa: SLF001 - no public way
    FetchResult.getall = _get_all


def pace_fetches(seconds: float) -> None:
    """Have aiokafka ask a broker node no more often than every ``seconds``.

    A broker answers as soon as there is one record: without a pace a busy consumer would be given its ticks one by one.
    The embedded one answers empty fetches at once, too, whatever wait they name: an idle consumer would spin.
    """
    fetch = _ORIGINAL_FETCH
    last: dict[tuple[int, int], float] = {}

    async def paced(self: Any, assignment: Any, node_id: int, request: Any) -> Any:
        now = time.monotonic()
        due = last.get((id(self), node_id), 0.0) + seconds
        if due > now:
            try:
                await asyncio.sleep(due - now)
            except asyncio.CancelledError:
                return False  # as the original does: the partition went, or the consumer closes
        last[id(self), node_id] = time.monotonic()
        return await fetch(self, assignment, node_id, request)

    Fetcher._proc_fetch_request = paced  # noqa: SLF001 - no public way


def calm_garbage_collector() -> None:
    """Have Python look for cycles rarely, and never in what was loaded at the start.

    A batch makes thousands of objects without a cycle among them; with the default threshold they are walked again and
    again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 50, 1_000)


def _unpack_batches(self: Any) -> Iterator[Batch | None]:
    """As the original, with whole record batches instead of records; `_get_all` moves ``next_fetch_offset`` over them.

    Yields None for a batch to skip, when ``next_fetch_offset`` stands behind it.
    """
    while self._records.has_next():
        fetched = self._records.next_batch()
        batch = fetched.parsed
        if self._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {self._tp}")
        skipped = batch.is_control_batch
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            skipped |= batch.is_transactional and batch.producer_id in self._aborted_producers
        yield None if skipped else fetched
        self.next_fetch_offset = batch.next_offset  # past what compaction took from the batch's end, too


def _get_all(self: Any, max_records: int | None = None) -> Records:
    """As the original, of an iterator that gives batches; what is left of the last ones is kept for the next call."""
    if not self.check_assignment(self._topic_partition) or not self.has_more():
        return _NOTHING
    source = self._partition_records
    first, left = source.next_fetch_offset, getattr(self, "left", _NOTHING)
    count, batches = len(left), list[Batch]()
    while max_records is None or count < max_records:
        try:
            batch = next(source)
        except StopIteration:
            self._partition_records = None
            break
        if batch and batch.parsed.base_offset < first:  # a fetch begins with the whole batch that holds its offset
            left = unpacked([batch]).since(first)
            count = len(left)
        elif batch:
            batches.append(batch)
            count += batch.count
    found = Records.joined([part for part in (left, unpacked(batches)) if len(part)])
    self.left = _NOTHING
    if max_records is not None and len(found) >= max_records:
        found, self.left = found.part(0, max_records), found.part(max_records)
        source.next_fetch_offset = int(found.offsets[-1]) + 1
    # As `_update_position` does, which looks where the records no longer are.
    self._assignment.state_value(self._topic_partition).consumed_to(source.next_fetch_offset)
    return found


_NOTHING: Final = Records.of([])
_ORIGINAL_FETCH: Final = Fetcher._proc_fetch_request  # noqa: SLF001 - no public way
