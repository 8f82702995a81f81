"""The lake's tables: which topic each one holds, its columns, and how records become its rows.

A table has every field of its Avro record, with times as timestamps in UTC (microseconds holding exact
milliseconds; ``server_time``, the broker's own clock, has no zone), and beside them ``world``, ``date`` (UTC, of
the record's event time), ``source_partition`` and ``source_offset`` (the record's place in its topic);
``rejected`` also has ``reason``, ``symbols`` the record's ``time``. Partition columns are ``world`` and ``date``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl

from infra import topics
from infra.topics import Topic
from schemas.definitions import definition

PARTITIONED_BY: Final = ("world", "date")
ROW_GROUP: Final = 131_072
"""Rows of a file that readers skip or read together."""
_TAIL: Final = {"source_partition": pl.Int32(), "source_offset": pl.Int64()}
_PLAIN: Final[Mapping[str, pl.DataType]] = {
    "string": pl.String(),
    "long": pl.Int64(),
    "int": pl.Int32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "enum": pl.String(),
}
_TIMES: Final[Mapping[str, tuple[int, str | None]]] = {
    "timestamp-millis": (1_000, "UTC"),
    "timestamp-micros": (1, "UTC"),
    "local-timestamp-millis": (1_000, None),
}
"""Logical type: microseconds in a unit, and the zone."""

FIRST_MS: Final = -62_135_596_800_000
LAST_MS: Final = 253_402_300_799_999
"""The years 1 to 9999: outside them readers of Parquet do not agree on a date."""


@dataclass(frozen=True)
class Table:
    """One table of the lake."""

    name: str
    topic: Topic
    record: str
    time: str
    """The column that orders a symbol's rows and gives the date."""
    order: tuple[str, ...]
    """Rows of a commit are sorted by these."""
    extra: tuple[str, ...] = ()
    """Text columns that come from record headers of the same name."""
    stamped: bool = False
    """The record has no time of its own; the column ``time`` is its timestamp in the topic."""

    @cached_property
    def times(self) -> Mapping[str, tuple[int, str | None]]:
        """The record's time fields: microseconds in a unit, and the zone."""
        return {name: _TIMES[kind] for name, kind in self._fields.items() if kind in _TIMES}

    @cached_property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The table's columns in order."""
        return {
            "world": pl.String(),
            "date": pl.Date(),
            **{
                name: pl.Datetime("us", _TIMES[kind][1]) if kind in _TIMES else _PLAIN[kind]
                for name, kind in self._fields.items()
            },
            **{name: pl.String() for name in self.extra},
            **_TAIL,
        }

    @cached_property
    def read_schema(self) -> Mapping[str, pl.DataType]:
        """The columns that the reading functions give: times as integers, as in `schemas.records`."""
        return {
            name: pl.Int64() if name in self.times else kind for name, kind in self.schema.items() if name != "date"
        }

    @property
    def indexed(self) -> tuple[str, ...]:
        """The columns whose least and greatest values are kept for each file."""
        return ("symbol", self.time, *_TAIL)

    def rows(self, decoded: pl.DataFrame, world: str) -> pl.DataFrame:
        """Sorted rows from decoded records: their fields with times as integers, the extra and the source columns."""
        rows = (
            decoded.lazy()
            .with_columns(
                world=pl.lit(world),
                date=pl.from_epoch(pl.col(self.time), "ms").dt.date(),
                **{name: self._timestamp(name) for name in self.times},
            )
            .select(pl.col(name).cast(kind) for name, kind in self.schema.items())
            .collect()
        )
        return self._sorted(rows)

    def integers(self) -> list[pl.Expr]:
        """Expressions that give time columns back as the records' integers."""
        return [(pl.col(name).dt.epoch("us") // unit).alias(name) for name, (unit, _) in self.times.items()]

    def readable(self, name: str) -> pl.Expr:
        """A column of a row for people: times as ISO 8601."""
        if name not in self.times:
            return pl.col(name)
        unit, zone = self.times[name]
        return pl.col(name).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.{3 if unit > 1 else 6}f{'Z' if zone else ''}")

    def unfit(self) -> pl.Expr:
        """True for a record that no row may be made of: an infinite number, or a time outside the years 1 to 9999.

        An infinite value spoils a file's statistics, so that readers drop its rows.
        """
        numbers = [name for name, kind in self._fields.items() if kind == "double"]
        return pl.any_horizontal(
            *(pl.col(name).is_infinite() for name in numbers),
            *(
                ~(pl.col(name).fill_null(0) if name in self._nullable else pl.col(name)).is_between(
                    FIRST_MS * 1_000 // unit, LAST_MS * 1_000 // unit
                )
                for name, (unit, _) in self.times.items()
            ),
        )

    def _sorted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """In the table's order: usually a stable sort by symbol is enough, and takes half the time."""
        symbols = rows["symbol"]
        codes = symbols.cast(pl.Enum(symbols.unique().drop_nulls().sort())).to_physical()
        found = rows.with_columns(_code=codes).sort("_code", maintain_order=True)
        after = pl.lit(value=True)
        for name in reversed(self.order[1:]):
            column, before = pl.col(name), pl.col(name).shift()
            after = (column > before) | ((column == before) & after)
        first = (pl.col("_code") != pl.col("_code").shift()).fill_null(value=False)
        in_order = found.select((first | after.fill_null(value=False)).slice(1).all()).item()
        return found.drop("_code") if in_order else rows.sort(self.order, maintain_order=True)

    def _timestamp(self, name: str) -> pl.Expr:
        unit, zone = self.times[name]
        return (pl.col(name) * unit).cast(pl.Datetime("us", zone))

    @cached_property
    def _nullable(self) -> set[str]:
        return {field["name"] for field in definition(self.record)["fields"] if isinstance(field["type"], list)}

    @cached_property
    def _fields(self) -> Mapping[str, str]:
        stamp = {"time": "timestamp-millis"} if self.stamped else {}
        return stamp | {field["name"]: _kind(field["type"]) for field in definition(self.record)["fields"]}


def _kind(avro: Any) -> str:
    if isinstance(avro, list):  # null or the one other
        avro = avro[1]
    return str(avro.get("logicalType", avro["type"])) if isinstance(avro, dict) else str(avro)


_TICK_ORDER: Final = ("symbol", "ts_event", "ordinal", "source_partition", "source_offset")
TICKS: Final = Table("ticks", topics.TICKS_CLEAN, "Tick", "ts_event", _TICK_ORDER)
REJECTED: Final = Table("rejected", topics.TICKS_REJECTED, "Tick", "ts_event", _TICK_ORDER, ("reason",))
_BAR_ORDER: Final = ("symbol", "timeframe", "ts_open", "number", "revision", "source_partition", "source_offset")
BARS: Final = Table("bars", topics.BARS, "Bar", "ts_open", _BAR_ORDER)
RATES: Final = Table("rates", topics.RATES, "Bar", "ts_open", _BAR_ORDER)
_TIME_ORDER: Final = ("symbol", "time", "source_partition", "source_offset")
EVENTS: Final = Table("events", topics.FEED_EVENTS, "FeedEvent", "time", _TIME_ORDER)
SYMBOLS: Final = Table("symbols", topics.SYMBOLS, "SymbolSpec", "time", _TIME_ORDER, stamped=True)
TABLES: Final = (TICKS, REJECTED, BARS, RATES, EVENTS, SYMBOLS)
