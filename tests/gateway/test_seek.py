"""The time machine of a socket: into the past, through it at any pace, and exactly into the present."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.past import is_bar, order
from tests.gateway.conftest import Connect, Talk, happened, rows_of, settled
from tests.gateway.market import MINUTE, START, FakeMarket

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]

PAST = {"ticks", "bars"}


async def seek(talk: Talk, **params: Any) -> dict[str, Any]:
    await talk.say("seek", {"time": START, **params}, req_id="s")
    return await talk.until(lambda message: message.get("req_id") == "s")


async def played(talk: Talk, state: str) -> list[dict[str, Any]]:
    """All rows told until the replay is in a state."""
    found: list[dict[str, Any]] = []
    while True:
        message = await talk.hear()
        assert message.get("success") is not False, message
        if message.get("channel") == "replay" and message["data"][0]["state"] == state:
            return found
        if message.get("channel") in PAST and message["type"] == "replay":
            found += message["data"]


async def test_two_symbols_and_their_bars_in_the_order_of_events(
    connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket
) -> None:
    talk = await connect()
    end = xauusd.time
    answer = await seek(talk, symbol=["XAUUSD", "EURUSD"], timeframe=["M1", "M5"], to=end, speed="max")
    assert answer["result"] == {
        "time": START, "to": end, "speed": "max", "paused": False, "symbol": ["XAUUSD", "EURUSD"],
        "timeframe": ["M1", "M5"],
    }  # fmt: skip
    got = await played(talk, "ended")
    assert got == happened(eurusd, xauusd, timeframes=("M1", "M5"), to=end)
    assert any(map(is_bar, got))


async def test_what_is_live_rests_until_the_connection_comes_back(
    connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket
) -> None:
    talk = await connect()
    await talk.say("pause", req_id=1)
    assert (await talk.hear())["code"] == 418
    await talk.say("subscribe", {"channel": "ticks", "symbol": "XAUUSD"})
    await talk.say("subscribe", {"channel": "bars.live", "symbol": "XAUUSD", "timeframe": "M1", "interval": 50})
    await seek(talk, symbol="EURUSD", to=START + MINUTE, speed="max")
    await played(talk, "ended")
    await talk.say("subscribe", {"channel": "ticks", "symbol": "EURUSD"}, req_id=2)
    assert (await talk.until(lambda message: message.get("req_id") == 2))["code"] == 417
    await asyncio.to_thread(xauusd.publish, 3)
    await talk.say("subscribe", {"channel": "events", "symbol": "EURUSD"}, req_id=3)
    await talk.until(lambda message: message.get("req_id") == 3 and message["method"] == "subscribe")
    heard = len(talk.heard)
    eurusd.write("feed.events", [eurusd.event("goes on")])
    await talk.until(lambda message: message.get("type") == "update" and message["channel"] == "events")
    assert not any(message.get("channel") in {"ticks", "bars.live"} for message in talk.heard[heard:])
    await talk.say("live", req_id=4)
    snapshot = await talk.until(lambda message: message.get("type") == "snapshot")
    assert (snapshot["channel"], snapshot["data"]) == ("ticks", rows_of(xauusd.ticks[-1:]))
    bars = await talk.until(lambda message: message.get("type") == "snapshot")
    assert bars["data"] == rows_of([xauusd.open["M1"]], closed=False)
    listed = await talk.until(lambda message: message.get("method") == "subscriptions")
    assert [each["channel"] for each in listed["result"]] == ["events", "ticks", "bars.live"]
    await asyncio.to_thread(xauusd.publish, 1)
    update = await talk.until(lambda message: message.get("channel") == "ticks")
    assert (update["type"], update["data"]) == ("update", rows_of(xauusd.ticks[-1:]))


async def test_pause_step_and_speed(connect: Connect, eurusd: FakeMarket) -> None:
    talk = await connect()
    wanted = happened(eurusd, timeframes=("M1",), to=START + 60 * MINUTE)
    await seek(talk, symbol="EURUSD", timeframe="M1", to=START + 60 * MINUTE, paused=True)
    assert await played(talk, "paused") == []
    await talk.say("step", {"ticks": 4})
    got = await played(talk, "paused")
    assert (got, sum(not is_bar(row) for row in got)) == (wanted[: len(got)], 4)
    await talk.say("step", {"timeframe": "M1"})
    got += await played(talk, "paused")
    assert (got, is_bar(got[-1])) == (wanted[: len(got)], True)
    assert talk.heard[-1]["data"] == [{"state": "paused", "time": got[-1]["ts_close"], "speed": 1}]
    await talk.say("step", {"timeframe": "M5"}, req_id=1)
    assert (await talk.until(lambda message: message.get("req_id") == 1))["code"] == 414
    await talk.say("speed", {"speed": 600}, req_id=2)
    assert (await talk.until(lambda message: message.get("req_id") == 2))["result"] == {"speed": 600}
    await talk.say("resume")
    start = time.monotonic()
    while len(got) < 40:
        message = await talk.hear()
        got += message["data"] if message.get("type") == "replay" else []
    assert time.monotonic() - start > (got[-1]["ts_event"] - got[20]["ts_event"]) / 600_000 - 0.1
    await talk.say("speed", {"speed": "max"})
    assert got + await played(talk, "ended") == wanted


async def test_it_runs_into_what_is_live_without_loss_or_repeat(
    connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket
) -> None:
    since = xauusd.ticks[-20].ts_event
    eurusd.correct(-300)
    await asyncio.to_thread(eurusd.publish, 1)
    talk = await connect()
    await settled(talk.http, eurusd)
    await talk.say("subscribe", {"channel": "ticks", "symbol": "*", "interval": 1_000})
    there = happened(eurusd, xauusd, timeframes=("M1",), since=since)
    await seek(talk, time=since, symbol=["EURUSD", "XAUUSD"], timeframe="M1", speed="max", paused=True)
    eurusd.correct(-400)
    await asyncio.to_thread(eurusd.publish, 50)
    await settled(talk.http, eurusd)
    await talk.say("resume")
    writing = asyncio.create_task(asyncio.to_thread(xauusd.publish, 30))
    got = await played(talk, "live")
    assert set(talk.heard[-1]["data"][0]["cursors"]) == PAST
    live = len(got)
    await writing
    wanted = happened(eurusd, xauusd, timeframes=("M1",), since=since)
    while len(got) < len(wanted):
        message = await talk.hear()
        if message.get("channel") in PAST and message["type"] == "update":
            got += message["data"]
    assert sorted(got, key=order) == wanted
    assert got[: len(there)] == there
    assert sum(row.get("correction", False) for row in there) == 1
    assert live > len(there)


async def test_with_a_cursor_it_goes_on_exactly_there(connect: Connect, eurusd: FakeMarket, xauusd: FakeMarket) -> None:
    since = eurusd.ticks[-200].ts_event
    both = {"time": since, "symbol": ["EURUSD", "XAUUSD"], "timeframe": ["M1"], "speed": "max"}
    wanted = happened(eurusd, xauusd, timeframes=("M1",), since=since)
    got: list[dict[str, Any]] = []
    cursor = None
    for _ in range(3):  # connections that are given up after some steps
        talk = await connect()
        await seek(talk, **both, cursor=cursor, paused=True)
        for ticks in (1, 30):
            await talk.say("step", {"ticks": ticks})
            got += await played(talk, "paused")
        cursor = [message["cursor"] for message in talk.heard if message.get("type") == "replay"][-1]
        await talk.socket.close()
    await asyncio.to_thread(xauusd.publish, 40)  # of before the clock
    eurusd.correct(-150)
    await asyncio.to_thread(eurusd.publish, 1)
    talk = await connect()
    await settled(talk.http, xauusd)
    await settled(talk.http, eurusd)
    await seek(talk, **both, cursor=cursor)
    got += await played(talk, "live")
    assert got[: len(wanted)] == wanted
    assert sorted(got, key=order) == happened(eurusd, xauusd, timeframes=("M1",), since=since)


async def test_a_cursor_of_another_log_is_refused(connect: Connect) -> None:
    talk = await connect()
    await seek(talk, symbol="EURUSD", cursor="!!ticks~0!bars~0!5")
    refused = await talk.until(lambda message: message.get("success") is False)
    assert (refused["code"], refused["method"], refused["req_id"]) == (400, "seek", "s")
