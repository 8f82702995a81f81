"""Tick, volume and value bars derived once more, plainly: a day's ticks in order, cut wherever a bar is full."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from infra.market.counts import Counted, is_count, measure_of
from infra.market.timeframes import bounds
from infra.proof.comparing import EXACT, Comparison
from infra.proof.series import Series

PLACE: Final = ("symbol", "timeframe", "day", "number")
FIELDS: Final = ("ts_open", *EXACT, "real_volume", "status")
"""What is compared."""
_OPENING: Final = ("symbol", "timeframe", "ts_open")
_TICK: Final = (
    *("symbol", "ts_event", "ordinal", "price", "ask", "points"),
    *("counted", "traded", "by_last", "rules", "source", "correction"),
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Day:
    """A server day of a symbol."""

    to: int
    """Its end, UTC milliseconds."""
    ticks: pl.DataFrame
    """Those that make bars, by identity."""


@dataclass(slots=True)
class CountBook:
    """One partition's count bars as the topic has them, and the ticks that should make them."""

    found: pl.DataFrame
    newer: Collection[str]
    """Keys of those that came after what is derived."""
    made: Mapping[str, Mapping[str, int]]
    """By symbol, since when each of its bars is made."""
    since: int
    """Of days that began before it not all ticks are read."""
    to: int
    """Bars that close later are not asked for."""
    _ticks: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    _by_day: dict[str, dict[int, _Day]] = field(default_factory=dict)

    def take(self, ticks: pl.DataFrame) -> None:
        """Clean ticks that make bars, as `infra.proof.derivation.makers` gives them. All must come before the rest."""
        for (symbol,), part in ticks.select(_TICK).group_by("symbol", maintain_order=True):
            if any(map(is_count, self.made.get(str(symbol), ()))):
                self._ticks.setdefault(str(symbol), []).append(part)

    def compare(self, series: Mapping[str, Series], comparison: Comparison) -> None:
        """Hold what the ticks make against what was found; what nobody can derive counts as gone."""
        left = {tuple(row[name] for name in PLACE): row for row in self.found.iter_rows(named=True)}
        for symbol, item in series.items():
            names = [name for name in self.made.get(symbol, ()) if is_count(name)]
            for day in self._days(item) if names else ():
                for name in names:
                    if not self.doubt(item, name, day):
                        self._hold(self.derived(item, name, day), left, item, comparison)
        for (symbol, name, day, _), row in left.items():
            gone = symbol not in series or self.doubt(series[symbol], name, day)
            comparison.count(pl.DataFrame([{key: row[key] for key in _OPENING}]), "gone" if gone else "extra")

    def doubt(self, item: Series, name: str, day: int) -> str:
        """Why nobody can say which such bars a day should have; empty if it can be said."""
        if day < self.since:
            return "not every tick of its day is in the log any more"
        if not self.published(item, name, day):
            return "its day began before coverage, or before such bars were made"
        if item.terms is None or len(item.zones) > 1 or not item.surely_empty(day, -1):
            return "its symbol's spec, zone or coverage was said, or changed, when its day had begun"
        known = self._days(item).get(day)
        if known is None:
            return ""
        # A day that began under other rules is not cut anew.
        late = known.ticks.filter("correction")["source"]
        left = any(since > day and ((late > offset) | (late < 0)).any() for offset, since in item.changes)
        several = known.ticks["rules"].n_unique() > 1
        return "the rules changed within its day, or before a tick of it was found late" if left or several else ""

    def published(self, item: Series, name: str, day: int) -> bool:
        """Whether such bars of the day should be in the topic, as far as is known."""
        since = self.made.get(item.symbol, {}).get(name)
        return since is not None and day >= since and item.covered(day, -1)

    def derived(self, item: Series, name: str, day: int) -> list[Row]:
        """The bars that a day's ticks make: those that are ``due`` should have been published."""
        known = self._days(item).get(day)
        bars = list(_cut(name, known.ticks.to_dicts(), day, known.to)) if known else []
        for bar in bars:
            bar.update(symbol=item.symbol, timeframe=name)
            key = "{symbol}|{timeframe}|{day}.{number}".format(**bar)
            closed = bar["full"] or item.over >= bar["ts_close"]
            bar["due"] = closed and bar["ts_close"] <= self.to and key not in self.newer
            bar.update(_standing(bar, item, -1))
        return bars

    def _days(self, item: Series) -> Mapping[int, _Day]:
        """By opening; none if the symbol's days are not known, or not all of one zone."""
        symbol = item.symbol
        if symbol not in self._ticks or item.terms is None or len(item.zones) > 1:
            return {}
        if symbol not in self._by_day:
            ticks = pl.concat(self._ticks[symbol]).sort("ts_event", "ordinal", maintain_order=True)
            opens, ends = bounds("D1", ticks["ts_event"].to_numpy(), item.terms.zone)
            starts = np.flatnonzero(np.append(True, opens[1:] != opens[:-1])).tolist()
            self._by_day[symbol] = {
                int(opens[start]): _Day(int(ends[start]), ticks[start:stop])
                for start, stop in zip(starts, [*starts[1:], len(opens)], strict=True)
            }
        return self._by_day[symbol]

    def _hold(self, bars: list[Row], left: dict[tuple[Any, ...], Row], item: Series, comparison: Comparison) -> None:
        """Compare a day's bars with those found, which are taken out of ``left``."""
        pairs, missing = [], []
        for bar in bars:
            there = left.pop(tuple(bar[name] for name in PLACE), None)
            if there is not None:
                pairs.append(paired(bar, there, item))
            elif bar["due"]:
                missing.append({name: bar[name] for name in _OPENING})
        if pairs:
            comparison.compare(pl.DataFrame(pairs, infer_schema_length=None), FIELDS)
        if missing:
            comparison.count(pl.DataFrame(missing), "missing")


def paired(bar: Row, there: Row, item: Series) -> Row:
    """A derived bar beside the one found (``found_…``), by what was said when that was published."""
    own = bar | _standing(bar, item, there["cause"])
    if there["revision"]:
        own["status"] = "revised"
    return own | {f"found_{name}": there[name] for name in FIELDS} | {"revision": there["revision"]}


def _standing(bar: Row, item: Series, by: int) -> Row:
    gap = item.gap_ms(bar["ts_open"], bar["ts_close"], by)
    return {"feed_gap_ms": gap, "status": "partial" if gap else "final"}


def _cut(name: str, ticks: list[Row], day: int, to: int) -> Iterator[Row]:
    """A day's bars; the last one may not be full."""
    measure, since, number = measure_of(name), day, 0
    held: list[Row] = []
    total = 0.0
    for tick in ticks:
        held.append(tick)
        total += _weight(measure.counted, tick)
        if total >= measure.size:
            yield _bar(held, since, tick["ts_event"] + 1) | {"day": day, "number": number, "sum": total, "full": True}
            since, number, held, total = tick["ts_event"] + 1, number + 1, [], 0.0
    if held:
        yield _bar(held, since, to) | {"day": day, "number": number, "sum": total, "full": False}


def _weight(counted: Counted, tick: Row) -> float:
    if counted == Counted.TICKS:
        return 1.0
    volume = float(tick["traded"] if tick["by_last"] else tick["counted"])
    return volume if counted == Counted.VOLUME else float(tick["price"]) * volume


def _bar(ticks: list[Row], since: int, ts_close: int) -> Row:
    first, last = ticks[0], ticks[-1]
    prices, asks = [tick["price"] for tick in ticks], [tick["ask"] for tick in ticks]
    return {
        "ts_open": min(since, first["ts_event"]),
        "ts_close": ts_close,
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "ask_open": asks[0],
        "ask_high": max(asks),
        "ask_low": min(asks),
        "ask_close": asks[-1],
        "tick_volume": sum(tick["counted"] for tick in ticks),
        "real_volume": float(sum(tick["traded"] for tick in ticks)),
        "spread": min(tick["points"] for tick in ticks),
        "tick_count": len(ticks),
        "rules": first["rules"],
        "first_tick_ts": first["ts_event"],
        "first_tick_ordinal": first["ordinal"],
        "last_tick_ts": last["ts_event"],
        "last_tick_ordinal": last["ordinal"],
        "first_offset": min(tick["source"] for tick in ticks),
        "last_offset": max(tick["source"] for tick in ticks),
    }
