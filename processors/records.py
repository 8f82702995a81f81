"""Records as they come out of ``ticks.raw``, by column."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self


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


@dataclass(slots=True, eq=False)
class Records:
    """Consecutive records of a partition.

    Columns of plain values: objects that stand for records would be tens of thousands for the garbage collector to
    walk, and to free all at once on the loop that lets go of them.
    """

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    """UTC epoch milliseconds; -1 for none."""

    @classmethod
    def of(cls, unpacked: Iterable[Unpacked]) -> Self:
        """The columns of records that are made one after the other and forgotten at once."""
        found = cls()
        key, value = found.keys.append, found.values.append
        offset, timestamp = found.offsets.append, found.timestamps.append
        for record in unpacked:
            key(record.key)
            value(record.value)
            offset(record.offset)
            timestamp(record.timestamp)
        return found

    def __len__(self) -> int:
        """How many."""
        return len(self.offsets)

    def __getitem__(self, at: int) -> RawRecord:
        """One of them; negative places count from the end."""
        return RawRecord(self.keys[at], self.values[at], self.offsets[at], self.timestamps[at])

    def extend(self, more: Records) -> None:
        """Append those that follow."""
        self.keys += more.keys
        self.values += more.values
        self.offsets += more.offsets
        self.timestamps += more.timestamps

    def split(self, count: int) -> Records:
        """Keep the first ``count``; the others come back."""
        rest = Records(self.keys[count:], self.values[count:], self.offsets[count:], self.timestamps[count:])
        for column in (self.keys, self.values, self.offsets, self.timestamps):
            del column[count:]
        return rest

    def since(self, offset: int) -> Records:
        """Those from ``offset`` on."""
        at = bisect_left(self.offsets, offset)
        return self.split(at) if at else self
