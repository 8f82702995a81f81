"""The sinks under test, and records to put into them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infra.lake.layout import BARS, REJECTED, TABLES, TICKS, Table
from infra.lake.tables import table_uri
from infra.settings import Settings
from schemas.columns import dtypes
from schemas.records import Bar, BarStatus, Tick
from sinks.csv import CsvSink
from sinks.lake import LakeSink
from sinks.sink import Batch, Sink, Source

DAY = 86_400_000
START = 1_399_000_000_000
SYMBOLS = ("EURUSD", "GBPUSD", "EURUSD.fxcm", "XAU/USD")

Place = tuple[str, int, int]
"""Symbol, partition and offset."""


def tick(number: int, symbol: str = "EURUSD", **fields: Any) -> Tick:
    """The number-th tick of a symbol; a hundred ticks are three hours."""
    at = START + number * 108_000
    values: dict[str, Any] = {
        "symbol": symbol,
        "ts_event": at,
        "ordinal": 0,
        "bid": 1.1 + number / 100_000,
        "ask": 1.1002 + number / 100_000,
        "flags": 6,
        "feed": "test",
        "server_time": at + 7_200_000,
        "ts_recv": at * 1_000 + 250,
    }
    return Tick(**values | fields)


def bar(number: int, symbol: str = "EURUSD", timeframe: str = "M1", revision: int = 0, **fields: Any) -> Bar:
    """The number-th bar of a series."""
    at = START // 60_000 * 60_000 + number * 60_000
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.1 + number / 10000)
    values: dict[str, Any] = {
        "symbol": symbol,
        "feed": "test",
        "timeframe": timeframe,
        "ts_open": at,
        "ts_close": at + 60_000,
        **prices,
        **{f"ask_{name}": price + 0.0002 for name, price in prices.items()},
        "tick_volume": 7,
        "real_volume": 0.0,
        "spread": 20,
        "status": BarStatus.REVISED if revision else BarStatus.FINAL,
        "revision": revision,
        "tick_count": 7,
        "first_tick_ts": at,
        "first_tick_ordinal": 0,
        "last_tick_ts": at + 59_000,
        "last_tick_ordinal": 0,
        "rules": "abc",
    }
    return Bar(**values | fields)


def batch(table: Table, records: Iterable[Tick | Bar], partition: int = 0, first: int = 0) -> Batch:
    """Records as one source partition gives them, offsets from ``first`` on."""
    kinds = dtypes(table.record)
    found = list(records)
    rows = pl.DataFrame(
        {name: [getattr(record, name) for record in found] for name in kinds}, schema=kinds
    ).with_columns(
        *(pl.lit("crossed").alias(name) for name in table.extra),
        source_partition=pl.lit(partition, pl.Int32),
        source_offset=pl.int_range(first, first + pl.len(), dtype=pl.Int64),
    )
    return Batch(table, rows)


@dataclass(frozen=True)
class Store:
    """One kind of sink in a folder of its own."""

    name: str
    home: Path
    world: str = "main"
    exclusive: bool = False
    """A second sink is refused at once, instead of at its commit."""

    @property
    def settings(self) -> Settings:
        return Settings(world=self.world, home=self.home)

    @contextmanager
    def sink(self) -> Iterator[Sink]:
        """A sink as its process has it, let go at the end."""
        with closing(sink_of(self.settings, self.name)) as sink:
            yield sink

    def source(self, table: Table, partition: int = 0) -> Source:
        return Source(f"{self.world}.{table.topic.name}", partition)

    def places(self, table: Table) -> list[Place]:
        """What a reader finds, sorted; repeats stay repeats."""
        return sorted(places_of(self.settings, self.name, table))

    def kept(self, tables: Collection[Table] = TABLES) -> dict[str, list[Place]]:
        return {table.name: self.places(table) for table in tables}


def sink_of(settings: Settings, name: str) -> Sink:
    if name == "lake":
        return LakeSink(settings.lake_uri, settings.lake.storage_options, settings.world)
    return CsvSink(settings.csv_dir, settings.world)


def places_of(settings: Settings, name: str, table: Table) -> Iterable[Place]:
    if name == "lake":
        uri = table_uri(settings.lake_uri, table)
        if not os.path.isdir(uri):  # noqa: PTH112 - an address, not always a path
            return []
        rows = pl.scan_delta(uri).filter(pl.col("world") == settings.world)
        return rows.select("symbol", "source_partition", "source_offset").collect().rows()
    return ((row["symbol"], int(row["partition"]), int(row["offset"])) for row in csv_rows(settings.csv_dir, table))


def csv_rows(folder: Path, table: Table) -> Iterable[dict[str, str]]:
    """Every row below a folder, read by Python's own csv module; fails on a torn line."""
    name = {TICKS.name: "ticks", REJECTED.name: "rejected", BARS.name: "ohlcv"}[table.name]
    for path in sorted((folder / name).rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                assert None not in row
                assert None not in row.values()
                yield row


STORES: dict[str, Callable[[Path], Store]] = {
    "lake": lambda home: Store("lake", home),
    "csv": lambda home: Store("csv", home, exclusive=True),
}
