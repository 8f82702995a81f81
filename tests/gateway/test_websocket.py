"""The WebSocket of a real gateway process over a real topic log."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from infra.settings import GatewaySettings
from schemas.codec import to_avro
from tests.gateway.conftest import Connect, Desk, Talk
from tests.gateway.market import FakeMarket
from tests.support import Child

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


def rows(records: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [to_avro(record) | more for record in records]


async def published(market: FakeMarket, ticks: int = 1, step: int = 2_000) -> None:
    await asyncio.to_thread(market.publish, ticks, step)


async def test_ticks_come_once_and_in_order_after_the_newest_one(connect: Connect, eurusd: FakeMarket) -> None:
    talk = await connect()
    await talk.say("subscribe", {"channel": "ticks", "symbol": ["EURUSD"]}, req_id=1)
    answer = await talk.hear()
    assert answer["result"] == {"channel": "ticks", "symbol": "EURUSD", "snapshot": True}
    assert (answer["method"], answer["success"], answer["req_id"]) == ("subscribe", True, 1)
    assert answer["time_in"] <= answer["time_out"]
    snapshot = await talk.hear()
    assert (snapshot["channel"], snapshot["type"]) == ("ticks", "snapshot")
    assert snapshot["data"] == rows(eurusd.ticks[-1:])
    listed = await talk.hear()
    assert listed["result"] == [{"channel": "ticks", "symbol": "EURUSD"}]
    before = len(eurusd.ticks)
    for _ in range(5):
        await published(eurusd, 7)
    got: list[dict[str, Any]] = []
    while len(got) < 35:
        update = await talk.hear()
        assert (update["channel"], update["type"]) == ("ticks", "update")
        got += update["data"]
    assert got == rows(eurusd.ticks[before:])


async def test_closed_bars_are_the_last_hundred_and_then_each_new_one(connect: Connect, eurusd: FakeMarket) -> None:
    talk = await connect()
    await talk.say("subscribe", {"channel": "bars", "symbol": "EURUSD", "timeframe": ["M1", "H1"]})
    minutes = [bar for bar in eurusd.closed if bar.timeframe == "M1"]
    hours = [bar for bar in eurusd.closed if bar.timeframe == "H1"]
    assert len(minutes) > 100
    assert len(hours) >= 6
    assert (await talk.until(lambda message: message.get("type")))["data"] == rows(minutes[-100:], closed=True)
    assert (await talk.until(lambda message: message.get("type")))["data"] == rows(hours, closed=True)
    await talk.until(lambda message: message.get("method") == "subscriptions")
    before = len(eurusd.closed)
    await published(eurusd, 10, step=20_000)
    new = [bar for bar in eurusd.closed[before:] if bar.timeframe == "M1"]
    got: list[dict[str, Any]] = []
    while len(got) < len(new):
        got += (await talk.hear())["data"]
    assert got == rows(new, closed=True)


async def test_a_revised_bar_takes_the_place_of_the_one_before(connect: Connect, eurusd: FakeMarket) -> None:
    old = eurusd.closed[-1]
    revised = replace(old, high=old.high + 0.001, revision=1)
    talk = await connect()
    params = {"channel": "bars", "symbol": "EURUSD", "timeframe": old.timeframe}
    await talk.say("subscribe", params)
    await talk.until(lambda message: message.get("method") == "subscriptions")
    await asyncio.to_thread(eurusd.write, "bars", [eurusd.bar(revised)])
    assert (await talk.hear())["data"] == rows([revised], closed=True)
    await talk.say("subscribe", params)
    snapshot = await talk.until(lambda message: message.get("type") == "snapshot")
    assert [row for row in snapshot["data"] if row["ts_open"] == old.ts_open] == rows([revised], closed=True)


async def test_open_bars_of_every_timeframe(connect: Connect, eurusd: FakeMarket) -> None:
    talk = await connect()
    await talk.say("subscribe", {"channel": "bars.live", "symbol": "EURUSD"})
    snapshot = await talk.until(lambda message: message.get("type") == "snapshot")
    assert snapshot["data"] == rows(list(eurusd.open.values()), closed=False)
    await talk.hear()
    await published(eurusd)
    assert (await talk.hear())["data"] == rows(list(eurusd.open.values()), closed=False)


async def test_a_star_follows_all_symbols_and_nothing_comes_twice(
    connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket
) -> None:
    talk = await connect()
    await talk.say("subscribe", {"channel": "ticks", "symbol": ["*", "EURUSD"], "snapshot": False})
    listed = await talk.until(lambda message: message.get("method") == "subscriptions")
    assert listed["result"] == [{"channel": "ticks", "symbol": "*"}, {"channel": "ticks", "symbol": "EURUSD"}]
    await published(eurusd)
    assert (await talk.hear())["data"] == rows(eurusd.ticks[-1:])
    await published(xauusd)
    assert (await talk.hear())["data"] == rows(xauusd.ticks[-1:])


async def test_what_is_given_up_comes_no_more(connect: Connect, eurusd: FakeMarket) -> None:
    talk = await connect()
    await talk.say("subscribe", {"channel": "ticks", "symbol": "EURUSD"})
    await talk.say("subscribe", {"channel": "bars.live", "symbol": "EURUSD", "timeframe": "M1", "snapshot": False})
    await talk.say("unsubscribe", {"channel": "ticks", "symbol": ["EURUSD", "XAUUSD"]}, req_id=9)
    answers = [await talk.until(lambda message: message.get("req_id") == 9) for _ in range(3)]
    assert [answer["success"] for answer in answers] == [True, False, True]
    assert answers[1]["code"] == 415
    assert answers[2]["result"] == [{"channel": "bars.live", "symbol": "EURUSD", "timeframe": "M1"}]
    await published(eurusd)
    assert (await talk.hear())["channel"] == "bars.live"


async def test_events_of_a_symbol_and_of_its_feed(connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket) -> None:
    talk = await connect()
    await talk.say("subscribe", {"channel": "events", "symbol": "EURUSD"})
    await talk.until(lambda message: message.get("method") == "subscriptions")
    assert talk.heard[2]["data"] == []
    xauusd.write("feed.events", [xauusd.event("of another symbol")])
    eurusd.write("feed.events", [eurusd.event("of this one"), eurusd.feed_event("of the feed")])
    told: list[str] = []
    while len(told) < 2:
        told += [row["text"] for row in (await talk.hear())["data"]]
    assert told == ["of this one", "of the feed"]
    await talk.say("subscribe", {"channel": "events"})
    snapshot = await talk.until(lambda message: message.get("type") == "snapshot")
    assert sorted(row["text"] for row in snapshot["data"]) == ["of another symbol", "of the feed", "of this one"]


async def test_ping_list_and_heartbeats(connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket) -> None:
    talk = await connect()
    await talk.say("ping", req_id="p")
    pong = await talk.hear()
    assert (pong["method"], pong["req_id"]) == ("pong", "p")
    await talk.say("subscriptions", req_id=2)
    assert (await talk.hear())["result"] == []
    while (beat := await talk.socket.receive_json(timeout=20)).get("channel") != "heartbeat":
        pass
    newest = beat["data"][0]["newest"]
    assert newest["ticks"] == newest["bars.live"] == max(eurusd.time, xauusd.time)
    assert newest["bars"] == max(bar.ts_close for bar in eurusd.closed)
    assert newest["events"] in (None, eurusd.time)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not JSON", 400),
        ("[" * 60_000, 400),
        ('{"method":"ping","req_id":' + "9" * 5_000 + "}", 400),
        ('{"method":"buy"}', 411),
        ('{"method":"subscribe","params":{"channel":"trades","symbol":"EURUSD"}}', 410),
        ('{"method":"subscribe","params":{"channel":"bars","symbol":"EURUSD","timeframe":"M7"}}', 414),
        ('{"method":"subscribe","params":{"channel":"ticks","symbol":"NOPE"}}', 412),
    ],
)
async def test_rubbish_is_answered_and_the_connection_lives(connect: Connect, text: str, code: int) -> None:
    talk = await connect()
    await talk.socket.send_str(text)
    answer = await talk.hear()
    assert (answer["success"], answer["code"]) == (False, code)
    await talk.say("ping", req_id=1)
    assert (await talk.until(lambda message: message.get("req_id") == 1))["method"] == "pong"


async def test_binary_rubbish_is_answered_and_the_connection_lives(connect: Connect) -> None:
    talk = await connect()
    await talk.socket.send_bytes(bytes(range(256)))
    assert (await talk.hear())["code"] == 400
    await talk.say("ping")
    assert (await talk.hear())["method"] == "pong"


async def test_ten_megabytes_close_the_connection_with_a_reason(connect: Connect) -> None:
    talk = await connect()
    await talk.socket.send_str('{"method":"' + "x" * 10_000_000 + '"}')
    code, reason = await talk.closed()
    assert code == 1009
    assert reason == "413: a message has at most 65536 bytes"


async def test_text_that_is_not_utf8_closes_the_connection(connect: Connect) -> None:
    talk = await connect()
    await talk.socket.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
    assert (await talk.closed())[0] == 1007


async def test_pages_of_other_origins_are_kept_out(http: aiohttp.ClientSession, connect: Connect) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(Origin="https://elsewhere.example")
    assert refused.value.status == 403
    async with http.get("/v1/symbols", headers={"Host": "rebound.example"}) as response:
        assert response.status == 403
    own = await connect(Origin=str(http._base_url).rstrip("/"))
    await own.say("ping")
    assert (await own.hear())["method"] == "pong"


@pytest.fixture
async def narrow(desk: Desk) -> AsyncIterator[tuple[Child, aiohttp.ClientSession]]:
    """A gateway with little patience."""
    limits = GatewaySettings(
        port=0, max_connections=2, max_subscriptions=2, max_messages_per_second=5, queue_messages=10,
        queue_bytes=65_536, origins=("https://desk.example",), heartbeat_seconds=60,
    )  # fmt: skip
    with Child(desk.settings.model_copy(update={"gateway": limits}), "gateway") as child:
        async with aiohttp.ClientSession(child.ready["url"]) as session:
            yield child, session


async def test_limits_are_told_by_number(narrow: tuple[Child, aiohttp.ClientSession], eurusd: FakeMarket) -> None:
    _, http = narrow
    first = Talk(await http.ws_connect("/v1/ws", headers={"Origin": "https://desk.example"}), http)
    await first.say("subscribe", {"channel": "bars", "symbol": "EURUSD", "timeframe": ["M1", "M5", "H1"]})
    answers = [await first.until(lambda message: message.get("method") == "subscribe") for _ in range(3)]
    assert [answer.get("code") for answer in answers] == [None, None, 405]
    assert answers[2]["timeframe"] == "H1"

    second = Talk(await http.ws_connect("/v1/ws"), http)
    third = Talk(await http.ws_connect("/v1/ws"), http)
    assert (await third.hear())["code"] == 406
    assert await third.closed() == (4406, "at most 2 connections")

    for _ in range(80):
        await second.say("ping")
    assert (await second.until(lambda message: message.get("code")))["code"] == 429
    assert await second.closed() == (4429, "at most 5 messages a second")

    await published(eurusd, 4, step=20_000)
    assert (await first.until(lambda message: message.get("type") == "update"))["channel"] == "bars"


async def test_a_client_that_does_not_read_is_closed_and_counted(
    narrow: tuple[Child, aiohttp.ClientSession], eurusd: FakeMarket
) -> None:
    _, http = narrow
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_024)  # or the kernel takes megabytes for it
    deaf.connect((http._base_url.host, http._base_url.port))  # type: ignore[union-attr]
    reader, writer = await asyncio.open_connection(sock=deaf, limit=1_024)
    writer.write(
        b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n")
    asked = json.dumps({"method": "subscribe", "params": {"channel": "ticks", "symbol": "*"}}).encode()
    writer.write(bytes([0x81, 0x80 | len(asked), 0, 0, 0, 0]) + asked)

    async def metrics() -> str:
        async with http.get("/metrics") as response:
            return await response.text()

    try:
        async with asyncio.timeout(120):
            while 'arbitrex_gateway_slow_clients_total{action="close"} 1.0' not in await metrics():
                await published(eurusd, 8_000, step=1)
            while "arbitrex_gateway_clients 0.0" not in await metrics():
                await published(eurusd)
    finally:
        writer.transport.abort()


async def test_a_stopping_gateway_says_goodbye(desk: Desk) -> None:
    with Child(desk.settings, "gateway") as child:
        async with aiohttp.ClientSession(child.ready["url"]) as http:
            talk = Talk(await http.ws_connect("/v1/ws"), http)
            await talk.say("ping")
            await talk.hear()
            assert child.process.stdin is not None
            child.process.stdin.close()
            assert await talk.closed() == (1001, "the gateway is stopping")
            await talk.socket.close()
        assert await asyncio.to_thread(child.process.wait, 10) == 0
