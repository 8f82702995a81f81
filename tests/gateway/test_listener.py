"""The listening socket: who takes too long to ask for anything, and what its address is called."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from aiohttp import web

from gateway import listener
from gateway.listener import Listener
from infra import ports
from infra.settings import GatewaySettings, Settings
from infra.supervisor.assembly import assemble


async def test_who_sends_a_request_byte_by_byte_is_cut_off_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_FIRST_REQUEST_SECONDS", 0.3)
    app = web.Application()
    app.router.add_get("/", _answer)
    serving = Listener(GatewaySettings(port=0), app)
    port = int((await serving.start()).rpartition(":")[2])
    try:
        slow, slowly = await asyncio.open_connection("127.0.0.1", port)
        quick, quickly = await asyncio.open_connection("127.0.0.1", port)
        quickly.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await quick.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

        async def trickle() -> None:
            for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000:
                slowly.write(bytes([byte]))
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await slow.read() == b""
        trickling.cancel()
        quickly.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await quick.readuntil(b"\r\n\r\n")).count(b"200")
        for writer in (slowly, quickly):
            writer.transport.abort()
    finally:
        await serving.close()


async def _answer(_: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    ("host", "tls", "expected"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:8080"),
        ("0.0.0.0", True, "https://127.0.0.1:8080"),  # noqa: S104 - a name, not bound
        ("::1", True, "https://[::1]:8080"),
        ("desk.example", False, "http://desk.example:8080"),
    ],
)
def test_an_address_can_be_opened_as_it_is_told(host: str, expected: str, *, tls: bool) -> None:
    assert ports.url(host, 8080, tls=tls) == expected


def test_up_names_its_page_by_https_where_it_has_a_certificate(tmp_path: Path) -> None:
    gateway = GatewaySettings(port=0, tls_certificate=tmp_path / "chain.pem", tls_key=tmp_path / "key.pem")
    assert assemble(Settings(home=tmp_path, gateway=gateway), "kafka-1:9092").page.startswith("https://127.0.0.1:")
