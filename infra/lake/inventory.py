"""What the lake holds: by table and world from the log alone, by symbol from the ticks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from infra.lake.layout import TABLES, TICKS
from infra.lake.query import connect
from infra.lake.storage import StorageOptions
from infra.lake.tables import data_files, open_table


@dataclass(frozen=True, slots=True)
class Extent:
    """A table's part of one world."""

    table: str
    world: str
    rows: int
    files: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Series:
    """The ticks of one symbol in one world."""

    world: str
    symbol: str
    ticks: int
    oldest: datetime
    newest: datetime


def extents(uri: str, options: StorageOptions | None) -> list[Extent]:
    """All tables by world. Raises StoreError when the lake cannot be read."""
    found = []
    for table in TABLES:
        handle = open_table(uri, options, table)
        if handle is None:
            continue
        files = data_files(handle)
        if not files.height:
            continue
        least, most = f"min.{table.time}", f"max.{table.time}"
        kept = [name for name in ("partition.world", "num_records", "size_bytes", least, most) if name in files.columns]
        by_world = (
            files.select(kept)
            .with_columns(*(pl.lit(None).alias(name) for name in (least, most) if name not in kept))
            .group_by("partition.world")
            .agg(
                pl.col("num_records").sum(),
                pl.len().alias("files"),
                pl.col("size_bytes").sum(),
                pl.col(least).min(),
                pl.col(most).max(),
            )
        )
        found += [Extent(table.name, *row) for row in by_world.sort("partition.world").iter_rows()]
    return found


def series(uri: str, options: StorageOptions | None) -> list[Series]:
    """The symbols of each world. Reads two columns of all ticks. Raises StoreError when the lake cannot be read."""
    # What is read here shows every world; with one to rank there is no coverage to be worked out.
    with connect(uri, options, ["main"], only=True) as connection:
        rows = connection.execute(
            f"select world, symbol, count(*), min({TICKS.time}), max({TICKS.time}) "  # noqa: S608 - our names
            f"from all_{TICKS.name} group by all order by 1, 2"
        ).fetchall()
    return [Series(*row) for row in rows]
