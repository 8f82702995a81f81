"""The closed bars of the last day, for corrections: read back when one comes, then kept.

Corrections are rare and a day's bars are thousands a symbol, so a state is without them until a batch brings a
correction. Before such a batch `lacking` says whose are wanted, and `recalled` takes them in; the step adds what closes
after that. `released` lets go of those of symbols that had no correction for a day. The topic ``bars`` holds what the
state would, so it makes no difference which of the two a bar comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import polars as pl

from processors.core.series import DAY_MS, OpenBar, Series, bar_of
from processors.core.state import State
from processors.core.types import ClosedBar


def lacking(state: State, ticks: pl.DataFrame) -> dict[str, int]:
    """The symbols of a batch's ``ticks`` whose closed bars its step needs, and later than when they closed (UTC ms)."""
    if not ticks["correction"].any():
        return {}
    late = ticks.filter("correction").group_by("symbol").agg(pl.col("ts_event").max())
    found = {}
    for symbol, newest in sorted(late.iter_rows()):
        series = state.series.get(symbol)
        if series and series.closed is None and newest >= series.last[0] - DAY_MS:
            found[symbol] = series.last[0] - DAY_MS
    return found


def recalled(state: State, found: Mapping[str, Iterable[ClosedBar]]) -> State:
    """The state with the closed bars of these symbols: every one's last revision."""
    return _with(state, {symbol: _by_timeframe(bars) for symbol, bars in found.items()})


def released(state: State) -> State:
    """The state without the closed bars of symbols that had no correction in the last day."""
    idle = [name for name, one in state.series.items() if one.closed is not None and not one.corrections]
    return _with(state, dict.fromkeys(idle)) if idle else state


def _with(state: State, closed: Mapping[str, dict[str, dict[int, OpenBar]] | None]) -> State:
    series: dict[str, Series] = dict(state.series)
    for symbol, bars in closed.items():
        series[symbol] = copy.copy(series[symbol])
        series[symbol].closed = bars
    return State(series, state.watermarks)


def _by_timeframe(bars: Iterable[ClosedBar]) -> dict[str, dict[int, OpenBar]]:
    found: dict[str, dict[int, OpenBar]] = {}
    for item in sorted(bars, key=lambda item: item.bar.ts_close):
        bar = bar_of(item.bar, item.first_offset, item.last_offset)
        found.setdefault(item.bar.timeframe, {})[bar.ts_open] = bar
    return found
