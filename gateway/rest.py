"""REST: what is there, what is newest, and the past. Times are UTC epoch milliseconds or ISO 8601."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from gateway.door import GRANT
from gateway.history import History, place_of
from gateway.market import Market, spec_row
from gateway.problems import BadParameterError, answer
from gateway.protocol import BARS, CHANNELS, LIVE, TICKS
from infra.settings import Settings

_MOST_ROWS: Final = 10_000
_USUAL_ROWS: Final = 1_000
_USUAL_TICKS_MS: Final = 300_000
"""How far before a symbol's last tick a request for ticks without a start begins."""
_END_OF_TIME: Final = 253_402_300_800_000
"""The year 10000."""


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
        grant = request[GRANT]
        seen = [symbol for symbol in sorted(self._market.specs) if any(grant.sees(each, symbol) for each in CHANNELS)]
        specs = [spec_row(self._market.specs[symbol]) for symbol in seen]
        return answer({"world": self._world, "timeframes": self._timeframes, "symbols": specs})

    async def _latest(self, request: web.Request) -> web.Response:
        query = Query(request, "symbol")
        symbol = self._symbol(request, query, TICKS, LIVE)
        return answer(
            {
                "symbol": symbol,
                "tick": self._market.ticks.get(symbol),
                "bars": list(self._market.live.get(symbol, {}).values()),
            }
        )

    async def _bars(self, request: web.Request) -> web.Response:
        query = Query(request, "symbol", "timeframe", "from", "to", "limit")
        symbol = self._symbol(request, query, BARS)
        timeframe = query.text("timeframe")
        if timeframe not in self._timeframes:
            raise BadParameterError("timeframe", f"timeframe {timeframe} is none of {', '.join(self._timeframes)}")
        start, end = query.span()
        rows = await self._history.bars(symbol, timeframe, start, end, query.limit())
        return answer({"symbol": symbol, "timeframe": timeframe, "bars": rows})

    async def _ticks(self, request: web.Request) -> web.Response:
        query = Query(request, "symbol", "from", "to", "limit", "cursor")
        symbol = self._symbol(request, query, TICKS)
        limit = query.limit()
        start, end = query.span()
        if start is None:
            last = self._market.ticks.get(symbol)
            start = min(end, last["ts_event"] if last else end) - _USUAL_TICKS_MS
        after = query.cursor() or (start, -1)
        rows = await self._history.ticks(symbol, after, end, limit)
        more = "{}.{}".format(*place_of(rows[-1])) if len(rows) == limit else None
        return answer({"symbol": symbol, "ticks": rows, "next": more})

    def _symbol(self, request: web.Request, query: Query, *channels: str) -> str:
        symbol, grant = query.text("symbol"), request[GRANT]
        for channel in channels:
            if not grant.sees(channel, symbol):
                raise BadParameterError("symbol", f"this token does not allow {channel} of {symbol}", 403)
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

    def choice(self, name: str, choices: Sequence[str], usual: str) -> str:
        value = self._query.get(name, usual)
        if value not in choices:
            raise BadParameterError(name, f"{name} {value} is none of {', '.join(choices)}")
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


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < len(str(_END_OF_TIME)) + 1
