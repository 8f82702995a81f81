"""The clients: what they do about a gateway that asks for a token, and one that is killed under them.

tests/acceptance/gateway.py does the latter to twenty of the Python one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from gateway.client import Client, GatewayError
from gateway.past import order
from gateway.tokens import TokenFile
from infra import ports
from infra.settings import GatewaySettings
from schemas.codec import to_avro
from tests.gateway.conftest import Desk, happened, holds
from tests.gateway.market import START, FakeMarket
from tests.support import ROOT, Child, environment

NODE, NPM = shutil.which("node"), shutil.which("npm")

ENOUGH = 200
"""Rows after which a replay pauses, so that however slow the other client is, it does not arrive."""

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Node's ``ws`` and a program that uses it; skips where it cannot be had."""
    folder = tmp_path_factory.mktemp("ws")
    command = [str(NPM), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "ws@8"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot get ws: {done.stderr.strip().splitlines()[-1:]}")
    shutil.copy(ROOT / "tests" / "gateway" / "stranger.mjs", folder)
    return folder


async def test_a_gateway_that_asks_for_a_token(desk: Desk, tmp_path: Any) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    shown, token = file.create("bot", symbols=["EUR*"], channels=["ticks"], rate=None, expires=None, now=0)
    assert shown.rpartition("_")[2] not in file.path.read_text()
    gateway = GatewaySettings(port=0, heartbeat_seconds=0.2, tokens_file=file.path, max_replays=1)
    with Child(desk.settings.model_copy(update={"gateway": gateway}), "gateway") as child:
        url = child.ready["url"]
        async with Client(url, token=f"{shown}x") as stranger:
            with pytest.raises(GatewayError, match="401"):
                async for _ in stranger:
                    pass
        async with Client(url) as unknown:
            await unknown.subscribe("ticks", "EURUSD")
            async for message in unknown:
                if message.type == "error":
                    assert message.raw["code"] == 401
                    break
        await only_what_a_token_allows_is_played(url, shown)
        async with Client(url, token=shown) as bot:
            await bot.subscribe("ticks", "EURUSD", "XAUUSD", "*")
            await bot.subscribe("bars", "EURUSD")
            heard: list[tuple[str, Any]] = []

            async def listen() -> None:
                async for message in bot:
                    if message.type in {"snapshot", "error"} and message.channel in {"ticks", "bars"}:
                        heard.append((message.channel, message.raw.get("code")))
                        if len(heard) == 4:
                            file.revoke(token.id)

            with pytest.raises(GatewayError, match="revoked"):
                await listen()
            assert heard == [("ticks", None), ("ticks", 409), ("ticks", 409), ("bars", 409)]
            async with bot._http.get(f"{url}/v1/symbols") as response:
                assert response.status == 401


async def only_what_a_token_allows_is_played(url: str, token: str) -> None:
    """And no more replays than there may be."""
    headers = {"Authorization": f"Bearer {token}"}
    past = {"time": START, "symbol": "EURUSD", "paused": True}
    async with (
        aiohttp.ClientSession(url, headers=headers) as http,
        http.ws_connect("/v1/ws") as one,
        http.ws_connect("/v1/ws") as other,
    ):
        assert await answered(one, "seek", past) is None
        assert await answered(one, "seek", past | {"symbol": ["EURUSD", "XAUUSD"]}) == 409
        assert await answered(one, "seek", past | {"timeframe": "M1"}) == 409
        assert await answered(one, "pause") is None  # it is where it was
        assert await answered(other, "seek", past) == 419
        assert await answered(other, "pause") == 418
        assert await answered(one, "live") is None
        assert await answered(other, "seek", past) is None


async def answered(socket: aiohttp.ClientWebSocketResponse, method: str, params: Any = None) -> int | None:
    """The error with which a command is answered."""
    await socket.send_json({"method": method, "params": params, "req_id": 1})
    while (message := await socket.receive_json(timeout=20)).get("req_id") != 1:
        pass
    code: int | None = message.get("code")
    return code


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
async def test_the_javascript_client_comes_back_as_well(desk: Desk, eurusd: FakeMarket) -> None:
    gateway = GatewaySettings(port=ports.free_port(), heartbeat_seconds=1)
    settings = desk.settings.model_copy(update={"gateway": gateway})
    before = len(eurusd.ticks)
    command = [NODE, "--experimental-websocket", "--no-warnings", str(ROOT / "tests" / "gateway" / "client.mjs")]
    node = await asyncio.create_subprocess_exec(
        *map(str, command), f"ws://127.0.0.1:{gateway.port}/v1/ws", "", "40", stdout=asyncio.subprocess.PIPE
    )
    heard: list[dict[str, Any]] = []

    async def listen() -> None:
        assert node.stdout is not None
        while line := await node.stdout.readline():
            heard.append(json.loads(line))

    listening = asyncio.create_task(listen())
    try:
        with Child(settings, "gateway") as child:
            await holds(lambda: any(each.get("type") == "snapshot" for each in heard))
            await asyncio.to_thread(eurusd.publish, 20)
            await holds(lambda: sum(len(each["data"]) for each in heard if each.get("type") == "update") >= 20)
            child.kill()
        await asyncio.to_thread(eurusd.publish, 20)
        with Child(settings, "gateway"):
            await asyncio.wait_for(node.wait(), 60)
        await listening
    finally:
        if node.returncode is None:
            node.kill()
    got = [row for each in heard if each.get("type") == "update" for row in each["data"]]
    assert got == [to_avro(tick) for tick in eurusd.ticks[before:]]
    assert [each["type"] for each in heard if each.get("type") == "snapshot"] == ["snapshot"]


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
async def test_both_clients_go_on_in_the_past_where_they_were(
    desk: Desk, eurusd: FakeMarket, xauusd: FakeMarket
) -> None:
    gateway = GatewaySettings(port=ports.free_port(), heartbeat_seconds=1)
    settings = desk.settings.model_copy(update={"gateway": gateway})
    played = {"time": START, "symbol": ["EURUSD", "XAUUSD"], "timeframe": ["M1"], "speed": 2_000}
    script = str(ROOT / "tests" / "gateway" / "client.mjs")
    command = [NODE, "--experimental-websocket", "--no-warnings", script]
    node = await asyncio.create_subprocess_exec(
        *map(str, command), f"ws://127.0.0.1:{gateway.port}/v1/ws", "", "10", json.dumps(played),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    python, javascript = Told(), Told()
    async with Client(f"http://127.0.0.1:{gateway.port}") as client:
        await client.subscribe("ticks", "XAU*")
        await client.seek(START, "EURUSD", "XAUUSD", timeframes=["M1"], speed=2_000)
        listening = [asyncio.create_task(each) for each in (hear_node(node, javascript), hear(client, python))]
        try:
            with Child(settings, "gateway") as child:
                await holds(lambda: all(len(each.rows) > ENOUGH for each in (python, javascript)))
                child.kill()
            assert [python.live, javascript.live] == [False, False]
            await asyncio.to_thread(eurusd.correct, 10)  # behind the clock
            with Child(settings, "gateway"):
                await holds(lambda: python.live and javascript.live)
                await asyncio.to_thread(eurusd.publish, 10)
                wanted = happened(eurusd, xauusd, timeframes=("M1",), since=START)
                await holds(lambda: all(len(each.rows) >= len(wanted) for each in (python, javascript)))
                await holds(lambda: "snapshot" in python.kinds)
                await asyncio.wait_for(node.wait(), 60)
        finally:
            if node.returncode is None:
                node.kill()
            listening[1].cancel()
            await asyncio.gather(*listening, return_exceptions=True)
    assert [sorted(each.rows, key=order) == wanted for each in (python, javascript)] == [True, True]
    assert "snapshot" not in javascript.kinds


@dataclass
class Told:
    """What a client gave out."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    live: bool = False

    def take(self, kind: str, rows: list[dict[str, Any]]) -> None:
        self.kinds.add(kind)
        self.rows += rows if kind in {"replay", "update"} else []


async def hear_node(node: asyncio.subprocess.Process, told: Told) -> None:
    assert node.stdout is not None
    while line := await node.stdout.readline():
        heard = json.loads(line)
        assert "error" not in heard, heard
        told.live |= heard.get("replay", {}).get("state") == "live"
        told.take(heard.get("type", ""), heard.get("data", []))


async def hear(client: Client, told: Told) -> None:
    """As client.mjs does: pause, and go on as quickly as can be on the second connection."""
    connections = 0
    async for message in client:
        assert message.type not in {"error", "history_lost"}, message
        connections += message.type == "connected"
        if message.channel == "replay":
            told.live |= message.rows[0]["state"] == "live"
            if connections > 1 and message.rows[0]["speed"] != "max":
                await client.speed("max")
                await client.resume()
        elif message.channel in {"ticks", "bars"}:
            told.take(message.type, message.rows)
            if connections == 1 and len(told.rows) > ENOUGH:
                await client.pause()


async def test_a_stock_client_of_another_house(desk: Desk, eurusd: FakeMarket) -> None:
    async with websockets.connect(f"{desk.url.replace('http', 'ws')}/v1/ws?compress=true") as socket:
        await socket.send('{"method":"subscribe","params":{"channel":"ticks","symbol":"EUR*"}}')
        heard: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while not any(message.get("type") == "snapshot" and message["channel"] == "ticks" for message in heard):
                heard.append(json.loads(await socket.recv()))
        assert heard[-1]["data"] == [to_avro(eurusd.ticks[-1])]
        assert socket.protocol.extensions


@pytest.mark.skipif(NODE is None or NPM is None, reason="Node.js and npm are not installed")
@pytest.mark.parametrize("query", ["", "?compress=true"])
async def test_nodes_stock_client(desk: Desk, eurusd: FakeMarket, ws: Path, query: str) -> None:
    before = len(eurusd.ticks)
    url = f"{desk.url.replace('http', 'ws')}/v1/ws{query}"
    node = await asyncio.create_subprocess_exec(
        str(NODE), "stranger.mjs", url, "5", cwd=ws, stdout=asyncio.subprocess.PIPE
    )
    assert node.stdout is not None
    try:
        async with asyncio.timeout(30):
            snapshot = json.loads(await node.stdout.readline())
            await asyncio.to_thread(eurusd.publish, 5)
            lines = (await node.stdout.read()).splitlines()
            assert await node.wait() == 0
    finally:
        if node.returncode is None:
            node.kill()
    assert snapshot["rows"] == [to_avro(eurusd.ticks[before - 1])]
    assert snapshot["extensions"] == ("permessage-deflate" if query else "")
    assert [row for line in lines for row in json.loads(line)["rows"]] == list(map(to_avro, eurusd.ticks[before:]))


async def test_watch_prints_quotes(desk: Desk, eurusd: FakeMarket) -> None:
    command = [sys.executable, "-m", "infra.cli", "watch", "--once", "--url", desk.url]

    async def watch(*symbols: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *command, *symbols, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
            env=environment(desk.settings),
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    code, shown = await watch("EUR*", "NOPE")
    assert code == 0, shown
    assert f"{eurusd.ticks[-1].bid:.5f}" in shown
    assert "unknown symbol NOPE" in shown
