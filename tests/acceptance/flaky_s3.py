"""A proxy before an S3 server that fails as such servers do: refuses, and answers get lost after the work was done."""

from __future__ import annotations

import asyncio
import random
import threading
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from infra.ports import free_port

_DROPPED = {"host", "content-length", "transfer-encoding", "content-encoding", "connection"}


class FlakyS3:
    """Forwards to ``target``; while ``failing`` is set, a part of the requests fails."""

    def __init__(self, target: str, seed: int) -> None:
        self._target = target
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.failing = threading.Event()
        self.refused = self.lost = self.requests = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", int(self.url.rpartition(":")[2])).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fate = self._chance.random() if self.failing.is_set() else 1.0
        if fate < 0.2:
            self.refused += 1
            return web.Response(status=503, text="SlowDown")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _DROPPED}
        body = await request.read()
        async with self._session.request(
            request.method, f"{self._target}{request.raw_path}", headers=headers, data=body, allow_redirects=False
        ) as answer:
            found = await answer.read()
            if fate < 0.35:
                self.lost += 1
                if request.transport is not None:  # who asked may be gone already
                    request.transport.close()
                return web.Response(status=500)
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
            if request.method == "HEAD":
                head = web.StreamResponse(status=answer.status, headers=kept)
                head.content_length = int(answer.headers.get("Content-Length", 0))
                await head.prepare(request)
                return head
            return web.Response(status=answer.status, headers=kept, body=found)
