"""Fetched record batches as columns, natively.

The records of a batch are, byte for byte, datums of an Avro record: the same varints, lengths before bytes. So they are
read as one Avro container by polars, which holds no lock of Python's meanwhile. What has headers, no key or no value is
not of that form, and what is small is not worth it: those go through aiokafka's parser.

Source of the format: Kafka's documentation, "Message Format", record batch and record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from aiokafka import codec
from aiokafka.record.memory_records import MemoryRecords

from processors.records import Records
from schemas.columns import container_header, read_container, varint_lengths

_FEW: Final = 100
_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT, _RECORDS_FROM = 8, 61
_COMPRESSION: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_UNCOMPRESSED: Final = {
    0: bytes,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}
_FIELDS: Final = {
    "length": "long",
    "attributes": "boolean",  # a byte, which is zero
    "timestamp": "long",
    "offset": "long",
    "key": "bytes",
    "value": "bytes",
    "headers": "long",  # how many
}
_HEADER: Final = container_header([{"name": name, "type": kind} for name, kind in _FIELDS.items()])
_FIXED: Final = 2
"""Bytes of attributes and of the number of headers, when there are none."""


class Log:
    """The record batches of a fetch, in place of aiokafka's `MemoryRecords`: each with its bytes."""

    def __init__(self, data: bytes) -> None:
        self._batches: Any = MemoryRecords(data)
        self._data = data
        self._at = 0

    def size_in_bytes(self) -> int:
        """How much there is, the last batch perhaps not whole."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is another one."""
        return bool(self._batches.has_next())

    def next_batch(self) -> Batch:
        """The next one."""
        (length,) = _LENGTH.unpack_from(self._data, self._at + _LENGTH_AT)
        start, self._at = self._at, self._at + _LENGTH_AT + _LENGTH.size + length
        return Batch(self._batches.next_batch(), memoryview(self._data)[start : self._at])


@dataclass(frozen=True, slots=True)
class Batch:
    """A record batch as it was fetched."""

    parsed: Any
    """aiokafka's, for all that stands in the batch's header, and to go through its records one by one."""
    content: memoryview

    @property
    def count(self) -> int:
        """How many records it has."""
        (count,) = _LENGTH.unpack_from(self.content, _RECORDS_FROM - _LENGTH.size)
        return int(count)

    def records(self) -> bytes:
        """Its records as bytes."""
        return bytes(_UNCOMPRESSED[self.parsed.attributes & _COMPRESSION](self.content[_RECORDS_FROM:]))


def unpacked(batches: Sequence[Batch]) -> Records:
    """The records of consecutive batches. Each can be unpacked but once."""
    found = _natively(batches) if sum(batch.count for batch in batches) > _FEW else None
    return Records.of(chain.from_iterable(batch.parsed for batch in batches)) if found is None else found


def _natively(batches: Sequence[Batch]) -> Records | None:
    contents, counts = [batch.records() for batch in batches], [batch.count for batch in batches]
    frame = read_container(_HEADER, sum(counts), b"".join(contents))
    if frame is None or (frame["headers"] != 0).any():
        return None
    length, time, offset = (frame[name].to_numpy() for name in ("length", "timestamp", "offset"))
    key, value = (frame[name].bin.size().to_numpy().astype(np.int64) for name in ("key", "value"))
    counted = sum(varint_lengths(numbers) for numbers in (time, offset, key, value)) + key + value + _FIXED
    ends = np.cumsum(length + varint_lengths(length))[np.cumsum(counts) - 1]
    if not np.array_equal(length, counted) or not np.array_equal(ends, np.cumsum([*map(len, contents)])):
        return None
    headers = [batch.parsed for batch in batches]
    offsets = offset + np.repeat([header.base_offset for header in headers], counts)
    times = time + np.repeat([header.first_timestamp for header in headers], counts)
    appended = np.repeat([header.attributes & _LOG_APPEND_TIME for header in headers], counts) > 0
    times = np.where(appended, np.repeat([header.max_timestamp for header in headers], counts), times)
    return Records(frame["key"], frame["value"], offsets, times)
