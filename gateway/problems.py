"""Answers in JSON, and every error as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import hdrs, web

from infra import logs
from schemas.errors import ArbitrexError

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logs.logger(__name__)


class BadParameterError(ArbitrexError):
    """A query parameter is wrong."""

    def __init__(self, name: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.name = name
        self.status = status


class BusyError(ArbitrexError):
    """Too many readers of the past already wait."""


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
        told = problem(error.status, error.reason)
        if allowed := error.headers.get(hdrs.ALLOW):
            told.headers[hdrs.ALLOW] = allowed
        return told


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON response that nothing may keep."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)


def problem(status: int, message: str, parameter: str | None = None) -> web.Response:
    """An error response; ``parameter`` names the one that is wrong."""
    named = {"parameter": parameter} if parameter else {}
    return answer({"error": {"code": status, "message": message} | named}, status)
