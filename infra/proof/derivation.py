"""A bar from its ticks, plainly: sorted by identity, the first and the last price, the highest and the lowest.

Ticks come in parts, so a bar is derived in parts as well, and `merged` joins them: nothing in it depends on how they
were cut. Columns of ticks are those of `schemas.records.Tick` and ``source``, the offset in ``ticks.raw`` (-1: no
longer there), in the order in which they stand in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from infra.proof.terms import Terms

KEY: Final = ("symbol", "timeframe", "ts_open")

_BID: Final = 2
_LAST: Final = 8
_LAST_OR_VOLUME: Final = 8 | 16
"""MetaTrader's TICK_FLAG bits."""
_INT32: Final = 2.0**31 - 1

_FIRST: Final = ("first_tick_ts", "first_tick_ordinal")
_FINAL: Final = ("last_tick_ts", "last_tick_ordinal")


def makers(ticks: pl.DataFrame, terms: Mapping[str, Terms]) -> pl.DataFrame:
    """Those of the ticks that make bars, with what they give: price, points, counted, traded and rules.

    By MetaTrader's rules: the price is the bid, or the last where it makes the bars (then only ticks on which it
    moved count); the volume counts where last or volume moved; the spread is ask less bid in points, rounded half to
    even, 0 without a book. Ticks of symbols without terms make none.
    """
    table = pl.DataFrame(
        [(symbol, item.by_last, item.point, item.rules) for symbol, item in terms.items()],
        schema={"symbol": pl.String, "by_last": pl.Boolean, "point": pl.Float64, "rules": pl.String},
        orient="row",
    )
    flags, bid, ask = pl.col("flags"), pl.col("bid"), pl.col("ask")
    points = ((ask - bid) / pl.col("point")).clip(-_INT32, _INT32)
    return (
        ticks.join(table, on="symbol", how="inner", maintain_order="left")
        .filter(~pl.col("by_last") | (flags & _LAST != 0))
        .with_columns(
            price=pl.when("by_last").then("last").otherwise("bid"),
            counted=(pl.col("by_last") | (flags & _BID != 0)).cast(pl.Int64),
            traded=pl.when(flags & _LAST_OR_VOLUME != 0).then("volume").otherwise(0.0),
            points=pl.when((bid > 0) & (ask > 0)).then(points).otherwise(0.0).round().cast(pl.Int64),
        )
    )


def derived(made: pl.DataFrame) -> pl.DataFrame:
    """The bars of ticks that `makers` gave, each with the ``timeframe``, ``ts_open`` and ``ts_close`` of its bar."""
    arrival = pl.int_range(pl.len())
    return (
        made.with_columns(arrival=arrival)
        .sort("ts_event", "ordinal")
        .group_by(KEY, maintain_order=True)
        .agg(
            ts_close=pl.col("ts_close").first(),
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            ask_open=pl.col("ask").first(),
            ask_high=pl.col("ask").max(),
            ask_low=pl.col("ask").min(),
            ask_close=pl.col("ask").last(),
            tick_volume=pl.col("counted").sum(),
            real_volume=pl.col("traded").sum(),
            spread=pl.col("points").min(),
            tick_count=pl.len().cast(pl.Int64),
            first_tick_ts=pl.col("ts_event").first(),
            first_tick_ordinal=pl.col("ordinal").first(),
            last_tick_ts=pl.col("ts_event").last(),
            last_tick_ordinal=pl.col("ordinal").last(),
            rules=pl.col("rules").sort_by("arrival").first(),
            first_offset=pl.col("source").min(),
            last_offset=pl.col("source").max(),
        )
    )


def merged(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Parts of the same bars, in the order in which their ticks came, as one."""
    whole = pl.concat(parts)
    shared = pl.struct(KEY).is_duplicated()
    joined = (
        whole.filter(shared)
        .group_by(KEY, maintain_order=True)
        .agg(
            pl.col("ts_close").first(),
            pl.col("open").sort_by(_FIRST).first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").sort_by(_FINAL).last(),
            pl.col("ask_open").sort_by(_FIRST).first(),
            pl.col("ask_high").max(),
            pl.col("ask_low").min(),
            pl.col("ask_close").sort_by(_FINAL).last(),
            pl.col("tick_volume").sum(),
            pl.col("real_volume").sum(),
            pl.col("spread").min(),
            pl.col("tick_count").sum(),
            pl.col("first_tick_ts").sort_by(_FIRST).first(),
            pl.col("first_tick_ordinal").sort_by(_FIRST).first(),
            pl.col("last_tick_ts").sort_by(_FINAL).last(),
            pl.col("last_tick_ordinal").sort_by(_FINAL).last(),
            pl.col("rules").first(),
            pl.col("first_offset").min(),
            pl.col("last_offset").max(),
        )
    )
    return pl.concat([whole.filter(~shared), joined])
