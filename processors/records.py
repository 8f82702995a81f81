"""Records as they come out of ``ticks.raw``, by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray


class RawRecord(NamedTuple):
    """One of `Records`."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int
    """UTC epoch milliseconds; -1 for none."""


class Unpacked(Protocol):
    """What is used of a record that aiokafka's C parser makes."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Consecutive records of a partition."""

    keys: pl.Series
    """Binary."""
    values: pl.Series
    """Binary."""
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    """UTC epoch milliseconds; -1 for none."""

    @classmethod
    def of(cls, unpacked: Iterable[Unpacked]) -> Self:
        """The columns of records that are made one after the other."""
        rows = [(record.key, record.value, record.offset, record.timestamp) for record in unpacked]
        keys, values, offsets, timestamps = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(
            pl.Series(keys, dtype=pl.Binary),
            pl.Series(values, dtype=pl.Binary),
            np.array(offsets, np.int64),
            np.array(timestamps, np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """All of them, one after the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.of([])
        return cls(
            pl.concat([part.keys for part in parts], rechunk=True),
            pl.concat([part.values for part in parts], rechunk=True),
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.timestamps for part in parts]),
        )

    def __len__(self) -> int:
        """How many."""
        return len(self.offsets)

    def __getitem__(self, at: int) -> RawRecord:
        """One of them; negative places count from the end."""
        return RawRecord(self.keys[at], self.values[at], int(self.offsets[at]), int(self.timestamps[at]))

    def __iter__(self) -> Iterator[RawRecord]:
        """One by one, as objects."""
        return map(self.__getitem__, range(len(self)))

    def part(self, start: int, stop: int | None = None) -> Records:
        """Those from one place to before another."""
        some = slice(start, stop)
        return Records(self.keys[some], self.values[some], self.offsets[some], self.timestamps[some])

    def since(self, offset: int) -> Records:
        """Those from ``offset`` on."""
        at = int(np.searchsorted(self.offsets, offset))
        return self.part(at) if at else self
