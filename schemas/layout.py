"""Bytes of many records at once: a table of one row a record, whose used cells, row after row, are what is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

Cells = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]
"""One or more columns of bytes, and which of them are used; None: all."""


def varints(numbers: Ints) -> list[Cells]:
    """Each number as Avro and Kafka write a signed one: zigzag, seven bits a byte, the lowest first.

    Source: https://avro.apache.org/docs/1.12.0/specification/#primitive-types
    """
    rest = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    columns: list[Cells] = []
    used: NDArray[np.bool_] | None = None
    while True:
        more = rest > 0x7F  # noqa: PLR2004 - seven bits
        columns.append(((rest & np.uint64(0x7F) | more * np.uint64(0x80)).astype(np.uint8), used))
        if not more.any():
            return columns
        rest, used = rest >> np.uint64(7), None if more.all() else more


def same(content: bytes, count: int) -> Cells:
    """The same bytes in each row."""
    return np.broadcast_to(np.frombuffer(content, np.uint8), (count, len(content))), None


def doubles(numbers: NDArray[np.float64]) -> Cells:
    """Each number as eight bytes, the lowest first."""
    return numbers.astype("<f8").view(np.uint8).reshape(len(numbers), 8), None


def texts(contents: Sequence[bytes]) -> list[Cells]:
    """Each with its length before it."""
    lengths = np.fromiter(map(len, contents), np.int64, len(contents))
    width = int(lengths.max())
    cells = np.frombuffer(b"".join(content.ljust(width) for content in contents), np.uint8)
    return [*varints(lengths), (cells.reshape(len(contents), width), np.arange(width) < lengths[:, None])]


def row_lengths(columns: Iterable[Cells], count: int) -> Ints:
    """How many cells of each row are used."""
    lengths = np.zeros(count, np.int64)
    for cells, used in columns:
        if used is None:
            lengths += cells.size // count
        else:
            lengths += used if used.ndim == 1 else used.sum(axis=1)
    return lengths


def joined(columns: Sequence[Cells], count: int) -> NDArray[np.uint8]:
    """The used cells, row after row."""
    width = sum(cells.size // count for cells, _ in columns)
    table = np.empty((count, width), np.uint8)
    taken: NDArray[np.bool_] | None = None
    start = 0
    for cells, used in columns:
        block = slice(start, start := start + cells.size // count)
        table[:, block] = cells.reshape(count, -1)
        if used is not None:
            taken = np.ones((count, width), bool) if taken is None else taken
            taken[:, block] = used.reshape(count, -1)
    return table.ravel() if taken is None else table[taken]


def messages(columns: Sequence[Cells], count: int) -> list[bytes]:
    """What each row holds; there is one at the least."""
    table, lengths = joined(columns, count), row_lengths(columns, count)
    if (lengths == lengths[0]).all():
        alike: list[bytes] = table.view(f"V{lengths[0]}").tolist()
        return alike
    content, ends = table.tobytes(), np.cumsum(lengths).tolist()
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
