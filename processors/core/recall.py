"""What corrections need of the last day, read back when one comes, then kept: closed bars, and ticks for count bars.

Corrections are rare and a day's bars are thousands a symbol, so a state is without them until a batch brings a
correction. Before such a batch `lacking` says whose are wanted, and `recalled` takes them in; the step adds what comes
after that. `released` lets go of the bars of symbols that had no correction for a day, and of the ticks of those that
have none in the batch. The topics ``bars`` and ``ticks.clean`` hold what the state would, so it makes no difference
which of the two a bar or a tick comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from processors.core.filter import Columns
from processors.core.kept import Kept, KeptTicks
from processors.core.series import COUNT_REACH_MS, DAY_MS, OpenBar, Place, Series, bar_of
from processors.core.state import State
from processors.core.types import ClosedBar, Rules


@dataclass(frozen=True, slots=True)
class Lack:
    """What a batch needs of a symbol and the state is without; UTC milliseconds, none: nothing."""

    closed_after: int | None
    """Its bars that closed later than that."""
    ticks_from: int | None
    """Its clean ticks from then on."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was read back of a symbol."""

    bars: Iterable[ClosedBar] | None
    """Every one's last revision; none: was not asked for."""
    ticks: pl.DataFrame | None
    """With the columns of Tick; none: was not asked for."""


def lacking(state: State, ticks: pl.DataFrame, rules: Rules) -> dict[str, Lack]:
    """The symbols of a batch's ``ticks`` of which its step needs more than the state has."""
    if not ticks["correction"].any():
        return {}
    counted, found = bool(rules.counted), {}
    late = ticks.filter("correction").group_by("symbol").agg(pl.col("ts_event"))
    for symbol, times in late.sort("symbol").iter_rows():
        series = state.series.get(symbol)
        within = [time for time in times if time >= series.last[0] - DAY_MS] if series else []
        if series is None or not within:
            continue
        since = series.day(min(within))[0] if counted and series.terms else None
        if series.kept is not None and since is not None and series.kept.since <= since:
            since = None
        after = series.last[0] - (COUNT_REACH_MS if counted else DAY_MS) if series.closed is None else None
        if after is not None or since is not None:
            found[symbol] = Lack(after, since)
    return found


def recalled(state: State, wanted: Mapping[str, Lack], found: Mapping[str, Found]) -> State:
    """The state with what was wanted."""
    changes: dict[str, dict[str, Any]] = {}
    for symbol, lack in wanted.items():
        series, change = state.series[symbol], changes.setdefault(symbol, {})
        bars, ticks = found[symbol].bars, found[symbol].ticks
        if bars is not None:
            change["closed"] = _by_timeframe(bars)
        if ticks is not None and lack.ticks_from is not None and series.terms is not None:
            columns = (
                ticks[name].to_numpy() for name in ("ts_event", "ordinal", "bid", "ask", "last", "volume", "flags")
            )
            change["kept"] = Kept(lack.ticks_from, KeptTicks.of(series.terms, Columns(*columns)))
    return _with(state, changes)


def released(state: State, ticks: pl.DataFrame) -> State:
    """The state without what neither the batch with these ``ticks`` nor a correction of the last day needs."""
    changes: dict[str, dict[str, Any]] = {}
    for name, one in state.series.items():
        if one.closed is not None and not one.corrections:
            changes.setdefault(name, {})["closed"] = None
        if one.kept is not None and (one.kept.since < one.last[0] - COUNT_REACH_MS or not _is_corrected(ticks, name)):
            changes.setdefault(name, {})["kept"] = None
    return _with(state, changes) if changes else state


def _is_corrected(ticks: pl.DataFrame, symbol: str) -> bool:
    return bool((ticks["correction"] & (ticks["symbol"] == symbol)).any())


def _with(state: State, changes: Mapping[str, Mapping[str, Any]]) -> State:
    series: dict[str, Series] = dict(state.series)
    for symbol, fields in changes.items():
        twin = series[symbol] = copy.copy(series[symbol])
        for name, value in fields.items():
            setattr(twin, name, value)
    return State(series, state.watermarks)


def _by_timeframe(bars: Iterable[ClosedBar]) -> dict[str, dict[Place, OpenBar]]:
    found: dict[str, dict[Place, OpenBar]] = {}
    for item in sorted(bars, key=lambda item: item.bar.ts_close):
        bar = bar_of(item.bar, item.first_offset, item.last_offset)
        found.setdefault(item.bar.timeframe, {})[bar.place] = bar
    return found
