"""Kafka record batches, made of columns without a call for each record.

Source of the format: Kafka's documentation, "Message Format": the record batch of magic 2, and its records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from numpy.typing import NDArray

from schemas.layout import Cells, joined, row_lengths, same, varints

LARGEST: Final = 1_000_000
"""Bytes of a batch's records before compression: with its header, what a broker takes (1 MiB by default)."""

_FEW: Final = 100
"""Records up to which one by one is quicker."""
_WORTH_COMPRESSING: Final = 256
_FRAME: Final = bytes.fromhex("04224d18 60 70 73")
"""An LZ4 frame's magic number; version 1, independent blocks, no checksums; blocks of up to 4 MB; the check of it."""
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CRC: Final = struct.Struct(">I")
_AFTER_LENGTH, _CRC_AT, _CHECKED_FROM = 12, 17, 21
_MAGIC, _LZ4, _TRANSACTIONAL = 2, 0x03, 0x10
_UNKNOWN: Final = -1
_ATTRIBUTES: Final = b"\0"
_NO_HEADERS: Final = b"\0"
_NULL_LENGTH: Final = -1
_OVERHEAD: Final = 30
"""What a record takes at most beside its key and its value: five varints, attributes, no headers."""


Headers = Sequence[tuple[str, bytes | None]]


class Out(NamedTuple):
    """A record to be written."""

    key: bytes | None
    value: bytes | None
    timestamp: int | None
    """UTC epoch milliseconds, not negative, which aiokafka's builder takes for none; None for now."""
    headers: Headers = ()


@dataclass(slots=True, eq=False)
class RecordBatch:
    """A transaction's batch, in place of aiokafka's `BatchBuilder` for its producer's `send_batch`.

    Complete but for the producer's state, which is known when it is sent.
    """

    count: int
    first_timestamp: int
    max_timestamp: int
    compressed: bool
    records: bytes
    _built: bytes = b""

    @classmethod
    def of(cls, records: bytes, count: int, first_timestamp: int, max_timestamp: int) -> Self:
        """The batch of encoded ``records``, compressed if that is worth it."""
        content = _compressed(records) if len(records) >= _WORTH_COMPRESSING else records
        compressed = len(content) < len(records)
        return cls(count, first_timestamp, max_timestamp, compressed, content if compressed else records)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        attributes = _TRANSACTIONAL | (_LZ4 if self.compressed else 0)
        header = _HEADER.pack(
            0, _HEADER.size - _AFTER_LENGTH + len(self.records), _UNKNOWN, _MAGIC, 0, attributes, self.count - 1,
            self.first_timestamp, self.max_timestamp, producer_id, producer_epoch, base_sequence, self.count,
        )  # fmt: skip
        checked = header[_CHECKED_FROM:] + self.records
        self._built = header[:_CRC_AT] + _CRC.pack(calc_crc32c(checked)) + checked

    def _build(self) -> bytes:
        return self._built

    def record_count(self) -> int:
        """How many records."""
        return self.count

    def closed(self) -> bool:
        """Always: it has all of its records."""
        return True

    def close(self) -> None:
        """Do nothing: it is closed."""


def _compressed(records: bytes) -> bytes:
    """The records as an LZ4 frame of one block, which is independent as Kafka wants it.

    Source: LZ4 Frame Format 1.6.4. aiokafka's own compression keeps Python's lock.
    """
    block = pa.compress(records, codec="lz4_raw", asbytes=True)
    return b"".join([_FRAME, len(block).to_bytes(4, "little"), block, bytes(4)])


def batched(records: Iterable[Out]) -> Iterator[RecordBatch]:
    """The records in as few batches as they fit in, in order."""
    builder, times = _builder(), list[int]()
    for key, value, timestamp, headers in records:
        added = builder.append(len(times), timestamp, key, value, list(headers))
        if added is None:  # it is full
            yield _finished(builder, times)
            builder, times = _builder(), []
            added = builder.append(0, timestamp, key, value, list(headers))
        times.append(added.timestamp)
    if times:
        yield _finished(builder, times)


def columnar(keys: pl.Series, values: pl.Series, timestamps: NDArray[np.int64]) -> Iterator[RecordBatch]:
    """The same of records without headers, by column: Binary; ``timestamps`` in UTC epoch milliseconds, -1 for none."""
    if not len(keys):
        return
    if len(keys) <= _FEW and timestamps.min() >= 0:
        yield from batched(map(Out, keys.to_list(), values.to_list(), timestamps.tolist()))
        return
    key: Any = keys.to_arrow()
    value: Any = values.to_arrow()
    key_lengths, value_lengths = _lengths(key), _lengths(value)
    ends = np.cumsum(np.maximum(key_lengths, 0) + np.maximum(value_lengths, 0) + _OVERHEAD)
    start = 0
    while start < len(ends):
        limit = LARGEST + (ends[start - 1] if start else 0)
        part = slice(start, max(start + 1, int(np.searchsorted(ends, limit, "right"))))
        times = timestamps[part]
        records = _encoded(key[part], value[part], key_lengths[part], value_lengths[part], times)
        yield RecordBatch.of(records, len(times), int(times[0]), int(times.max()))
        start = part.stop


def _encoded(
    key: pa.LargeBinaryArray,
    value: pa.LargeBinaryArray,
    key_lengths: NDArray[np.int64],
    value_lengths: NDArray[np.int64],
    timestamps: NDArray[np.int64],
) -> bytes:
    count = len(timestamps)
    before_key = [same(_ATTRIBUTES, count)]
    for numbers in (timestamps - timestamps[0], np.arange(count), key_lengths):
        before_key += varints(numbers)
    before_value = varints(value_lengths)
    size = np.maximum(key_lengths, 0) + np.maximum(value_lengths, 0) + len(_NO_HEADERS)
    size += row_lengths(before_key, count) + row_lengths(before_value, count)
    head = _binary([*varints(size), *before_key], count)
    parts: Any = (
        head,
        key,
        _binary(before_value, count),
        value,
        pa.scalar(_NO_HEADERS, pa.large_binary()),
        pa.scalar(b"", pa.large_binary()),
    )
    row: Any = pc.binary_join_element_wise(*parts, null_handling="replace", null_replacement="")
    records: bytes = row.buffers()[2].to_pybytes()
    return records


def _binary(columns: Sequence[Cells], count: int) -> Any:
    ends = np.zeros(count + 1, np.int64)
    np.cumsum(row_lengths(columns, count), out=ends[1:])
    contents: list[Any] = [ends, joined(columns, count)]
    return pa.Array.from_buffers(pa.large_binary(), count, [None, *map(pa.py_buffer, contents)])


def _lengths(binary: pa.LargeBinaryArray) -> NDArray[np.int64]:
    return pc.binary_length(binary).fill_null(_NULL_LENGTH).to_numpy().astype(np.int64)


def _builder() -> Any:
    return DefaultRecordBatchBuilder(
        magic=_MAGIC, compression_type=0, is_transactional=1, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=LARGEST,
    )  # fmt: skip


def _finished(builder: Any, times: Sequence[int]) -> RecordBatch:
    return RecordBatch.of(bytes(builder.build()[_HEADER.size :]), len(times), times[0], max(times))
