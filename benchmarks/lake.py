"""One symbol and one hour out of many ticks: what each reader takes, and what it need not read.

    python -m benchmarks.lake [--ticks 50000000] [--days 20]

The ticks are written by the sink's own writer, a commit an hour, and put together by `lake optimize`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable

from infra.lake.layout import TICKS
from infra.lake.query import connect
from infra.lake.storage import filesystem
from infra.lake.tables import data_files, table_uri
from schemas.columns import dtypes
from sinks.lake import LakeSink
from sinks.optimize import optimize
from sinks.sink import Batch, Source

SYMBOLS = np.array([f"SYM{number:02}" for number in range(28)])
START = datetime(2025, 6, 2, tzinfo=UTC)
SOURCE = Source("main.ticks.clean", 0)
ROUNDS = 5


def fill(uri: str, ticks: int, days: int) -> None:
    """Days of 24 commits each; prices are random walks."""
    each, draw, offset = ticks // (days * 24), np.random.default_rng(7), 0
    start = int(START.timestamp()) * 1_000
    with closing(LakeSink(uri, None, "main")) as sink:
        sink.positions([SOURCE])
        for hour in range(days * 24):
            at = start + hour * 3_600_000 + np.sort(draw.integers(0, 3_600_000, each))
            bid = 1.1 + np.cumsum(draw.choice((-1, 0, 1), each)) / 1e5
            columns = {
                "symbol": SYMBOLS[draw.integers(0, len(SYMBOLS), each)], "ts_event": at, "ordinal": np.arange(each),
                "bid": bid, "ask": bid + 1e-4, "last": np.zeros(each), "volume": np.zeros(each),
                "flags": np.full(each, 6), "feed": np.full(each, "bench"), "server_time": at + 10_800_000,
                "ts_recv": at * 1_000 + 250, "correction": np.zeros(each, bool),
            }  # fmt: skip
            rows = pl.DataFrame({name: pl.Series(columns[name]).cast(kind) for name, kind in dtypes("Tick").items()})
            place = {"source_partition": pl.lit(0, pl.Int32), "source_offset": pl.int_range(offset, offset + pl.len())}
            sink.write(Batch(TICKS, rows.with_columns(**place)))
            offset += each
            sink.commit({SOURCE: offset})


def readers(uri: str, begin: datetime, end: datetime) -> Iterable[tuple[str, Callable[[], int]]]:
    """Each as its documentation has it; none is told the date."""
    place = table_uri(uri, TICKS)
    table = DeltaTable(table_uri(uri, TICKS))
    condition = f"symbol = 'SYM07' and ts_event >= '{begin.isoformat()}' and ts_event < '{end.isoformat()}'"
    within = (ds.field("symbol") == "SYM07") & (ds.field("ts_event") >= begin) & (ds.field("ts_event") < end)

    def polars() -> int:
        rows = pl.scan_delta(place).filter(
            pl.col("symbol") == "SYM07", pl.col("ts_event").is_between(begin, end, closed="left")
        )
        return rows.collect().height

    def pyarrow() -> int:
        found = table.to_pyarrow_dataset(filesystem=filesystem(place, None))
        return int(found.to_table(filter=within).num_rows)

    def pandas() -> int:
        found = table.to_pyarrow_dataset(filesystem=filesystem(place, None))
        return len(found.to_table(filter=within).to_pandas())

    def duckdb() -> int:
        with connect(uri, None, ["main"], only=True) as connection:
            return int(connection.sql(f"select * from ticks where {condition}").pl().height)  # noqa: S608

    return ("polars", polars), ("duckdb, lake query", duckdb), ("pyarrow", pyarrow), ("pandas", pandas)


def skipped(uri: str, begin: datetime, end: datetime) -> str:
    """What the statistics of files and row groups leave to read."""
    table = DeltaTable(table_uri(uri, TICKS))
    actions = data_files(table)
    hit = actions.filter(
        pl.col("min.symbol") <= "SYM07", pl.col("max.symbol") >= "SYM07",
        pl.col("min.ts_event") < end, pl.col("max.ts_event") >= begin,
    )  # fmt: skip
    groups = wanted = 0
    for path in actions["path"]:
        with pq.ParquetFile(f"{table_uri(uri, TICKS)}/{path}") as file:
            columns = {file.metadata.schema.column(n).name: n for n in range(file.metadata.num_columns)}
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                symbol, at = (group.column(columns[name]).statistics for name in ("symbol", "ts_event"))
                groups += 1
                wanted += symbol.min <= "SYM07" <= symbol.max and at.min < end and at.max >= begin
    return f"files {hit.height} of {actions.height}, row groups {wanted} of {groups}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=50_000_000)
    parser.add_argument("--days", type=int, default=20)
    given = parser.parse_args()
    begin = START + timedelta(days=given.days // 2, hours=10)
    end = begin + timedelta(hours=1)
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder) / "lake")
        started = time.perf_counter()
        fill(uri, given.ticks, given.days)
        print(f"{given.ticks:,} ticks of {given.days} days written in {time.perf_counter() - started:.0f} s")
        for state in ("as the sink left them", "after lake optimize"):
            print(f"{state}: {skipped(uri, begin, end)} are to be read")
            for name, read in readers(uri, begin, end):
                times = []
                for _ in range(ROUNDS):
                    started = time.perf_counter()
                    rows = read()
                    times.append(time.perf_counter() - started)
                print(f"  {name:20} {rows:8,} rows  best {min(times) * 1e3:6.0f} ms  worst {max(times) * 1e3:6.0f} ms")
            if state.startswith("as"):
                started = time.perf_counter()
                done = optimize(uri, None, TICKS, 168)
                print(f"{done.before} files became {done.after} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
