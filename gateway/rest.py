"""REST: what is there, what is newest, and the past. Times are UTC epoch milliseconds or ISO 8601."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.asyncapi import asyncapi
from gateway.door import GRANT
from gateway.endpoints import ENDPOINTS, openapi
from gateway.formats import rows_answer
from gateway.history import place_of
from gateway.market import Market, Row, spec_row
from gateway.problems import BadParameterError, answer
from gateway.protocol import BARS, CHANNELS, EVENTS, LIVE, MOST_SYMBOLS, TICKS
from gateway.query import Query
from gateway.replay import Replays
from infra.market.counts import is_count
from infra.series_log import SeriesLog
from infra.series_missing import missing_of
from infra.settings import Settings
from schemas.codec import Codec
from schemas.errors import UsageError

_USUAL_TICKS_MS: Final = 300_000
"""How far before a symbol's last tick a request for ticks without a start begins."""
_MOST_MISSING: Final = 200_000
"""Bars of a range whose absence may be asked about at once."""


class Api:
    """The handlers under /v1. ``now`` gives UTC epoch milliseconds."""

    def __init__(
        self, settings: Settings, market: Market, replays: Replays, codec: Codec, now: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._timeframes = settings.bars.timeframes
        self._market = market
        self._history = replays.history
        self._replays = replays
        self._codec = codec
        self._now = now
        release = version("arbitrex")
        self._descriptions = {"/v1/openapi.json": openapi(release), "/v1/asyncapi.json": asyncapi(release)}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/symbols", self._symbols),
            web.get("/v1/latest", self._latest),
            web.get("/v1/bars", self._bars),
            web.get("/v1/ticks", self._ticks),
            web.get("/v1/replay", self._replay),
            web.get("/v1/missing", self._missing),
            web.get("/v1/gaps", self._gaps),
            web.get("/v1/openapi.json", self._description),
            web.get("/v1/asyncapi.json", self._description),
        ]

    async def _symbols(self, request: web.Request) -> web.Response:
        query, grant = _checked(request), request[GRANT]
        if query.has("symbol"):
            spec = self._market.specs.get(self._symbol(request, query))
            row = spec_row(spec) | {"calendar": _json(spec.calendar)} if spec else None
            return answer(
                {"world": self._settings.world, "timeframes": self._timeframes, "symbols": [row] if row else []}
            )
        seen = [symbol for symbol in sorted(self._market.specs) if any(grant.sees(each, symbol) for each in CHANNELS)]
        specs = [spec_row(self._market.specs[symbol]) for symbol in seen]
        return answer({"world": self._settings.world, "timeframes": self._timeframes, "symbols": specs})

    async def _latest(self, request: web.Request) -> web.Response:
        symbol = self._symbol(request, _checked(request), TICKS, LIVE)
        tick, bars = self._market.ticks.get(symbol), self._market.live.get(symbol, {})
        return answer({"symbol": symbol, "tick": tick, "bars": list(bars.values())})

    async def _bars(self, request: web.Request) -> web.Response:
        query = _checked(request)
        symbol = self._symbol(request, query, BARS)
        timeframe = query.choice("timeframe", self._timeframes)
        (start, end), limit = query.span(), query.limit()
        rows = await self._history.bars(symbol, timeframe, start, end, limit)
        more = None
        if start is not None and len(rows) == limit:
            rows, more = _page(rows) if is_count(timeframe) else (rows, rows[-1]["ts_open"] + 1)
        head = {"symbol": symbol, "timeframe": timeframe, "bars": rows, "next": more}
        return rows_answer(request, "Bar", rows, head, {"from": str(more)} if more is not None else None)

    async def _ticks(self, request: web.Request) -> web.Response:
        query = _checked(request)
        symbol = self._symbol(request, query, TICKS)
        limit = query.limit()
        start, end = query.span()
        if start is None:
            last = self._market.ticks.get(symbol)
            start = min(end, last["ts_event"] if last else end) - _USUAL_TICKS_MS
        after = query.cursor() or (start, -1)
        rows = await self._history.ticks(symbol, after, end, limit)
        more = "{}.{}".format(*place_of(rows[-1])) if len(rows) == limit else None
        head = {"symbol": symbol, "ticks": rows, "next": more}
        return rows_answer(request, "Tick", rows, head, {"cursor": more} if more else None)

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        query = _checked(request)
        names = list(dict.fromkeys(query.text("symbol").split(",")))
        if len(names) > MOST_SYMBOLS:
            raise BadParameterError("symbol", f"at most {MOST_SYMBOLS} symbols, with commas between them")
        for name in names:
            self._seen(request, name, TICKS)
        query.text("from"), query.text("to")
        start, end = query.span()
        return await self._replays.stream(request, names, (start or 0, end), query.speed())

    async def _missing(self, request: web.Request) -> web.Response:
        query = _checked(request)
        symbol = self._symbol(request, query, BARS)
        timeframe = query.choice("timeframe", self._timeframes)
        start, end = query.span()
        if start is None:
            raise BadParameterError("from", "from is missing")
        asked = start, min(end, self._now())
        if asked[0] >= asked[1]:
            raise BadParameterError("to", "the range is empty, or has not come yet")
        log, world = SeriesLog(self._settings, self._codec), self._settings.world
        try:
            found = await self._history.run(
                lambda: missing_of(log, world, symbol, timeframe, asked, most=_MOST_MISSING)
            )
        except UsageError as error:
            raise BadParameterError("timeframe", str(error)) from error
        rows = [
            {"from": each.from_, "to": each.to, "reason": str(each.reason), "bars": each.bars} for each in found.found
        ]
        whole = {"from": found.taken[0], "to": found.taken[1], "processed_to": found.standing.processed_to}
        return answer({"symbol": symbol, "timeframe": timeframe} | whole | {"missing": rows})

    async def _gaps(self, request: web.Request) -> web.Response:
        symbol = self._symbol(request, _checked(request), EVENTS)
        log = SeriesLog(self._settings, self._codec)
        try:
            standing = await self._history.run(lambda: log.standing(symbol))
        except UsageError as error:
            raise BadParameterError("symbol", str(error), 404) from error
        gaps = [{"from": start, "to": end} for start, end in standing.gaps]
        about = {"coverage_from": standing.coverage_from, "processed_to": standing.processed_to}
        return answer({"symbol": symbol} | about | {"gaps": gaps})

    async def _description(self, request: web.Request) -> web.Response:
        _checked(request)
        return answer(self._descriptions[request.path])

    def _symbol(self, request: web.Request, query: Query, *channels: str) -> str:
        symbol = query.text("symbol")
        self._seen(request, symbol, *channels)
        return symbol

    def _seen(self, request: web.Request, symbol: str, *channels: str) -> None:
        grant = request[GRANT]
        for channel in channels:
            if not grant.sees(channel, symbol):
                raise BadParameterError("symbol", f"this token does not allow {channel} of {symbol}", 403)
        if symbol not in self._market:
            raise BadParameterError("symbol", f"unknown symbol {symbol}", 404)


def _checked(request: web.Request) -> Query:
    """The query, if it holds nothing but what the address takes."""
    return Query(request, *ENDPOINTS[request.path].parameters)


def _page(rows: list[Row]) -> tuple[list[Row], int]:
    """A page that does not end between bars that open at once, and where the next one begins."""
    last = rows[-1]["ts_open"]
    before = [row for row in rows if row["ts_open"] < last]
    return (before, last) if before else (rows, last + 1)


def _json(text: str | None) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = orjson.loads(text) if text else None
    return found
