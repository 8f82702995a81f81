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
_OPENING: Final = ("symbol", "timeframe", "ts_open")
_TICK: Final = ("symbol", "ts_event", "ordinal", "price", "ask", "points", "counted", "traded", "by_last", "rules")
_FIELDS: Final = ("ts_open", *EXACT, "real_volume", "status")

Row = dict[str, Any]


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

    def take(self, ticks: pl.DataFrame) -> None:
        """Clean ticks that make bars, as `infra.proof.derivation.makers` gives them."""
        for (symbol,), part in ticks.select(_TICK).group_by("symbol", maintain_order=True):
            if any(map(is_count, self.made.get(str(symbol), ()))):
                self._ticks.setdefault(str(symbol), []).append(part)

    def compare(self, series: Mapping[str, Series], comparison: Comparison) -> None:
        """Hold what the ticks make against what was found.

        Bars of a day of which not every tick is surely there, or in which the rules changed, count as gone.
        """
        left = {tuple(row[name] for name in PLACE): row for row in self.found.iter_rows(named=True)}
        derived: set[tuple[Any, ...]] = set()
        for symbol, item in series.items():
            names = {name: since for name, since in self.made.get(symbol, {}).items() if is_count(name)}
            for day, to, ticks, newest in self._days(symbol, item) if names else ():
                for name, since in names.items():
                    if day >= max(since, self.since) and item.surely_empty(day, -1):
                        derived.add((symbol, name, day))
                        bars = [bar | {"symbol": symbol, "timeframe": name} for bar in _cut(name, ticks, day, to)]
                        self._hold(bars, newest, left, item, comparison)
        for (symbol, name, day, _), row in left.items():
            what = "extra" if (symbol, name, day) in derived else "gone"
            comparison.count(pl.DataFrame([{key: row[key] for key in _OPENING}]), what)

    def _days(self, symbol: str, item: Series) -> Iterator[tuple[int, int, list[Row], int]]:
        """Every server day, its end, its ticks by identity, and the time of the newest of all."""
        if symbol not in self._ticks or item.terms is None or len(item.zones) > 1:
            return
        ticks = pl.concat(self._ticks[symbol]).sort("ts_event", "ordinal", maintain_order=True)
        times = ticks["ts_event"].to_numpy()
        days, ends = bounds("D1", times, item.terms.zone)
        starts = np.flatnonzero(np.append(True, days[1:] != days[:-1])).tolist()
        for start, stop in zip(starts, [*starts[1:], len(times)], strict=True):
            part = ticks[start:stop]
            if part["rules"].n_unique() == 1:
                yield int(days[start]), int(ends[start]), part.to_dicts(), int(times[-1])

    def _hold(
        self, bars: list[Row], newest: int, left: dict[tuple[Any, ...], Row], item: Series, comparison: Comparison
    ) -> None:
        """Compare a day's bars with those found, which are taken out of ``left``."""
        pairs, missing = [], []
        for bar in bars:
            there = left.pop(tuple(bar[name] for name in PLACE), None)
            if there is not None:
                gap = item.gap_ms(bar["ts_open"], bar["ts_close"], there["cause"])
                status = "revised" if there["revision"] else "partial" if gap else "final"
                found = {f"found_{name}": there[name] for name in _FIELDS}
                pairs.append(bar | found | {"feed_gap_ms": gap, "status": status, "revision": there["revision"]})
            elif self._is_due(bar, newest):
                missing.append({name: bar[name] for name in _OPENING})
        if pairs:
            comparison.compare(pl.DataFrame(pairs, infer_schema_length=None), _FIELDS)
        if missing:
            comparison.count(pl.DataFrame(missing), "missing")

    def _is_due(self, bar: Row, newest: int) -> bool:
        key = "{symbol}|{timeframe}|{day}.{number}".format(**bar)
        closed = bar["full"] or newest >= bar["ts_close"]
        return bool(closed and bar["ts_close"] <= self.to and key not in self.newer)


def _cut(name: str, ticks: list[Row], day: int, to: int) -> Iterator[Row]:
    """A day's bars; the last one may not be full."""
    measure, since, number = measure_of(name), day, 0
    held: list[Row] = []
    total = 0.0
    for tick in ticks:
        held.append(tick)
        total += _weight(measure.counted, tick)
        if total >= measure.size:
            yield _bar(held, since, tick["ts_event"] + 1) | {"day": day, "number": number, "full": True}
            since, number, held, total = tick["ts_event"] + 1, number + 1, [], 0.0
    if held:
        yield _bar(held, since, to) | {"day": day, "number": number, "full": False}


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
    }
