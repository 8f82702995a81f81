"""The simulated server's bars, made of its ticks as MetaTrader makes them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from producers.simulated.history import History
from producers.terminal import FLAG_BID, RATES_DTYPE, Rates

_DAY_MS: Final = 86_400_000
_DAYS_KEPT: Final = 400
_LONGEST_SILENCE_DAYS: Final = 40

_MINUTES: Final = np.dtype([("at", "<i8"), *((name, RATES_DTYPE[name]) for name in RATES_DTYPE.names or ())])
"""A minute's bar with its UTC opening."""


class RatesStore:
    """Bars of one server. Its clock's zone is given each time: a broker may change it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._day = lru_cache(maxsize=_DAYS_KEPT)(self._minutes_of_day)

    def between(self, symbol: str, timeframe: str, start: int, last: int, *, now: int, zone: ServerZone) -> Rates:
        """The bars that open in [start, last], UTC, as they are at ``now``: the newest may be open still."""
        last = min(last, now)
        if start > last:
            return np.empty(0, RATES_DTYPE)
        opens, closes = bounds(timeframe, np.array([start, last], np.int64), zone)
        bars, when = fold(self._minutes(symbol, int(opens[0]), min(int(closes[1]), now + 1)), timeframe, zone)
        return bars[when >= start]

    def before(self, symbol: str, timeframe: str, last: int, count: int, *, now: int, zone: ServerZone) -> Rates:
        """The last ``count`` bars that open at ``last`` or before, UTC, as they are at ``now``."""
        found: list[Rates] = []
        missing, until, silent = count, last, 0
        while missing > 0 and silent < _LONGEST_SILENCE_DAYS:
            opens, _ = bounds(timeframe, np.array([until - _DAY_MS], np.int64), zone)
            since = int(opens[0])
            bars = self.between(symbol, timeframe, since, until, now=now, zone=zone)
            silent = 0 if len(bars) else silent + 1
            found.append(bars)
            missing -= len(bars)
            until = since - 1
        return np.concatenate([np.empty(0, RATES_DTYPE), *reversed(found)])[-count:]

    def _minutes(self, symbol: str, start: int, end: int) -> NDArray[np.void]:
        whole = end // _DAY_MS * _DAY_MS
        parts = [self._day(symbol, day) for day in range(start // _DAY_MS, whole // _DAY_MS)]
        if end > whole:
            parts.append(self._make(symbol, max(whole, start // 60_000 * 60_000), end))
        minutes = np.concatenate([np.empty(0, _MINUTES), *parts])
        return minutes[minutes["at"] >= start]

    def _minutes_of_day(self, symbol: str, day: int) -> NDArray[np.void]:
        return self._make(symbol, day * _DAY_MS, (day + 1) * _DAY_MS)

    def _make(self, symbol: str, start: int, end: int) -> NDArray[np.void]:
        point = self._history.market.instruments[symbol].point
        ticks = list(self._history.ever(symbol, start, end))
        return _minute_bars(np.concatenate(ticks), point) if ticks else np.empty(0, _MINUTES)


def fold(minutes: NDArray[np.void], timeframe: str, zone: ServerZone) -> tuple[Rates, NDArray[np.int64]]:
    """Minute bars as bars of a timeframe, and their openings in UTC."""
    if not len(minutes):
        return np.empty(0, RATES_DTYPE), np.empty(0, np.int64)
    opens, _ = bounds(timeframe, minutes["at"], zone)
    starts = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    ends = np.append(starts[1:], len(minutes)) - 1
    bars = np.zeros(len(starts), RATES_DTYPE)
    bars["time"] = zone.to_server(opens[starts]) // 1_000
    bars["open"], bars["close"] = minutes["open"][starts], minutes["close"][ends]
    bars["high"] = np.maximum.reduceat(minutes["high"], starts)
    bars["low"] = np.minimum.reduceat(minutes["low"], starts)
    bars["spread"] = np.minimum.reduceat(minutes["spread"], starts)
    for name in ("tick_volume", "real_volume"):
        bars[name] = np.add.reduceat(minutes[name], starts)
    return bars, opens[starts]


def _minute_bars(ticks: NDArray[np.void], point: float) -> NDArray[np.void]:
    minute = ticks["time_msc"] // 60_000
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    ends = np.append(starts[1:], len(ticks)) - 1
    bars = np.zeros(len(starts), _MINUTES)
    bars["at"] = minute[starts] * 60_000
    bars["open"], bars["close"] = ticks["bid"][starts], ticks["bid"][ends]
    bars["high"] = np.maximum.reduceat(ticks["bid"], starts)
    bars["low"] = np.minimum.reduceat(ticks["bid"], starts)
    spreads = np.rint((ticks["ask"] - ticks["bid"]) / point).astype(np.int64)
    bars["spread"] = np.minimum.reduceat(spreads, starts)
    bars["tick_volume"] = np.maximum(np.add.reduceat((ticks["flags"] & FLAG_BID) // FLAG_BID, starts), 1)
    return bars
