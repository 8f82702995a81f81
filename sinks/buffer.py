"""What was read and is not committed yet: pure, without Kafka or clock."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from infra.lake.layout import Table
from sinks.sink import Batch, Source


class Buffer:
    """Rows by table, and the next offset of each source."""

    def __init__(self) -> None:
        self._frames: dict[str, tuple[Table, list[pl.DataFrame]]] = {}
        self._since: float | None = None
        self.offsets: dict[Source, int] = {}
        self.rows = 0
        self.bytes = 0
        self.newest_ms: int | None = None
        """The latest event time."""

    def add(self, table: Table, rows: pl.DataFrame) -> None:
        """Records of a table, in the order of their offsets."""
        if rows.height:
            self._frames.setdefault(table.name, (table, []))[1].append(rows)
            self.rows += rows.height
            self.bytes += int(rows.estimated_size())
            latest: int = rows[table.time].max()  # type: ignore[assignment]
            self.newest_ms = max(latest, self.newest_ms or latest)

    def move(self, offsets: Mapping[Source, int], now: float) -> None:
        """The sources have been read up to these offsets, at monotonic time ``now``."""
        if offsets:
            self.offsets |= offsets
            self._since = now if self._since is None else self._since

    def age(self, now: float) -> float:
        """Seconds since the oldest content came; 0 when there is none."""
        return 0.0 if self._since is None else now - self._since

    def batches(self) -> list[Batch]:
        """The rows, one batch for each table."""
        return [Batch(table, pl.concat(frames)) for table, frames in self._frames.values()]

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return {name: sum(frame.height for frame in frames) for name, (_, frames) in self._frames.items()}
