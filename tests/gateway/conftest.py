"""A gateway on a world of its own, and clients of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jsonschema
import pytest

from gateway.asyncapi import answers
from gateway.past import order
from infra import kafka as clients
from infra import provision
from infra.registry import client as registry
from infra.settings import GatewaySettings, KafkaSettings, RegistrySettings, Settings
from schemas.codec import to_avro
from schemas.registry import Registry
from tests.gateway.market import FakeMarket
from tests.support import Child

Connect = Callable[..., Awaitable["Talk"]]


@dataclass
class Talk:
    """A client's side of a connection, keeping all it is told."""

    socket: aiohttp.ClientWebSocketResponse
    http: aiohttp.ClientSession
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def say(self, method: str, params: Any = None, **more: Any) -> None:
        await self.socket.send_json({"method": method, "params": params, **more})

    async def hear(self) -> dict[str, Any]:
        """The next message but heartbeats and the feeds' state; checks that ``seq`` has no hole."""
        while True:
            message: dict[str, Any] = await self.socket.receive_json(timeout=20)
            assert message["seq"] == len(self.heard) + 1
            described(message)
            self.heard.append(message)
            if message.get("channel") not in {"heartbeat", "status"}:
                return message

    async def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        while not wanted(message := await self.hear()):
            pass
        return message

    async def closed(self) -> tuple[int, str | None]:
        """Wait for the end; the close code and reason."""
        while True:
            message = await self.socket.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra
            assert message.type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR), message


@dataclass(frozen=True)
class Desk:
    """A world with two symbols in it, and a gateway that serves it to all tests of a module."""

    settings: Settings
    eurusd: FakeMarket
    xauusd: FakeMarket
    url: str


@pytest.fixture(scope="module")
def desk(kafka: KafkaSettings, registry_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Six hours of EURUSD and some XAUUSD, one tick each twenty seconds; the world keeps old ticks."""
    settings = Settings(
        world=f"t-{uuid.uuid4().hex[:12]}",
        home=tmp_path_factory.mktemp("desk"),
        kafka=kafka,
        registry=RegistrySettings(url=registry_url),
        gateway=GatewaySettings(port=0, heartbeat_seconds=1),
    )
    provision.apply(settings, historical=True)
    codec = registry.connect(settings)
    eurusd = FakeMarket(settings, codec, "EURUSD", 1.085)
    xauusd = FakeMarket(settings, codec, "XAUUSD", 2_390.0, digits=2)
    eurusd.introduce()
    xauusd.introduce()
    eurusd.publish(1_095, step=20_000)
    xauusd.publish(50, step=20_000)
    with Child(settings, "gateway") as child:
        yield Desk(settings, eurusd, xauusd, child.ready["url"])
    assert isinstance(codec._store, Registry)
    codec._store.close()
    admin = clients.admin(kafka)
    for future in admin.delete_topics(provision.world_topics(settings)).values():
        future.result(10)


@pytest.fixture
def eurusd(desk: Desk) -> FakeMarket:
    return desk.eurusd


@pytest.fixture
def xauusd(desk: Desk) -> FakeMarket:
    return desk.xauusd


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a gateway that has read all there is."""
    async with aiohttp.ClientSession(desk.url) as session:
        for market in (desk.eurusd, desk.xauusd):
            await settled(session, market)
        yield session


async def settled(http: aiohttp.ClientSession, market: FakeMarket) -> None:
    """Wait until the gateway knows the market's newest tick, open bars and closed minute."""
    newest = max(bar.ts_open for bar in market.closed if bar.timeframe == "M1")
    async with asyncio.timeout(60):
        while True:
            latest = await body(http, "latest", symbol=market.symbol)
            known = [latest["tick"]["ts_event"], *(bar["last_tick_ts"] for bar in latest["bars"])]
            bars = (await body(http, "bars", symbol=market.symbol, timeframe="M1", limit="1"))["bars"]
            if set(known) == {market.time} and bars and bars[0]["ts_open"] == newest:
                return


_DESCRIBED = jsonschema.Draft202012Validator({"oneOf": list(answers().values())})


def described(message: dict[str, Any]) -> None:
    """Whether a message of the gateway is just one of those that its AsyncAPI description has."""
    if not _DESCRIBED.is_valid(message):
        shown = jsonschema.exceptions.best_match(_DESCRIBED.iter_errors(message))
        raise AssertionError(f"{message}: {shown}")


def rows_of(records: list[Any], **more: Any) -> list[dict[str, Any]]:
    """Records as clients see them."""
    return [to_avro(record) | more for record in records]


def happened(*markets: FakeMarket, timeframes: tuple[str, ...] = (), since: int = 0, to: int = 2**60) -> list[Any]:
    """What a replay should tell, in order."""
    ticks = [tick for market in markets for tick in market.ticks if since <= tick.ts_event < to]
    bars = [bar for market in markets for bar in market.closed if bar.timeframe in timeframes]
    inside = [bar for bar in bars if since <= bar.ts_close < to]
    return sorted(rows_of(ticks) + rows_of(inside, closed=True), key=order)


async def holds(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of events
            await asyncio.sleep(0.02)


async def body(http: aiohttp.ClientSession, path: str, **query: str) -> dict[str, Any]:
    """The answer to a REST request that succeeds."""
    async with http.get(f"/v1/{path}", params=query) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


@pytest.fixture
async def connect(http: aiohttp.ClientSession) -> AsyncIterator[Connect]:
    """Opens connections, closed at the end."""
    opened: list[aiohttp.ClientWebSocketResponse] = []

    async def open_one(query: str = "", **headers: str) -> Talk:
        socket = await http.ws_connect(f"/v1/ws{query}", headers=headers, max_msg_size=0)
        opened.append(socket)
        return Talk(socket, http)

    yield open_one
    for socket in opened:
        await socket.close()
