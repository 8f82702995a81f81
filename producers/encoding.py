"""A series' ticks as columns, and those columns as messages: the Avro encoder for whole batches.

The bytes are those of `schemas.codec.Codec.encode` for each tick (a test holds it to that), made column by column:
rows whose variable-length integers have the same lengths have the same layout, so they fill one matrix of bytes.
Source of the encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

_LENGTHS: Final = (11,) * 5
"""A 64-bit integer takes one to ten bytes; five of them vary in a tick."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TickColumns:
    """Ticks of one series in order; one row a tick. Times as in `schemas.records.Tick`."""

    ts_event: Ints
    ordinal: Ints
    bid: Floats
    ask: Floats
    last: Floats
    volume: Floats
    flags: Ints
    server_time: Ints
    ts_recv: Ints

    def __len__(self) -> int:
        return len(self.ts_event)

    def rows(self, rows: slice | NDArray[np.bool_]) -> TickColumns:
        """Some of the rows, by slice or mask."""
        return TickColumns(**{name: getattr(self, name)[rows] for name in self.__slots__})


def ordinals(ts: Ints, first: int = 0) -> Ints:
    """The position of each tick among the equal, adjacent times of ``ts``; the first run begins with ``first``."""
    if not len(ts):
        return np.zeros(0, np.int64)
    index = np.arange(len(ts))
    starts = np.concatenate(([True], ts[1:] != ts[:-1]))
    position = index - np.maximum.accumulate(np.where(starts, index, 0))
    position[: np.argmin(ts == ts[0]) or len(ts)] += first
    return position.astype(np.int64)


def encode_ticks(ticks: TickColumns, *, header: bytes, symbol: str, feed: str, correction: bool = False) -> list[bytes]:
    """Each tick as it stands in ``ticks.raw``; ``header`` is the codec's for a Tick."""
    if not len(ticks):
        return []
    before = np.frombuffer(header + _string(symbol), np.uint8)
    between = np.frombuffer(_string(feed), np.uint8)
    numbers = [_zigzag(getattr(ticks, name)) for name in ("ts_event", "ordinal", "flags", "server_time", "ts_recv")]
    lengths = [_length(number) for number in numbers]
    layouts, which = np.unique(np.ravel_multi_index(lengths, _LENGTHS), return_inverse=True)
    prices = np.stack([ticks.bid, ticks.ask, ticks.last, ticks.volume], axis=1).astype("<f8").view(np.uint8)
    out: list[bytes] = [b""] * len(ticks)
    for index, layout in enumerate(np.stack(np.unravel_index(layouts, _LENGTHS), axis=1)):
        rows = np.flatnonzero(which == index)
        ts, ordinal, flags, server, received = (
            _varint(number[rows], int(length)) for number, length in zip(numbers, layout, strict=True)
        )
        count = len(rows)
        matrix = np.concatenate(
            [
                np.broadcast_to(before, (count, len(before))),
                ts,
                ordinal,
                prices[rows],
                flags,
                np.broadcast_to(between, (count, len(between))),
                server,
                received,
                np.full((count, 1), correction, np.uint8),
            ],
            axis=1,
        )
        width, data = matrix.shape[1], matrix.tobytes()
        messages = [data[start : start + width] for start in range(0, len(data), width)]
        if count == len(out):
            return messages
        for row, message in zip(rows.tolist(), messages, strict=True):
            out[row] = message
    return out


def _string(text: str) -> bytes:
    data = text.encode()
    length = np.array([len(data)], np.int64)
    number = _zigzag(length)
    return _varint(number, int(_length(number)[0])).tobytes() + data


def _zigzag(values: Ints) -> NDArray[np.uint64]:
    return ((values << 1) ^ (values >> 63)).astype(np.int64).view(np.uint64)


def _length(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many bytes of seven bits each value takes."""
    length = np.ones(len(values), np.int64)
    rest = values >> np.uint64(7)
    while rest.any():
        length += rest > 0
        rest >>= np.uint64(7)
    return length


def _varint(values: NDArray[np.uint64], length: int) -> Bytes:
    shifts = np.arange(0, 7 * length, 7, dtype=np.uint64)
    groups = ((values[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    groups[:, :-1] |= 0x80
    return groups
