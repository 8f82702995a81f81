"""Coming back with a cursor: nothing is missed and nothing comes twice, whatever happened meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import ormsgpack
import pytest

from gateway.cursor import Cursor
from infra import kafka as clients
from infra.worlds import World
from schemas.codec import to_avro
from tests.gateway.conftest import Connect, Desk, Talk, settled
from tests.gateway.market import FakeMarket
from tests.support import Child

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


def rows(records: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [to_avro(record) | more for record in records]


async def heard_until(talk: Talk, kind: str) -> list[dict[str, Any]]:
    """The rows told before a message of a type, which is the last one heard."""
    found: list[dict[str, Any]] = []
    while (message := await talk.hear()).get("type") != kind:
        found += message.get("data", [])
    return found


async def cursor_of(talk: Talk, channel: str) -> str:
    await talk.say("subscribe", {"channel": channel, "symbol": "*"})
    found = await talk.until(lambda message: message.get("type") == "snapshot")
    await talk.until(lambda message: message.get("method") == "subscriptions")
    cursor: str = found["cursor"]
    return cursor


async def test_a_cursor_continues_exactly_at_another_gateway(
    connect: Connect, desk: Desk, eurusd: FakeMarket, xauusd: FakeMarket
) -> None:
    first = await connect()
    cursor = await cursor_of(first, "ticks")
    before = len(eurusd.ticks)
    await asyncio.to_thread(eurusd.publish, 30)
    await asyncio.to_thread(xauusd.publish, 30)
    got: list[dict[str, Any]] = []
    while not any(row["symbol"] == "EURUSD" for row in got):
        message = await first.hear()
        got += message["data"]
        cursor = message["cursor"]
    seen = [row for row in got if row["symbol"] == "EURUSD"]
    await first.socket.close()
    await asyncio.to_thread(eurusd.publish, 40)
    with Child(desk.settings, "gateway") as other:  # it has not seen that cursor, nor what was between
        talk = Talk(await first.http.ws_connect(f"{other.ready['url']}/v1/ws"), first.http)
        await resumed(talk, cursor, eurusd, before, seen)
        await talk.socket.close()


async def resumed(talk: Talk, cursor: str, market: FakeMarket, before: int, seen: list[dict[str, Any]]) -> None:
    params = {"channel": "ticks", "symbol": "EUR*", "cursor": cursor}
    await talk.say("subscribe", params)
    assert (await talk.hear())["result"] == {
        "channel": "ticks", "symbol": "EUR*", "snapshot": False, "resumed": True
    }  # fmt: skip
    missed = await heard_until(talk, "resumed")
    await talk.until(lambda message: message.get("method") == "subscriptions" and message["result"])
    assert seen + missed == rows(market.ticks[before:])
    await asyncio.to_thread(market.publish, 3)
    live: list[dict[str, Any]] = []
    while len(live) < 3:
        live += (await talk.hear())["data"]
    assert live == rows(market.ticks[-3:])


async def test_bars_of_unlike_series_continue(connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket) -> None:
    first = await connect()
    cursor = await cursor_of(first, "bars")
    before = {market.symbol: len(market.closed) for market in (eurusd, xauusd)}
    await asyncio.to_thread(eurusd.publish, 50, 20_000)
    await asyncio.to_thread(xauusd.publish, 50, 20_000)
    for market in (eurusd, xauusd):
        await settled(first.http, market)
    talk = await connect()
    series = [["EURUSD", "M1"], ["XAUUSD", "M5"]]
    await talk.say("subscribe", {"channel": "bars", "series": series, "cursor": cursor})
    missed = await heard_until(talk, "resumed")
    for market, timeframe in ((eurusd, "M1"), (xauusd, "M5")):
        made = [bar for bar in market.closed[before[market.symbol] :] if bar.timeframe == timeframe]
        assert made
        assert [row for row in missed if row["symbol"] == market.symbol] == rows(made, closed=True)
    assert {(row["symbol"], row["timeframe"]) for row in missed} == {("EURUSD", "M1"), ("XAUUSD", "M5")}


async def test_what_is_lost_is_told(connect: Connect, desk: Desk, eurusd: FakeMarket) -> None:
    first = await connect()
    cursor = Cursor.parse(await cursor_of(first, "ticks"))
    number = clients.partition_for("EURUSD", len(cursor.places))
    place = cursor.places[number]
    assert place.time is not None
    other_log = cursor.moved({number: place._replace(next=place.next - 5, time=place.time - 1)})
    beyond = cursor.moved({number: place._replace(next=10**9)})
    for strange in (other_log, beyond, Cursor("ticks", cursor.places[:1])):
        talk = await connect()
        await talk.say("subscribe", {"channel": "ticks", "symbol": "EURUSD", "cursor": str(strange)})
        lost = await talk.until(lambda message: message.get("type") == "history_lost")
        assert lost["data"][0]["reason"] == "log_replaced"
        assert await heard_until(talk, "resumed") == []
    early = cursor.moved({number: place._replace(next=3, time=eurusd.ticks[2].ts_event)})
    admin = clients.admin(desk.settings.kafka)
    topic = World(desk.settings.world).topic("ticks.clean")
    if desk.settings.kafka.embedded:
        return  # it has no DeleteRecords
    from confluent_kafka import TopicPartition

    for future in admin.delete_records([TopicPartition(topic, number, 10)]).values():
        future.result(10)
    talk = await connect()
    await talk.say("subscribe", {"channel": "ticks", "symbol": "EURUSD", "cursor": str(early)})
    lost = await talk.until(lambda message: message.get("type") == "history_lost")
    about = {"partition": number, "reason": "retention", "from": eurusd.ticks[2].ts_event}
    assert lost["data"] == [about | {"to": eurusd.ticks[10].ts_event, "records": 7}]
    assert await heard_until(talk, "resumed") == rows(eurusd.ticks[10:])


async def test_while_a_channel_catches_up_or_is_followed_a_cursor_is_refused(connect: Connect) -> None:
    talk = await connect()
    cursor = await cursor_of(talk, "ticks")
    await talk.say("subscribe", {"channel": "ticks", "symbol": "EURUSD", "cursor": cursor})
    refused = await talk.until(lambda message: message.get("code"))
    assert (refused["code"], "first subscription" in refused["error"]) == (400, True)


async def test_messagepack_says_what_json_says(connect: Connect, eurusd: FakeMarket) -> None:
    packed = (await connect("?codec=msgpack")).socket
    await packed.send_bytes(
        ormsgpack.packb({"method": "subscribe", "params": {"channel": "ticks", "symbol": "EURUSD"}, "req_id": 1})
    )
    heard: list[dict[str, Any]] = []

    async def hear(wanted: str) -> dict[str, Any]:
        while True:
            message = ormsgpack.unpackb(await packed.receive_bytes(timeout=20))
            heard.append(message)
            assert message["seq"] == len(heard)
            if message.get("channel") == "ticks" and message["type"] == wanted:
                return dict(message)

    assert (await hear("snapshot"))["data"] == rows(eurusd.ticks[-1:])
    await asyncio.to_thread(eurusd.publish, 1)
    assert (await hear("update"))["data"] == rows(eurusd.ticks[-1:])
    await packed.send_bytes(b"\xc1")
    while "code" not in (message := ormsgpack.unpackb(await packed.receive_bytes(timeout=20))):
        pass
    assert message["code"] == 400


async def test_a_conflated_subscription_tells_the_newest_and_how_many(connect: Connect, eurusd: FakeMarket) -> None:
    talk = await connect()
    params = {"channel": "ticks", "symbol": "EURUSD", "interval": 300, "snapshot": False}
    await talk.say("subscribe", params)
    await talk.until(lambda message: message.get("method") == "subscriptions")
    await asyncio.to_thread(eurusd.publish, 25)
    merged, last = 0, None
    while merged < 25:
        message = await talk.hear()
        assert len(message["data"]) == 1
        merged += message["merged"]
        last = message["data"][0]
    assert (merged, last) == (25, to_avro(eurusd.ticks[-1]))
