"""Derived bars against those that stand in a topic, field by field."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from infra.market.timeframes import TIMEFRAMES
from infra.proof.derivation import KEY
from infra.proof.partition import UNKNOWN

EXACT: Final = (
    *("ts_close", "open", "high", "low", "close", "ask_open", "ask_high", "ask_low", "ask_close"),
    *("tick_volume", "spread", "tick_count", "feed_gap_ms", "rules"),
    *("first_tick_ts", "first_tick_ordinal", "last_tick_ts", "last_tick_ordinal"),
)
CORRECTED: Final = ("status", "revision")
"""Not known where the sources of corrections are gone."""
PROVENANCE: Final = ("first_offset", "last_offset", "cause")
"""Headers; not known where a bar's ticks are no longer in ``ticks.raw``."""
TERMINAL: Final = ("open", "high", "low", "close", "tick_volume")
"""What a terminal reports of a bar, and this log derives as well."""

_CLOSE_ENOUGH: Final = 1e-12
"""Volumes are sums of floats, which depend on the order of their terms."""
_EXAMPLES: Final = 20

KEY_TEXT: Final = pl.format("{}|{}|{}", *KEY)
"""The record key of a timeframe's bar."""
RECORD_KEY: Final = (
    pl.when(pl.col("day").is_null())
    .then(KEY_TEXT)
    .otherwise(pl.format("{}|{}|{}.{}", "symbol", "timeframe", "day", "number"))
)
"""The record key of any bar."""

Key = tuple[str, str]
"""Symbol and timeframe."""


@dataclass(slots=True)
class Tally:
    """What came out for the bars of a symbol and timeframe."""

    equal: int = 0
    differing: int = 0
    missing: int = 0
    """Derived, but not in the topic."""
    extra: int = 0
    """In the topic, but not derived."""
    gone: int = 0
    """In the topic, but their ticks are no longer in ``ticks.clean``: neither right nor wrong."""

    @property
    def bars(self) -> int:
        """Those in the topic."""
        return self.equal + self.differing + self.extra + self.gone

    @property
    def wrong(self) -> int:
        """Those that are not as they should be."""
        return self.differing + self.missing + self.extra


@dataclass(frozen=True, slots=True)
class Difference:
    """One bar that is not as it should be."""

    symbol: str
    timeframe: str
    ts_open: int
    what: str
    """``differs``, ``missing`` or ``extra``."""
    fields: tuple[tuple[str, Any, Any], ...] = ()
    """Name, value found and value derived."""


@dataclass(slots=True)
class Comparison:
    """All that was compared so far."""

    tallies: dict[Key, Tally] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    """The first ones."""

    @property
    def wrong(self) -> int:
        """Bars that are not as they should be."""
        return sum(tally.wrong for tally in self.tallies.values())

    def sorted(self) -> list[tuple[Key, Tally]]:
        """By symbol, and by length of the timeframe."""
        return sorted(self.tallies.items(), key=lambda item: (item[0][0], length_order(item[0][1])))

    def tally(self, symbol: str, timeframe: str) -> Tally:
        """The tally to count in."""
        return self.tallies.setdefault((symbol, timeframe), Tally())

    def count(self, bars: pl.DataFrame, what: str) -> None:
        """Count bars as ``equal``, ``missing``, ``extra`` or ``gone``."""
        for symbol, timeframe, number in bars.group_by("symbol", "timeframe").len().iter_rows():
            tally = self.tally(symbol, timeframe)
            setattr(tally, what, getattr(tally, what) + number)
        if what in {"missing", "extra"}:
            for row in bars.head(max(0, _EXAMPLES - len(self.differences))).iter_rows(named=True):
                self.differences.append(Difference(row["symbol"], row["timeframe"], row["ts_open"], what))

    def compare(self, pairs: pl.DataFrame, fields: Sequence[str]) -> None:
        """Count pairs of bars, the derived one's columns beside those of the found one (``found_…``)."""
        flagged = pairs.with_columns(unlike(name).alias(f"unlike_{name}") for name in fields)
        wrong = pl.any_horizontal(f"unlike_{name}" for name in fields)
        self.count(flagged.filter(~wrong), "equal")
        differing = flagged.filter(wrong)
        for symbol, timeframe, number in differing.group_by("symbol", "timeframe").len().iter_rows():
            self.tally(symbol, timeframe).differing += number
        for row in differing.head(max(0, _EXAMPLES - len(self.differences))).iter_rows(named=True):
            unlikes = tuple((name, row[f"found_{name}"], row[name]) for name in fields if row[f"unlike_{name}"])
            self.differences.append(Difference(row["symbol"], row["timeframe"], row["ts_open"], "differs", unlikes))


def unlike(name: str) -> pl.Expr:
    """Whether a field of the bar found is not as derived; false where the derivation does not know it."""
    found, own = pl.col(f"found_{name}"), pl.col(name)
    if name == "real_volume":
        return (found - own).abs() > _CLOSE_ENOUGH * pl.max_horizontal(found.abs(), own.abs(), 1.0)
    differs = found.ne_missing(own)
    if name in CORRECTED:
        return differs & (pl.col("revision") != UNKNOWN)
    if name in PROVENANCE:
        return differs & (pl.col("first_offset") >= 0)
    return differs


class Book:
    """One partition's bars as the topic has them, against which derived ones are held as they come."""

    FIELDS: Final = (*EXACT, "real_volume", *CORRECTED, *PROVENANCE)

    def __init__(
        self, found: pl.DataFrame, newer: Collection[str], dropped: Collection[Key], comparison: Comparison
    ) -> None:
        """``found``: the last revision of each bar; ``newer``: keys of those that came after what was derived.

        Bars of ``dropped``, timeframes that a setting took away at some time, are never missed.
        """
        self._dropped = pl.DataFrame(
            sorted(dropped), schema={"symbol": pl.String, "timeframe": pl.String}, orient="row"
        )
        self._found = found.rename({name: f"found_{name}" for name in found.columns if name not in KEY})
        self._newer = pl.Series(sorted(newer), dtype=pl.String)
        self._comparison = comparison
        self._seen: list[pl.DataFrame] = []

    def hold(self, derived: pl.DataFrame) -> None:
        """Compare derived bars with those found."""
        if not derived.height:
            return
        self._seen.append(derived.select(KEY))
        pairs = derived.join(self._found, on=KEY, how="left", maintain_order="left")
        here = pl.col("found_ts_close").is_not_null()
        self._comparison.compare(pairs.filter(here), self.FIELDS)
        missing = pairs.filter(~here & ~KEY_TEXT.is_in(self._newer.implode()))
        self._comparison.count(missing.join(self._dropped, on=["symbol", "timeframe"], how="anti"), "missing")

    def finish(self, since: int, symbols: Collection[str]) -> None:
        """What was found but not derived.

        Its ticks are gone if it opened before ``since``, its spec unless ``symbols`` has its symbol.
        """
        rest = self._found
        if self._seen:
            rest = rest.join(pl.concat(self._seen), on=KEY, how="anti", maintain_order="left")
        gone = (pl.col("ts_open") < since) | ~pl.col("symbol").is_in(list(symbols))
        self._comparison.count(rest.filter(gone), "gone")
        self._comparison.count(rest.filter(~gone), "extra")


def length_order(timeframe: str) -> tuple[int, str]:
    """Orders timeframes by length; those that are not of time come last."""
    return (TIMEFRAMES.index(timeframe) if timeframe in TIMEFRAMES else len(TIMEFRAMES), timeframe)
