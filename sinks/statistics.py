"""What a Delta log entry says of a file, so that readers need not open it: rows, least and greatest values."""

from __future__ import annotations

import json

import polars as pl

from infra.lake.layout import Table


class Statistics:
    """Of one file's rows, added in parts."""

    def __init__(self, table: Table) -> None:
        self._columns = list(table.indexed)
        self._edges: list[pl.DataFrame] = []
        self._nulls = dict.fromkeys(self._columns, 0)
        self.rows = 0

    def add(self, part: pl.DataFrame) -> None:
        """Some rows of the file."""
        indexed = part.select(self._columns)
        self._edges += [indexed.min(), indexed.max()]
        self._nulls = {name: self._nulls[name] + more for name, more in indexed.null_count().row(0, named=True).items()}
        self.rows += part.height

    def json(self) -> str:
        """As Delta's protocol has it; times are whole milliseconds, which it keeps exactly."""
        edges = pl.concat(self._edges)
        least, most = edges.min().row(0, named=True), edges.max().row(0, named=True)
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _plain(value) for name, value in least.items() if value is not None},
                "maxValues": {name: _plain(value) for name, value in most.items() if value is not None},
                "nullCount": self._nulls,
            }
        )


def _plain(value: object) -> object:
    return value if isinstance(value, (int, str)) else f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1_000:03}Z"  # type: ignore[attr-defined]
