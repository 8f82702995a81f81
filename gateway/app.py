"""The HTTP application: WebSocket, REST, page, and who may come in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import rest
from gateway.assets import Assets
from gateway.history import History
from gateway.hub import Hub
from gateway.session import Session, Socket
from infra import logs, metrics
from infra.settings import Settings

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logs.logger(__name__)


def build(settings: Settings, hub: Hub, history: History, alive: Callable[[], bool]) -> web.Application:
    """The application; ``alive`` says whether Kafka is being followed."""
    return Gateway(settings, hub, history, alive).app


class Gateway:
    """The application and what its handlers share."""

    def __init__(self, settings: Settings, hub: Hub, history: History, alive: Callable[[], bool]) -> None:
        self._settings = settings
        self._hub = hub
        self._alive = alive
        self._door = Door(settings.gateway.host, settings.gateway.origins)
        self._sessions: set[Session] = set()
        self.app = web.Application(middlewares=[self._door.check, rest.errors])
        self.app.router.add_get("/v1/ws", self._websocket)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/ready", self._ready)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.add_routes(rest.Api(settings, hub.market, history).routes())
        self.app.add_routes(Assets().routes())
        self.app.cleanup_ctx.append(self._heartbeats)
        self.app.on_shutdown.append(self._say_goodbye)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        limits = self._settings.gateway
        transport = request.transport
        socket = Socket(limits.max_message_bytes, transport)
        await socket.prepare(request)
        session = Session(
            socket,
            self._hub,
            limits,
            self._settings.bars.timeframes,
            now=now_ms,
            cut_off=transport.abort if transport else _nothing,
        )
        self._sessions.add(session)
        try:
            with metrics.CLIENTS.track_inprogress():
                await session.run()
        finally:
            self._sessions.discard(session)
        return socket

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        ready = self._alive()
        return web.json_response({"status": "ready" if ready else "not ready"}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _heartbeats(self, _: web.Application) -> AsyncIterator[None]:
        async def beat() -> None:
            while True:
                await asyncio.sleep(self._settings.gateway.heartbeat_seconds)
                self._hub.heartbeat(now_ms())

        task = asyncio.create_task(beat())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _say_goodbye(self, _: web.Application) -> None:
        for session in self._sessions:
            session.close(WSCloseCode.GOING_AWAY, "the gateway is stopping")


class Door:
    """Keeps foreign web pages out: their requests carry their origin, or a name that is not ours.

    A page of another origin may not connect unless it is allowed. A gateway that listens on loopback answers to
    loopback names only, so that a name of an attacker's that resolves to this machine does not count as our own.
    """

    def __init__(self, host: str, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._names = {urlsplit(origin).hostname for origin in self._origins} | _LOOPBACK
        self._any_name = host not in _LOOPBACK

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
            return rest.problem(403, reason)
        response = await handler(request)
        if response.prepared:
            return response
        response.headers.update({"X-Content-Type-Options": "nosniff", "Server": "Arbitrex"})
        if origin:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        return response


def now_ms() -> int:
    """UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _nothing() -> None:
    """No transport is left to cut off."""
