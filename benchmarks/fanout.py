"""How many frames a second the gateway gives to its clients, beside what a bare broadcast of the same bytes reaches.

    python -m benchmarks.fanout --clients 100 --seconds 5 --rounds 3
    python -m benchmarks.fanout --idle 5000

Each server is one process of its own, as fast as its clients take it; the clients are another, which only counts
bytes. A frame holds 20 ticks. ``aiohttp`` is the ceiling: one ``send_frame`` for each client; ``websockets`` a peer.
Shares are of the ceiling in the same round, in frames a second and in the server's CPU time for a frame, which is
firmer where other programs run; the gateway's includes the encoding. What is printed is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, NamedTuple, cast

import orjson
import ormsgpack
import psutil
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast, serve

from gateway.app import Gateway
from gateway.hub import Hub
from gateway.market import Market, Update
from gateway.wire import WIRES
from infra.settings import GatewaySettings, Settings

ROWS = 20
_UPGRADE = (
    "GET /v1/ws?codec={codec} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_AHEAD = 65_536
_SETTLE_SECONDS = 1.0


def rows() -> list[dict[str, Any]]:
    """What a frame holds."""
    start = 1_763_888_400_000
    return [
        {
            "symbol": "EURUSD", "ts_event": start + number, "ordinal": 0, "bid": 1.08543 + number / 1e5,
            "ask": 1.08551 + number / 1e5, "last": 0.0, "volume": 0.0, "flags": 6, "feed": "bench",
            "server_time": start + number + 7_200_000, "ts_recv": (start + number) * 1_000, "correction": False,
        }
        for number in range(ROWS)
    ]  # fmt: skip


Step = Callable[[], Awaitable[None]]
"""Give everybody one frame."""


async def serve_gateway(_codec: str) -> tuple[int, Step]:
    limits = GatewaySettings(port=0, max_connections=100_000, heartbeat_seconds=3_600)
    hub = Hub(Market())
    nothing: Any = None
    settings = Settings(gateway=limits)
    gateway = Gateway(settings, hub, nothing, nothing, codec=nothing, alive=lambda: True)
    new = rows()
    hub.market.take(Update(ticks={"EURUSD": new}))
    port = await _listen(gateway.app)

    async def step() -> None:
        hub.apply(Update(ticks={"EURUSD": new}))
        await asyncio.sleep(0)
        await _until(lambda: not any(session._outbox._queue for session in gateway._sessions))  # noqa: SLF001

    return port, step


async def serve_aiohttp(codec: str) -> tuple[int, Step]:
    connected: set[web.WebSocketResponse] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        connected.add(socket)
        async for _ in socket:
            pass
        connected.discard(socket)
        return socket

    app = web.Application()
    app.router.add_get("/v1/ws", handler)
    port = await _listen(app)
    body = _body(codec)

    async def step() -> None:
        for socket in connected:
            await socket.send_frame(body, WIRES[codec].frame_type)
        await asyncio.sleep(0)

    return port, step


async def serve_websockets(codec: str) -> tuple[int, Step]:
    connected: set[ServerConnection] = set()

    async def handler(socket: ServerConnection) -> None:
        connected.add(socket)
        await socket.wait_closed()
        connected.discard(socket)

    server = await serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None)
    body = _body(codec)
    message = body.decode() if codec == "json" else body

    async def step() -> None:
        broadcast(connected, message)
        await asyncio.sleep(0)
        await _until(lambda: all(cast("Any", each.transport).get_write_buffer_size() <= _AHEAD for each in connected))

    return next(iter(server.sockets)).getsockname()[1], step


SERVERS = {"aiohttp": serve_aiohttp, "gateway": serve_gateway, "websockets": serve_websockets}


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a turn of the loop is what is measured
        await asyncio.sleep(0)


async def _listen(app: web.Application) -> int:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


def _body(codec: str) -> bytes:
    wire = WIRES[codec]
    fields = {"channel": "ticks", "type": "update", "cursor": "ticks~1f4a.lx3k9f0a"}
    return wire.batch(fields, ROWS, [wire.rows(rows())]).message(wire.number(1_000))


def server(kind: str, codec: str, pipe: Connection) -> None:
    """The server's process: tells its port, and when told so serves for some seconds."""

    async def run() -> None:
        port, step = await SERVERS[kind](codec)
        pipe.send(port)
        while (seconds := await asyncio.to_thread(pipe.recv)) is not None:
            start, used = time.perf_counter(), time.process_time()
            frames = 0
            while time.perf_counter() - start < seconds:
                await step()
                frames += 1
            pipe.send((frames, time.perf_counter() - start, time.process_time() - used))

    _more_files()
    asyncio.run(run())


class Reader(asyncio.Protocol):
    """A client that counts bytes."""

    total = 0

    def __init__(self, codec: str, *, follow: str = "") -> None:
        self._codec, self._follow = codec, follow
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_UPGRADE.format(codec=self._codec).encode())

    def data_received(self, data: bytes) -> None:
        Reader.total += len(data)
        if not self.open.done():
            self.open.set_result(None)
            if self._follow:
                wanted = {
                    "method": "subscribe",
                    "params": {"channel": "ticks", "symbol": self._follow, "snapshot": False},
                }
                text = orjson.dumps(wanted) if self._codec == "json" else ormsgpack.packb(wanted)
                opcode = 0x81 if self._codec == "json" else 0x82
                self._transport.write(bytes([opcode, 0x80 | len(text), 0, 0, 0, 0]) + text)


def readers(count: int, codec: str, port: int, pipe: Connection, *, follow: str) -> None:
    """The clients' process: says when all are connected, and how many bytes have come when asked."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, protocol = await loop.create_connection(lambda: Reader(codec, follow=follow), "127.0.0.1", port)
            await protocol.open
        await asyncio.sleep(_SETTLE_SECONDS)
        pipe.send("connected")
        while await asyncio.to_thread(pipe.recv) is not None:
            pipe.send(Reader.total)

    _more_files()
    asyncio.run(run())


def _more_files() -> None:
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


class Reached(NamedTuple):
    """What one server did."""

    frames: float
    """A second, to all clients together."""
    megabytes: float
    """A second."""
    cpu: float
    """Of the server, microseconds a frame."""


def measure(kind: str, codec: str, clients: int, seconds: float) -> Reached:
    """One server alone, for some seconds."""
    context = multiprocessing.get_context("spawn")
    (ours, theirs), (here, there) = context.Pipe(), context.Pipe()
    serving = context.Process(target=server, args=(kind, codec, theirs), daemon=True)
    serving.start()
    port = ours.recv()
    reading = context.Process(
        target=readers,
        args=(clients, codec, port, there),
        kwargs={"follow": "EURUSD" if kind == "gateway" else ""},
        daemon=True,
    )
    reading.start()
    here.recv()
    here.send("total")
    before = here.recv()
    ours.send(seconds)
    frames, passed, cpu = ours.recv()
    here.send("total")
    total = here.recv() - before
    for process in (reading, serving):
        process.kill()
        process.join()
    sent = frames * clients
    return Reached(sent / passed, total / passed / 1e6, cpu / sent * 1e6)


def idle(clients: int) -> None:
    """Memory of connections that nothing is said on."""
    context = multiprocessing.get_context("spawn")
    (ours, theirs), (here, there) = context.Pipe(), context.Pipe()
    serving = context.Process(target=server, args=("gateway", "json", theirs), daemon=True)
    serving.start()
    port = ours.recv()
    process = psutil.Process(serving.pid)
    before = process.memory_info().rss
    reading = context.Process(target=readers, args=(clients, "json", port, there), kwargs={"follow": ""}, daemon=True)
    start = time.perf_counter()
    reading.start()
    here.recv()
    grown = process.memory_info().rss - before
    opened = time.perf_counter() - start
    print(f"{clients:,} idle connections: {grown / clients / 1024:.1f} KiB each, open after {opened:.1f} s")
    for each in (reading, serving):
        each.kill()
        each.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, metavar="CONNECTIONS", help="instead: the memory of idle connections")
    chosen = parser.parse_args()
    if chosen.idle:
        idle(chosen.idle)
        return
    for codec in WIRES:
        rounds = [
            {kind: measure(kind, codec, chosen.clients, chosen.seconds) for kind in SERVERS}
            for _ in range(chosen.rounds)
        ]
        for kind in SERVERS:
            found = Reached(*(median(each[kind][place] for each in rounds) for place in range(len(Reached._fields))))
            shares = [each[kind].frames / each["aiohttp"].frames for each in rounds]
            cheaper = median(each["aiohttp"].cpu / each[kind].cpu for each in rounds)
            print(
                f"{codec:8} {kind:10} {found.frames:10,.0f} frames/s, {found.frames * ROWS / 1e6:.2f} million ticks/s, "
                f"{found.megabytes:,.0f} MB/s: {median(shares):.0%} of the ceiling ({min(shares):.0%} to "
                f"{max(shares):.0%}); CPU {found.cpu:.2f} us a frame, {cheaper:.0%}"
            )


if __name__ == "__main__":
    main()
