"""Kafka record batches, made of columns without a call for each record.

Source of the format: Kafka's documentation, "Message Format": the record batch of magic 2, and its records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.codec import lz4_encode
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from numpy.typing import NDArray

LARGEST: Final = 1_000_000
"""Bytes of a batch's records before compression: with its header, what a broker takes (1 MiB by default)."""

_FEW: Final = 100
"""Records up to which one by one is quicker."""
_WORTH_COMPRESSING: Final = 256
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CRC: Final = struct.Struct(">I")
_AFTER_LENGTH, _CRC_AT, _CHECKED_FROM = 12, 17, 21
_MAGIC, _LZ4, _TRANSACTIONAL = 2, 0x03, 0x10
_UNKNOWN: Final = -1
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
        compressed = len(records) >= _WORTH_COMPRESSING
        content = lz4_encode(records, level=1) if compressed else records
        return cls(count, first_timestamp, max_timestamp, compressed, content)

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


def columnar(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], timestamps: NDArray[np.int64]
) -> Iterator[RecordBatch]:
    """The same of records without headers, given by column; ``timestamps``: UTC epoch milliseconds, -1 for none."""
    if not len(keys):
        return
    if len(keys) <= _FEW and timestamps.min() >= 0:
        yield from batched(map(Out, keys, values, timestamps.tolist()))
        return
    key, value = pa.array(keys, pa.binary()), pa.array(values, pa.binary())
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
    key: pa.BinaryArray,
    value: pa.BinaryArray,
    key_lengths: NDArray[np.int64],
    value_lengths: NDArray[np.int64],
    timestamps: NDArray[np.int64],
) -> bytes:
    count = len(timestamps)
    before_key: list[_Column] = [(np.zeros(count, np.uint8), None)]  # attributes
    for numbers in (timestamps - timestamps[0], np.arange(count), key_lengths):
        before_key += _varints(numbers)
    before_value = _varints(value_lengths)
    size = np.maximum(key_lengths, 0) + np.maximum(value_lengths, 0) + len(_NO_HEADERS)
    size += _counts(before_key, count) + _counts(before_value, count)
    head = _binary([*_varints(size), *before_key], count)
    parts: Any = (head, key, _binary(before_value, count), value, _NO_HEADERS, b"")
    joined: Any = pc.binary_join_element_wise(*parts, null_handling="replace", null_replacement="")
    records: bytes = joined.buffers()[2].to_pybytes()
    return records


_Column = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]
"""A byte for each record, and which of them are there; None: all."""


def _varints(numbers: NDArray[np.int64]) -> list[_Column]:
    """Each number as Avro, Kafka and Protocol Buffers write a signed one: zigzag, seven bits a byte, low ones first."""
    rest = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    columns: list[_Column] = []
    there = None
    while there is None or there.any():
        more = rest > 0x7F  # noqa: PLR2004 - seven bits
        columns.append(((rest & np.uint64(0x7F) | more * np.uint64(0x80)).astype(np.uint8), there))
        rest, there = rest >> np.uint64(7), more
    return columns


def _counts(columns: Sequence[_Column], count: int) -> NDArray[np.int64]:
    counts = np.zeros(count, np.int64)
    for _, there in columns:
        counts += 1 if there is None else there
    return counts


def _binary(columns: Sequence[_Column], count: int) -> Any:
    """What the columns hold, side by side."""
    digits, used = np.empty((count, len(columns)), np.uint8), np.ones((count, len(columns)), bool)
    for at, (column, there) in enumerate(columns):
        digits[:, at] = column
        if there is not None:
            used[:, at] = there
    ends = np.zeros(count + 1, np.int32)
    np.cumsum(_counts(columns, count), out=ends[1:])
    contents: list[Any] = [ends, digits[used]]
    return pa.Array.from_buffers(pa.binary(), count, [None, *map(pa.py_buffer, contents)])


def _lengths(binary: pa.BinaryArray) -> NDArray[np.int64]:
    return pc.binary_length(binary).fill_null(_NULL_LENGTH).to_numpy().astype(np.int64)


def _builder() -> Any:
    return DefaultRecordBatchBuilder(
        magic=_MAGIC, compression_type=0, is_transactional=1, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=LARGEST,
    )  # fmt: skip


def _finished(builder: Any, times: Sequence[int]) -> RecordBatch:
    return RecordBatch.of(bytes(builder.build()[_HEADER.size :]), len(times), times[0], max(times))
