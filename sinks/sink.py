"""What a sink is: one class with three methods, and `close`.

The runner (`sinks.runner`) owns the consumer, the buffer and the rotation; a sink owns its store and the record of
how far the store is. It passes the conformance suite in ``tests/sinks/conformance.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import polars as pl

from infra.lake.layout import Table


class Source(NamedTuple):
    """A partition of a topic, by its full name."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic in the order they were read, for one commit."""

    table: Table
    rows: pl.DataFrame
    """All fields of the record, times as in `schemas.records`; the table's extra columns; source_partition and
    source_offset. Of partitions of which nothing is in the sink beyond what `positions` said."""


class Sink(Protocol):
    """A store that takes each record exactly once."""

    name: str
    """For metrics, logs and the consumer group."""
    tables: tuple[Table, ...]
    """What it can keep."""

    def positions(self, sources: Collection[Source]) -> dict[Source, int]:
        """The next offset of each source by the sink's own record; absent where it has none.

        Called whenever sources are assigned; forgets whatever was written and not committed.
        Raises StoreError when the store is away, FencedError when it belongs to another process.
        """

    def write(self, batch: Batch) -> None:
        """Prepare the rows of one table for the next `commit`; readers do not see them yet.

        At most once for each table before a commit. Raises StoreError when the store is away.
        """

    def commit(self, offsets: Mapping[Source, int]) -> None:
        """Make what was written durable and visible, together with the next offset of each source.

        Rows and offsets of one topic become so at once, or not at all. Raises StoreError when the store is away: the
        runner writes and commits the same again, and what had landed must not land twice. Raises FencedError when the
        record of one of the sources is not what it was at `positions` or the last commit: another runner has it.
        """

    def close(self) -> None:
        """Let the store go, without a commit; harmless when repeated."""
