"""Who may come in: web pages of known origins, and holders of a token where one is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway import problems
from gateway.access import LOOPBACK, Access, Grant
from gateway.limits import RateLimit
from infra import logs

GRANT: Final = web.RequestKey("grant", Grant)
"""What the one who asks may see."""
_BEARER: Final = "Bearer "
_FREE: Final = frozenset({"/health", "/ready", "/v1/ws", "/"})
"""Whoever may connect may ask for these; a socket's client may show its token in its first message."""
_MOST_TOKENS: Final = 10_000
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization",
    "Access-Control-Max-Age": "600",
    "Vary": "Origin",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logs.logger(__name__)


class Door:
    """Keeps foreign web pages out: their requests carry their origin, or a name that is not ours.

    A page of another origin may not connect unless it is allowed. A gateway that listens on loopback answers to
    loopback names only, so that a name of an attacker's that resolves to this machine does not count as our own.
    """

    def __init__(self, host: str, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._names = {urlsplit(origin).hostname for origin in self._origins} | LOOPBACK
        self._any_name = host not in LOOPBACK

    def refuses(self, host: str, origin: str | None) -> str | None:
        """Why a request is refused; None when it is not."""
        if not self._any_name and urlsplit(f"//{host}").hostname not in self._names:
            return f"host {host} is not this gateway's; add its origin to ARBITREX_GATEWAY__ORIGINS"
        if origin is None or self.allowed(host, origin):
            return None
        return f"origin {origin} may not connect; add it to ARBITREX_GATEWAY__ORIGINS"

    def allowed(self, host: str, origin: str) -> bool:
        return origin.lower() in self._origins or urlsplit(origin).netloc.lower() == host.lower()

    @web.middleware
    async def check(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse, or answer and let an allowed foreign page read the answer."""
        origin = request.headers.get("Origin")
        if reason := self.refuses(request.host, origin):
            log.warning("request refused", reason=reason, remote=request.remote)
            return problems.problem(403, reason)
        if origin and request.method == "OPTIONS":
            return web.Response(status=204, headers=_PREFLIGHT | {"Access-Control-Allow-Origin": origin})
        response = await handler(request)
        if response.prepared:
            return response
        response.headers.update({"X-Content-Type-Options": "nosniff", "Server": "Arbitrex"})
        if origin:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        return response


class Reception:
    """Asks requests for their token, and limits how often its holder comes back."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._budgets: dict[str, RateLimit] = {}

    @web.middleware
    async def check(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        shown = bearer(request)
        grant = self._access.grant(shown)
        is_free = request.path in _FREE or request.path.startswith("/page/")
        if grant is None and (shown or not is_free):
            what = "the token is unknown, revoked or expired" if shown else "give a token: Authorization: Bearer …"
            response = problems.problem(401, what)
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if grant is not None:
            if not self._within_rate(grant):
                return problems.problem(429, f"this token allows {grant.rate} requests a second")
            request[GRANT] = grant
        return await handler(request)

    def _within_rate(self, grant: Grant) -> bool:
        token = grant.token
        if token is None or token.rate is None:
            return True
        if len(self._budgets) >= _MOST_TOKENS:
            self._budgets.clear()
        budget = self._budgets.setdefault(token.id, RateLimit(token.rate))
        return budget.take(asyncio.get_running_loop().time())


def bearer(request: web.Request) -> str | None:
    """The token in a request's header."""
    value = request.headers.get("Authorization", "")
    return value.removeprefix(_BEARER).strip() if value.startswith(_BEARER) else None
