"""SQL on the lake: DuckDB with a view for each table, without a network or an extension.

``ticks``, ``rejected``, ``bars``, ``rates``, ``events``, ``symbols`` are what most people want: worlds by preference,
a bar and a spec in its last revision. ``all_ticks``, … hold every row of every world; ``coverage`` says for each world
and symbol from when until when the world has every tick.

Worlds are ranked. A tick of a lower one is left out where a higher one covers its moment; so is a bar that lies
wholly within such a span, and of two bars of the same name the one without a gap counts, then the higher world's. So
a backfill beside ``main`` fills what ``main`` lacks, and doubles nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import duckdb
import polars as pl
from deltalake import DeltaTable

from infra.lake.layout import BARS, EVENTS, RATES, REJECTED, SYMBOLS, TABLES, TICKS, Table
from infra.lake.storage import StorageOptions, filesystem, local_folder
from infra.lake.tables import data_files, open_table, table_uri
from schemas.errors import StoreError

_GLOB: Final = re.compile(r"[*?\[]")
_COVERAGE: Final = """
with begun as (select world, symbol, min(time) as since from all_events where kind = 'coverage' group by all),
reached as (select world, symbol, max(ts_event) + interval 1 millisecond as until from all_ticks group by all),
edges as (
  select world, symbol, "from" as closes, "to" as reopens from all_events where kind = 'gap'
  union all select world, symbol, until, null from reached
)
select world, symbol,
  greatest(since, max(reopens) over (
    partition by world, symbol order by closes rows between unbounded preceding and 1 preceding)) as since,
  least(closes, until) as until
from edges join begun using (world, symbol) join reached using (world, symbol)
qualify since < until
"""
_LAST_BARS: Final = """
select * from all_bars where day is null
qualify row_number() over (
  partition by world, symbol, timeframe, ts_open order by revision desc, source_offset desc) = 1
union all
select * from all_bars where day is not null
qualify row_number() over (
  partition by world, symbol, timeframe, day, number order by revision desc, source_offset desc) = 1
"""
"""In two parts, so that a window of ``ts_open`` reaches the files: a correction never moves a bar of time."""


def connect(
    uri: str, options: StorageOptions | None, worlds: Sequence[str], *, only: bool = False
) -> duckdb.DuckDBPyConnection:
    """A connection whose views show the lake as it is now.

    ``worlds``: the preferred first; the lake's others come after them by name, or, with ``only``, are left out.

    Times are shown in UTC. Raises StoreError when the lake cannot be read, SettingsError for a store of another kind.
    """
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        connection.execute("set TimeZone = 'UTC'")
        handles = {table.name: open_table(uri, options, table) for table in TABLES}
        for table in TABLES:
            _all(connection, uri, options, table, handles[table.name])
        present = {each["world"] for handle in handles.values() if handle for each in handle.partitions()}
        wanted = worlds if only else [*worlds, *sorted(present.difference(worlds))]
        ranked = [world for world in dict.fromkeys(wanted) if world in present] or list(worlds)
        kept = "temp table" if len(ranked) > 1 else "view"
        connection.execute(f"create {kept} coverage as {_COVERAGE}")
        _views(connection, ranked)
    except duckdb.Error as error:
        raise StoreError(f"the lake {uri} cannot be read: {error}") from error
    return connection


def _all(
    connection: duckdb.DuckDBPyConnection,
    uri: str,
    options: StorageOptions | None,
    table: Table,
    handle: DeltaTable | None,
) -> None:
    """A view of all of a table's rows, with every column that the table has by now."""
    empty, name = f"{table.name}_shape", f"all_{table.name}"
    connection.register(empty, pl.DataFrame(schema=table.schema))
    source = None
    if handle is not None and (paths := data_files(handle)["path"].to_list()):
        if folder := local_folder(table_uri(uri, table)):
            listed = ", ".join(_text(_GLOB.sub(r"[\g<0>]", f"{folder.as_posix()}/{path}")) for path in paths)
            source = (
                f"read_parquet([{listed}], hive_partitioning = true, union_by_name = true, "
                "hive_types = {'world': varchar, 'date': date})"
            )
        else:
            source = f"{table.name}_files"
            connection.register(
                source, handle.to_pyarrow_dataset(filesystem=filesystem(table_uri(uri, table), options))
            )
    rows = f" union all by name select * from {source}" if source else ""
    connection.execute(f"create view {name} as select * from {empty}{rows}")


def _views(connection: duckdb.DuckDBPyConnection, worlds: Sequence[str]) -> None:
    ranks = f"list_position([{', '.join(map(_text, worlds))}], world)"
    for table in (TICKS, REJECTED):
        arms = (
            f"select * from all_{table.name} t where world = {_text(world)}{_uncovered(worlds[:rank], 't.ts_event')}"
            for rank, world in enumerate(worlds)
        )
        connection.execute(f"create view {table.name} as {' union all '.join(arms)}")
    connection.execute(f"create view last_bars as {_LAST_BARS}")
    arms = (
        f"select * from last_bars t where world = {_text(world)}{_uncovered(worlds[:rank], 't.ts_open', 't.ts_close')}"
        for rank, world in enumerate(worlds)
    )
    bars = " union all ".join(arms)
    if len(worlds) > 1:
        bars = (
            f"select * from ({bars}) qualify row_number() over (partition by symbol, timeframe, ts_open, number "
            f"order by feed_gap_ms > 0, {ranks}) = 1"
        )
    connection.execute(f"create view {BARS.name} as {bars}")
    for table, key, order in (
        (RATES, "symbol, timeframe, ts_open", f"{ranks}, revision desc, source_offset desc"),
        (SYMBOLS, "symbol", f"{ranks}, time desc, source_offset desc"),
    ):
        connection.execute(
            f"create view {table.name} as select * from all_{table.name} where {ranks} is not null "
            f"qualify row_number() over (partition by {key} order by {order}) = 1"
        )
    connection.execute(f"create view {EVENTS.name} as select * from all_{EVENTS.name} where {ranks} is not null")


def _uncovered(higher: Sequence[str], begin: str, end: str | None = None) -> str:
    """A condition: no world of ``higher`` covers the moment ``begin``, or all of the span up to ``end``."""
    if not higher:
        return ""
    until = f"{end} <= c.until" if end else f"{begin} < c.until"
    return (
        f" and not exists (select 1 from coverage c where c.world in ({', '.join(map(_text, higher))}) "
        f"and c.symbol = t.symbol and {begin} >= c.since and {until})"
    )


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
