"""The HTTP application: WebSocket, REST, page, and who may come in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp import WSCloseCode, hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import problems, rest
from gateway.access import LOOPBACK, Access
from gateway.assets import Assets
from gateway.catchup import LogReader
from gateway.door import GRANT, Door, Reception
from gateway.endpoints import ENDPOINTS
from gateway.history import History
from gateway.hub import Hub
from gateway.limits import Addresses
from gateway.outbox import Slow
from gateway.protocol import Code
from gateway.query import Query
from gateway.replay import Replays, Slots
from gateway.session import Session, Surroundings, Wishes
from gateway.socket import Socket
from gateway.tokens import TokenFile
from gateway.udf import Udf
from gateway.wire import WIRES
from infra import logs, metrics
from infra.settings import Settings
from schemas.codec import Codec
from schemas.errors import SettingsError

_CONFLATION_SECONDS: Final = 0.02

log = logs.logger(__name__)


def access_of(settings: Settings) -> Access:
    """Who may come in. Raises SettingsError when anybody could who can reach us, and nobody said so."""
    gateway, file = settings.gateway, TokenFile(settings.tokens_file)
    public = gateway.host not in LOOPBACK
    if public and not gateway.open and not file.read():
        raise SettingsError(
            f"ARBITREX_GATEWAY__HOST={gateway.host}: other machines could read everything, for there is no token; "
            "make one with: arbitrex token create NAME, or set ARBITREX_GATEWAY__OPEN=true"
        )
    return Access(file, public=public, may_be_open=gateway.open, now=now_ms)


class Gateway:
    """The application and what its handlers share; ``alive`` says whether Kafka is being followed."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        history: History,
        log_reader: LogReader,
        *,
        codec: Codec,
        alive: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._alive = alive
        self._door = Door(settings.gateway.host, settings.gateway.origins)
        self._access = access_of(settings)
        self._addresses = Addresses(settings.gateway.max_connections_per_address)
        self._sessions: set[Session] = set()
        replays = Replays(history, hub, Slots(settings.gateway.max_replays))
        self._around = Surroundings(
            hub, settings.gateway, settings.bars.timeframes, self._access, log_reader, replays, now_ms
        )
        self.app = web.Application(middlewares=[self._door.check, problems.errors, Reception(self._access).check])
        self.app.router.add_get("/v1/ws", self._websocket)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/ready", self._ready)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.add_routes(rest.Api(settings, hub.market, replays, codec, now_ms).routes())
        self.app.add_routes(Udf(settings, hub.market, history, now_ms).routes())
        self.app.add_routes(Assets().routes())
        self.app.cleanup_ctx.append(self._heartbeats)
        self.app.cleanup_ctx.append(self._conflation)
        self.app.on_shutdown.append(self._say_goodbye)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        wishes, compress = _wishes(request)
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            told = problems.problem(
                426, "this is a WebSocket: connect with ws:// in place of http://, wss:// of https://"
            )
            told.headers[hdrs.UPGRADE] = "websocket"
            return told
        if not self._addresses.enter(request.remote):
            return problems.problem(
                429, f"at most {self._settings.gateway.max_connections_per_address} connections each"
            )
        try:
            socket = Socket(self._settings.gateway.max_message_bytes, request.transport, compress=compress)
            await socket.prepare(request)
            session = Session(socket, self._around, wishes, request.get(GRANT))
            self._sessions.add(session)
            try:
                with metrics.CLIENTS.track_inprogress():
                    await session.run()
            finally:
                self._sessions.discard(session)
        finally:
            self._addresses.leave(request.remote)
        return socket

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        ready = self._alive()
        return web.json_response({"status": "ready" if ready else "not ready"}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _heartbeats(self, _: web.Application) -> AsyncIterator[None]:
        def beat() -> None:
            self._hub.heartbeat(now_ms())
            try:
                gone = [
                    each for each in self._sessions if each.grant is not None and not self._access.holds(each.grant)
                ]
            except SettingsError as error:  # a damaged file lets nobody in, and throws nobody out
                log.warning("tokens cannot be read", reason=str(error))
                return
            for session in gone:
                session.close(Code.AUTHENTICATION_FAILED, "the token was revoked, or has expired")

        async with _every(self._settings.gateway.heartbeat_seconds, beat):
            yield

    async def _conflation(self, _: web.Application) -> AsyncIterator[None]:
        async with _every(_CONFLATION_SECONDS, lambda: self._hub.conflated(time.monotonic())):
            yield

    async def _say_goodbye(self, _: web.Application) -> None:
        for session in self._sessions:
            session.close(WSCloseCode.GOING_AWAY, "the gateway is stopping")


@contextlib.asynccontextmanager
async def _every(seconds: float, action: Callable[[], None]) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            action()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _wishes(request: web.Request) -> tuple[Wishes, bool]:
    """What a client asks for in the address it connects to. Raises BadParameterError."""
    query = Query(request, *ENDPOINTS["/v1/ws"].parameters)
    codec = query.choice("codec", tuple(WIRES), "json")
    slow = Slow(query.choice("slow", tuple(Slow), Slow.CLOSE))
    return Wishes(WIRES[codec], slow), query.choice("compress", ("true", "false"), "false") == "true"


def now_ms() -> int:
    """UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000
