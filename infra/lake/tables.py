"""Reading the lake: what the gateway, the command line and people in Python need of its Delta tables.

The tables stand under one address (a folder or ``s3://…``), one folder each: `infra.lake.layout` says what is in
them. Polars, DuckDB, Spark and pandas read them as they are. The functions here give frames of the shape that
`schemas.batch.decode_batch` gives (times as integers), so that the lake and Kafka's tail go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from infra.lake.layout import BARS, FIRST_MS, LAST_MS, PARTITIONED_BY, TABLES, TICKS, Table
from infra.lake.storage import StorageOptions, revealed
from infra.market.counts import is_count
from infra.market.timeframes import longest_ms
from infra.worlds import World
from schemas.errors import StoreError

MOST_PARTITIONS: Final = 1_000
"""The most that `infra.settings.KafkaSettings.partitions` allows."""

DAY_AROUND_MS: Final = 2 * 86_400_000
"""No server day is longer."""

_DROP_TRIES: Final = 5

_ALL: Final = pl.lit(value=True)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def table_uri(uri: str, table: Table) -> str:
    """Where a table stands below the lake's address."""
    return f"{uri.rstrip('/')}/{table.name}"


def app_id(world: str, table: Table, partition: int) -> str:
    """The Delta application transaction whose version is the next offset of one source partition."""
    return f"{World(world).topic(table.topic.name)}/{partition}"


def open_table(uri: str, options: StorageOptions | None, table: Table) -> DeltaTable | None:
    """A table as it is now; None while there is none. Raises StoreError when it cannot be read."""
    try:
        return DeltaTable(table_uri(uri, table), storage_options=revealed(options))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError) as error:
        raise StoreError(f"the lake table {table_uri(uri, table)} cannot be read: {error}") from error


def data_files(handle: DeltaTable) -> pl.DataFrame:
    """The files of a table as its log has them: ``path`` below the table, sizes, partition, bounds of columns."""
    return pl.DataFrame(pa.table(handle.get_add_actions(flatten=True)))


def scan(
    uri: str,
    options: StorageOptions | None,
    table: Table,
    handle: DeltaTable,
    *,
    symbols: Sequence[str] = (),
    window: tuple[datetime, datetime] | None = None,
) -> pl.LazyFrame:
    """The rows of files that may hold the symbols and times of the (closed) window: all that are asked for, and others.

    Polars' own `scan_delta` does not find a table in a folder whose path has a blank in it.
    """
    found = _files(handle, table, symbols, window)
    if not found.height:
        return pl.LazyFrame(schema=table.schema)
    place = table_uri(uri, table)
    return pl.scan_parquet(
        [f"{place}/{path}" for path in found["path"]],
        schema={name: kind for name, kind in table.schema.items() if name not in PARTITIONED_BY},
        hive_schema={name: table.schema[name] for name in PARTITIONED_BY},
        hive_partitioning=True,
        missing_columns="insert",
        glob=False,
        storage_options=revealed(options) or None,
    ).select(*table.schema)


def _files(
    handle: DeltaTable, table: Table, symbols: Sequence[str], window: tuple[datetime, datetime] | None
) -> pl.DataFrame:
    """Those of a table's `data_files` that may hold the symbols and times."""
    found = data_files(handle)
    names = (min(symbols), max(symbols)) if symbols else (None, None)
    for column, least, most in (("symbol", *names), (table.time, *(window or (None, None)))):
        if least is not None and {f"min.{column}", f"max.{column}"} <= set(found.columns):
            outside = (pl.col(f"max.{column}") < least) | (pl.col(f"min.{column}") > most)
            found = found.filter(~outside.fill_null(value=False))
    return found


def next_tick(
    uri: str, options: StorageOptions | None, world: str, symbol: str, *, start_ms: int, end_ms: int
) -> int | None:
    """The lake has no tick of a symbol between ``start_ms`` and this time; None: none in [start_ms, end_ms).

    The table's log alone says so, and there need be none at that time. Raises StoreError when the lake cannot be read.
    """
    first, last = max(start_ms, FIRST_MS), min(end_ms - 1, LAST_MS)
    handle = open_table(uri, options, TICKS)
    if handle is None or first > last:
        return None
    found = _files(handle, TICKS, [symbol], (_moment(first), _moment(last)))
    found = found.filter(pl.col("partition.world") == world)
    if not found.height:
        return None
    least = f"min.{TICKS.time}"
    if least not in found.columns or found[least].null_count():
        return first
    times: list[int] = found[least].dt.timestamp("ms").to_list()
    return max(first, min(times))


def read_ticks(
    uri: str,
    options: StorageOptions | None,
    world: str,
    symbol: str,
    *,
    start_ms: int,
    end_ms: int,
    offsets: range | None = None,
) -> pl.DataFrame:
    """Clean ticks of a symbol in [start_ms, end_ms), in order of time, ordinal and offset; of some offsets only.

    All fields of Tick, times as in `schemas.records`, and world, source_partition, source_offset.
    Raises StoreError when the lake cannot be read.
    """
    which = _ALL if offsets is None else within(offsets)
    return _read(uri, options, TICKS, (start_ms, end_ms), world=world, symbols=[symbol], which=which).sort(
        "ts_event", "ordinal", "source_offset"
    )


def read_closed(
    uri: str,
    options: StorageOptions | None,
    world: str,
    symbols: Sequence[str],
    timeframes: Sequence[str],
    *,
    start_ms: int,
    end_ms: int,
    which: pl.Expr = _ALL,
) -> pl.DataFrame:
    """All revisions (those that ``which`` holds) of bars that close in [start_ms, end_ms) in one of them, in no order.

    All fields of Bar, times as in `schemas.records`, and world, source_partition, source_offset.
    Raises StoreError when the lake cannot be read.
    """
    around = DAY_AROUND_MS if any(map(is_count, timeframes)) else 0
    longest = max(longest_ms(name) for name in timeframes)
    closes = pl.col("ts_close").is_between(_moment(start_ms - around), _moment(end_ms + around - 1))
    window = start_ms - around - longest, end_ms + around
    asked = pl.col("timeframe").is_in(timeframes) & closes & which
    return _read(uri, options, BARS, window, world=world, symbols=symbols, which=asked)


def within(offsets: range) -> pl.Expr:
    """Of rows of one partition those whose records have these offsets."""
    return pl.col("source_offset").is_between(offsets.start, offsets.stop, closed="left")


def read_bars(
    uri: str, options: StorageOptions | None, world: str, symbol: str, timeframe: str, *, start_ms: int, end_ms: int
) -> pl.DataFrame:
    """Bars of a symbol that open in [start_ms, end_ms), each in its last revision, in order of ts_open and number.

    All fields of Bar, times as in `schemas.records`, and world, source_partition, source_offset.
    Raises StoreError when the lake cannot be read.
    """
    window, which = (start_ms, end_ms), pl.col("timeframe") == timeframe
    if is_count(timeframe):  # a correction moves such a bar within its day, so its last revision may open elsewhere
        window = start_ms - DAY_AROUND_MS, end_ms + DAY_AROUND_MS
    bars = _read(uri, options, BARS, window, world=world, symbols=[symbol], which=which)
    found = last_revisions(bars.lazy()).collect()
    asked = pl.col("ts_open").is_between(start_ms, end_ms, closed="left")
    return found.filter(asked).sort("ts_open", "number")


def last_revisions(bars: pl.LazyFrame) -> pl.LazyFrame:
    """Of the table ``bars``, as polars scans it, each bar of each world as it is by now, in no order."""
    key = ("world", "symbol", "timeframe", "_begin", "number")
    return (
        bars.with_columns(_begin=pl.coalesce("day", "ts_open"))
        .sort("revision", "source_offset")
        .unique(key, keep="last")
        .drop("_begin")
    )


def ends(
    uri: str,
    options: StorageOptions | None,
    world: str,
    partitions: int = MOST_PARTITIONS,
    only: Sequence[Table] = TABLES,
) -> dict[str, dict[int, int]]:
    """How far the lake is: by full topic name and partition, the offset of the first record that is not in it yet.

    For those who wait until it has caught up; a partition of which nothing was read yet is absent. Asking for no
    more ``partitions`` than the topics have is quicker. Raises StoreError when the lake cannot be read.
    """
    return {
        World(world).topic(table.topic.name): _ends(open_table(uri, options, table), world, table, partitions)
        for table in only
    }


def drop_world(uri: str, options: StorageOptions | None, world: str) -> int:
    """Remove a world's rows and its record of offsets from all tables; the number of rows removed.

    Other worlds, and readers of a version they have opened, are not touched; the files go with the next vacuum.
    A sink that still writes the world is fenced. Raises StoreError when the lake refuses.
    """
    return sum(_drop(uri, options, world, table) for table in TABLES)


def _drop(uri: str, options: StorageOptions | None, world: str, table: Table) -> int:
    """Remove a world's rows from one table; again when an optimizer was quicker."""
    for left in reversed(range(_DROP_TRIES)):
        handle = open_table(uri, options, table)
        known = _ends(handle, world, table, MOST_PARTITIONS)
        if handle is None or not known:
            return 0
        forgotten = [Transaction(app_id(world, table, partition), 0) for partition in known]
        try:
            removed = handle.delete(
                f"world = '{world}'", commit_properties=CommitProperties(app_transactions=forgotten)
            )
        except (DeltaError, OSError) as error:
            if not left or not isinstance(error, CommitFailedError):
                raise StoreError(f"world {world} cannot be removed from {handle.table_uri}: {error}") from error
        else:
            return int(removed["num_deleted_rows"] or 0)
    return 0


def _ends(handle: DeltaTable | None, world: str, table: Table, partitions: int) -> dict[int, int]:
    if handle is None:
        return {}
    found = {number: handle.transaction_version(app_id(world, table, number)) for number in range(partitions)}
    return {number: end for number, end in found.items() if end}


def _read(
    uri: str,
    options: StorageOptions | None,
    table: Table,
    window: tuple[int, int],
    *,
    world: str,
    symbols: Sequence[str],
    which: pl.Expr = _ALL,
) -> pl.DataFrame:
    first, last = max(window[0], FIRST_MS), min(window[1] - 1, LAST_MS)
    handle = open_table(uri, options, table)
    if handle is None or first > last:
        return pl.DataFrame(schema=table.read_schema)
    start, end = _moment(first), _moment(last)
    rows = scan(uri, options, table, handle, symbols=symbols, window=(start, end)).filter(
        (pl.col("world") == world) & pl.col("symbol").is_in(symbols) & which,
        pl.col("date").is_between(start.date(), end.date()),
        pl.col(table.time).is_between(start, end),
    )
    try:
        return rows.with_columns(table.integers()).select(*table.read_schema).collect()
    except (DeltaError, pl.exceptions.PolarsError, OSError) as error:
        raise StoreError(f"the lake table {handle.table_uri} cannot be read: {error}") from error


def _moment(utc_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(utc_ms, FIRST_MS), LAST_MS))
