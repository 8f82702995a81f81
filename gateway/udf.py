"""TradingView's UDF: what its charts ask a data feed.

Source: https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF/. Times are UTC epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from aiohttp import web

from gateway.door import GRANT
from gateway.history import History
from gateway.market import Market, Row
from gateway.problems import answer
from gateway.protocol import BARS
from infra.market.zones import ServerZone
from infra.settings import Settings
from schemas.records import SymbolSpec

_DAY: Final = 86_400_000
_MINUTES: Final = {"M": 1, "H": 60}
_LONGER: Final = {"D1": "1D", "W1": "1W", "MN1": "1M"}
_MOST_BARS: Final = 5_000
_MOST_FOUND: Final = 100


class Udf:
    """The handlers under /udf. ``now`` gives UTC epoch milliseconds."""

    def __init__(self, settings: Settings, market: Market, history: History, now: Callable[[], int]) -> None:
        named = {resolution_of(name): name for name in settings.bars.timeframes}
        self._timeframes = {resolution: name for resolution, name in named.items() if resolution}
        self._timeframes |= {short: self._timeframes[f"1{short}"] for short in "DWM" if f"1{short}" in self._timeframes}
        self._resolutions = [resolution for resolution in named if resolution]
        self._market = market
        self._history = history
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/udf/config", self._config),
            web.get("/udf/time", self._time),
            web.get("/udf/symbols", self._symbols),
            web.get("/udf/search", self._search),
            web.get("/udf/history", self._bars),
        ]

    async def _config(self, _: web.Request) -> web.Response:
        feeds = sorted({spec.feed for spec in self._market.specs.values()})
        return answer(
            {
                "supported_resolutions": self._resolutions,
                "supports_group_request": False,
                "supports_marks": False,
                "supports_search": True,
                "supports_timescale_marks": False,
                "supports_time": True,
                "exchanges": [{"value": feed, "name": feed, "desc": feed} for feed in feeds],
                "symbols_types": [{"name": "all", "value": ""}],
            }
        )

    async def _time(self, _: web.Request) -> web.Response:
        return web.Response(text=str(self._now() // 1_000), headers={"Cache-Control": "no-store"})

    async def _symbols(self, request: web.Request) -> web.Response:
        spec = self._spec(request)
        if spec is None:
            return _error("unknown_symbol")
        intraday = [resolution for resolution in self._resolutions if resolution.isdigit()]
        return answer(
            {
                "name": spec.symbol,
                "ticker": spec.symbol,
                "full_name": spec.symbol,
                "description": spec.broker_name or spec.symbol,
                "type": "forex",
                "session": "24x7",
                "timezone": "Etc/UTC",
                "exchange": spec.feed,
                "listed_exchange": spec.feed,
                "format": "price",
                "minmov": 1,
                "pricescale": 10**spec.digits,
                "has_intraday": bool(intraday),
                "intraday_multipliers": intraday,
                "has_daily": "1D" in self._resolutions,
                "has_weekly_and_monthly": {"1W", "1M"} <= set(self._resolutions),
                "supported_resolutions": self._resolutions,
                "volume_precision": 0,
                "data_status": "streaming",
            }
        )

    async def _search(self, request: web.Request) -> web.Response:
        text, exchange = request.query.get("query", "").upper(), request.query.get("exchange", "")
        limit = min(_whole(request.query.get("limit", "30")) or _MOST_FOUND, _MOST_FOUND)
        grant = request[GRANT]
        found = [
            spec
            for symbol, spec in sorted(self._market.specs.items())
            if text in symbol.upper() and exchange in {"", spec.feed} and grant.sees(BARS, symbol)
        ]
        found.sort(key=lambda spec: not spec.symbol.upper().startswith(text))
        return answer(
            [
                {
                    "symbol": spec.symbol,
                    "full_name": spec.symbol,
                    "description": spec.broker_name or spec.symbol,
                    "exchange": spec.feed,
                    "ticker": spec.symbol,
                    "type": "forex",
                }
                for spec in found[:limit]
            ]
        )

    async def _bars(self, request: web.Request) -> web.Response:
        spec, query = self._spec(request), request.query
        timeframe = self._timeframes.get(query.get("resolution", ""))
        start, end = _whole(query.get("from", "")), _whole(query.get("to", ""))
        if spec is None:
            return _error("unknown_symbol")
        if timeframe is None or start is None or end is None:
            return _error("resolution, from and to are needed: one of the config's, and seconds")
        count = min(_whole(query.get("countback", "")) or 0, _MOST_BARS)
        first, last = start * 1_000, end * 1_000
        wanted = None if count else first
        rows = await self._history.bars(spec.symbol, timeframe, wanted, last, count or _MOST_BARS)
        rows = self._with_open(rows, spec.symbol, timeframe, (None if count else first, last))[-(count or _MOST_BARS) :]
        if not rows:
            before = await self._history.bars(spec.symbol, timeframe, None, first, 1)
            before = self._with_open(before, spec.symbol, timeframe, (None, first))
            later = {"nextTime": _seconds(before[-1:], timeframe, spec)[0]} if before else {}
            return answer({"s": "no_data"} | later)
        columns = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "tick_volume"}
        values = {short: [row[name] for row in rows] for short, name in columns.items()}
        return answer({"s": "ok", "t": _seconds(rows, timeframe, spec)} | values)

    def _with_open(self, rows: list[Row], symbol: str, timeframe: str, span: tuple[int | None, int]) -> list[Row]:
        bar = self._market.live.get(symbol, {}).get(timeframe)
        start, end = span
        if bar is None or not (start is None or start <= bar["ts_open"]) or bar["ts_open"] >= end:
            return rows
        return [*(row for row in rows if row["ts_open"] < bar["ts_open"]), bar]

    def _spec(self, request: web.Request) -> SymbolSpec | None:
        symbol = request.query.get("symbol", "").rpartition(":")[2]
        spec = self._market.specs.get(symbol)
        return spec if spec is not None and request[GRANT].sees(BARS, symbol) else None


def resolution_of(timeframe: str) -> str | None:
    """TradingView's name of a timeframe; None for tick, volume and value bars."""
    if timeframe in _LONGER:
        return _LONGER[timeframe]
    unit, number = timeframe[:1], timeframe[1:]
    return str(_MINUTES[unit] * int(number)) if unit in _MINUTES and number.isdigit() else None


def _seconds(rows: Sequence[Row], timeframe: str, spec: SymbolSpec) -> list[int]:
    """When bars open. Days and longer are named by the date of the broker's day, at 00:00 UTC, as charts expect."""
    times = np.array([row["ts_open"] for row in rows], np.int64)
    if timeframe in _LONGER:
        times = ServerZone.parse(spec.zone).to_server(times) // _DAY * _DAY
    found: list[int] = (times // 1_000).tolist()
    return found


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < len(str(_DAY)) + 6 else None


def _error(text: str) -> web.Response:
    return answer({"s": "error", "errmsg": text})
