"""Which records a sink is given: of some topics, of some symbols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Self

import polars as pl

from infra.lake.layout import Table
from schemas.errors import UsageError


@dataclass(frozen=True)
class Selection:
    """The tables to fill, and patterns of symbols; no pattern: all."""

    tables: tuple[Table, ...]
    symbols: tuple[str, ...] = ()
    _known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, tables: Sequence[Table], topics: Sequence[str], symbols: Sequence[str]) -> Self:
        """What sink ``name`` of ``tables`` keeps. Raises UsageError for a topic that it does not know."""
        by_topic = {table.topic.name: table for table in tables}
        if unknown := [topic for topic in topics if topic not in by_topic]:
            raise UsageError(f"the sink {name} keeps no topic {unknown[0]!r}; it keeps {', '.join(by_topic)}")
        return cls(tuple(by_topic[topic] for topic in topics or by_topic), tuple(symbols))

    def of_symbols(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of wanted symbols, and those of no symbol."""
        if not self.symbols:
            return rows
        wanted = [symbol for symbol in rows["symbol"].unique() if symbol is None or self._wants(symbol)]
        return rows.filter(pl.col("symbol").is_in(wanted, nulls_equal=True))

    def _wants(self, symbol: str) -> bool:
        if symbol not in self._known:
            self._known[symbol] = any(fnmatchcase(symbol, pattern) for pattern in self.symbols)
        return self._known[symbol]
