"""Records to put into sinks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from infra.lake.layout import Table
from schemas.columns import dtypes
from schemas.records import Bar, BarStatus, FeedEvent, SymbolSpec, Tick
from sinks.sink import Batch

DAY = 86_400_000
START = 1_399_000_000_000
SYMBOLS = ("EURUSD", "GBPUSD", "EURUSD.fxcm", "XAU/USD")


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


def batch(
    table: Table, records: Iterable[Tick | Bar | FeedEvent | SymbolSpec], partition: int = 0, first: int = 0
) -> Batch:
    """Records as one source partition gives them, offsets from ``first`` on."""
    kinds, found = dtypes(table.record), list(records)

    def column(name: str) -> list[Any]:
        return [getattr(record, name if hasattr(record, name) else f"{name}_") for record in found]

    rows = pl.DataFrame({name: column(name) for name in kinds}, schema=kinds).with_columns(
        *(pl.lit("crossed").alias(name) for name in table.extra),
        *((pl.lit(START, pl.Int64).alias("time"),) if table.stamped else ()),
        source_partition=pl.lit(partition, pl.Int32),
        source_offset=pl.int_range(first, first + pl.len(), dtype=pl.Int64),
    )
    return Batch(table, rows)
