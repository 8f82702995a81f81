"""REST: what is there, what is newest, and the past. Times are UTC epoch milliseconds or ISO 8601."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.history import BusyError, History, place_of
from gateway.market import Market, spec_row
from infra import logs
from infra.settings import Settings
from schemas.errors import ArbitrexError

_MOST_ROWS: Final = 10_000
_USUAL_ROWS: Final = 1_000
_USUAL_TICKS_MS: Final = 300_000
"""How far before a symbol's last tick a request for ticks without a start begins."""
_END_OF_TIME: Final = 253_402_300_800_000
"""The year 10000."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logs.logger(__name__)


class BadParameterError(ArbitrexError):
    """A query parameter is wrong."""

    def __init__(self, name: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.name = name
        self.status = status


class Api:
    """The handlers under /v1."""

    def __init__(self, settings: Settings, market: Market, history: History) -> None:
        self._world = settings.world
        self._timeframes = settings.bars.timeframes
        self._market = market
        self._history = history

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/symbols", self._symbols),
            web.get("/v1/latest", self._latest),
            web.get("/v1/bars", self._bars),
            web.get("/v1/ticks", self._ticks),
        ]

    async def _symbols(self, request: web.Request) -> web.Response:
        Query(request)
        specs = [spec_row(self._market.specs[symbol]) for symbol in sorted(self._market.specs)]
        return answer({"world": self._world, "timeframes": self._timeframes, "symbols": specs})

    async def _latest(self, request: web.Request) -> web.Response:
        query = Query(request, "symbol")
        symbol = self._symbol(query)
        return answer(
            {
                "symbol": symbol,
                "tick": self._market.ticks.get(symbol),
                "bars": list(self._market.live.get(symbol, {}).values()),
            }
        )

    async def _bars(self, request: web.Request) -> web.Response:
        query = Query(request, "symbol", "timeframe", "from", "to", "limit")
        symbol = self._symbol(query)
        timeframe = query.text("timeframe")
        if timeframe not in self._timeframes:
            raise BadParameterError("timeframe", f"timeframe {timeframe} is none of {', '.join(self._timeframes)}")
        start, end = query.span()
        rows = await self._history.bars(symbol, timeframe, start, end, query.limit())
        return answer({"symbol": symbol, "timeframe": timeframe, "bars": rows})

    async def _ticks(self, request: web.Request) -> web.Response:
        query = Query(request, "symbol", "from", "to", "limit", "cursor")
        symbol = self._symbol(query)
        limit = query.limit()
        start, end = query.span()
        if start is None:
            last = self._market.ticks.get(symbol)
            start = min(end, last["ts_event"] if last else end) - _USUAL_TICKS_MS
        after = query.cursor() or (start, -1)
        rows = await self._history.ticks(symbol, after, end, limit)
        more = "{}.{}".format(*place_of(rows[-1])) if len(rows) == limit else None
        return answer({"symbol": symbol, "ticks": rows, "next": more})

    def _symbol(self, query: Query) -> str:
        symbol = query.text("symbol")
        if symbol not in self._market:
            raise BadParameterError("symbol", f"unknown symbol {symbol}", 404)
        return symbol


class Query:
    """The query of a request. Raises BadParameterError naming what is wrong; unknown parameters are wrong, too."""

    def __init__(self, request: web.Request, *known: str) -> None:
        self._query = request.query
        for name in request.query:
            if name not in known:
                raise BadParameterError(name, f"unknown parameter {name}: {', '.join(known) or 'there is none'}")
            if len(request.query.getall(name)) > 1:
                raise BadParameterError(name, f"{name} is given more than once")

    def text(self, name: str) -> str:
        value = self._query.get(name)
        if not value:
            raise BadParameterError(name, f"{name} is missing")
        return value

    def limit(self) -> int:
        value = self._query.get("limit", str(_USUAL_ROWS))
        number = int(value) if value.isascii() and value.isdigit() and len(value) < len(str(_MOST_ROWS)) + 1 else 0
        if not 1 <= number <= _MOST_ROWS:
            raise BadParameterError("limit", f"limit {value} is not a number from 1 to {_MOST_ROWS}")
        return number

    def span(self) -> tuple[int | None, int]:
        """From (None when not given) and to, half open."""
        start, end = self._time("from"), self._time("to")
        if start is not None and end is not None and end < start:
            raise BadParameterError("to", "to is before from")
        return start, _END_OF_TIME if end is None else end

    def cursor(self) -> tuple[int, int] | None:
        value = self._query.get("cursor")
        if value is None:
            return None
        time, _, ordinal = value.partition(".")
        if not _is_number(time) or not _is_number(ordinal):
            raise BadParameterError("cursor", f"cursor {value} is not one that next gave")
        return int(time), int(ordinal)

    def _time(self, name: str) -> int | None:
        value = self._query.get(name)
        if value is None:
            return None
        if _is_number(value):
            return int(value)
        try:
            moment = datetime.fromisoformat(value.replace(" ", "+"))  # a plus sign that nobody quoted is a space
        except ValueError:
            raise BadParameterError(name, f"{name} {value} is neither epoch milliseconds nor ISO 8601") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000)


@web.middleware
async def errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every error as JSON with a code and a message."""
    try:
        return await handler(request)
    except BadParameterError as error:
        return problem(error.status, str(error), error.name)
    except BusyError as error:
        return problem(503, str(error))
    except ArbitrexError as error:
        log.warning("request failed", path=request.path, reason=str(error))
        return problem(503, str(error))
    except web.HTTPException as error:
        return problem(error.status, error.reason)


def answer(body: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON response that nothing may keep."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)


def problem(status: int, message: str, parameter: str | None = None) -> web.Response:
    """An error response; ``parameter`` names the one that is wrong."""
    named = {"parameter": parameter} if parameter else {}
    return answer({"error": {"code": status, "message": message} | named}, status)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < len(str(_END_OF_TIME)) + 1
