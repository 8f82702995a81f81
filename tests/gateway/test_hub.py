"""The market's state and who is told what, without sockets or Kafka."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from gateway import hub as hubs
from gateway import recent
from gateway.cursor import Cursor, Place
from gateway.door import Door
from gateway.frames import Frame
from gateway.hub import Hub
from gateway.limits import RateLimit
from gateway.market import CLOSED_BARS, ClosedBars, Market, Placed, Update, quote
from gateway.patterns import matches
from gateway.protocol import Stream
from gateway.wire import JSON, MSGPACK
from schemas.records import ChartMode, LiveBars
from tests.gateway.market import spec

SYMBOLS = ("EURUSD", "XAUUSD")
FRAMES = ("M1", "H1")


class Ear:
    """A client that keeps what it is offered."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def offer(self, frame: Frame) -> None:
        told = [wire.load(frame.packet(wire).body.message(wire.number(7))) for wire in (JSON, MSGPACK)]
        assert told[0] == told[1]
        assert told[0]["seq"] == 7
        assert told[0]["channel"] == frame.channel
        self.heard.append(told[0])


def bar(symbol: str, timeframe: str, ts_open: int, revision: int = 0, **fields: int | None) -> dict[str, Any]:
    return {
        "day": None,
        "number": 0,
        "symbol": symbol,
        "timeframe": timeframe,
        "ts_open": ts_open,
        "ts_close": ts_open + 1,
        "revision": revision,
    } | fields


SUBSCRIPTIONS = st.sets(
    st.builds(Stream, st.just("bars"), st.sampled_from((*SYMBOLS, "*")), st.sampled_from((*FRAMES, "*")))
)
BARS = st.lists(
    st.builds(bar, st.sampled_from(SYMBOLS), st.sampled_from(FRAMES), st.integers(0, 20), st.integers(0, 3)),
    max_size=30,
)


@given(SUBSCRIPTIONS, BARS, BARS)
def test_snapshot_and_updates_are_all_and_each_once(
    streams: set[Stream], before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    hub, ear = Hub(Market()), Ear()
    hub.join(ear)
    hub.apply(Update(bars=[Placed(row, 0, offset) for offset, row in enumerate(before)]))
    hub.subscribe(ear, "bars", streams)
    wanted = [
        row
        for row in after
        if any(s.symbol in ("*", row["symbol"]) and s.timeframe in ("*", row["timeframe"]) for s in streams)
    ]
    for offset, row in enumerate(after):
        hub.apply(Update(bars=[Placed(row, 0, len(before) + offset)]))
    assert [row for message in ear.heard for row in message["data"]] == wanted
    newest = {(row["symbol"], row["timeframe"], row["ts_open"]): row for row in before + after}
    shown = hub.market.snapshot(Stream("bars", "*", "*"))
    assert {(row["symbol"], row["timeframe"], row["ts_open"]): row for row in shown} == newest
    assert len(shown) == len(newest)
    hub.leave(ear)
    hub.apply(Update(bars=[Placed(bar("EURUSD", "M1", 99), 0, 99)]))
    assert len(ear.heard) == len(wanted)


TICKS = st.lists(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(0, 1)), min_size=1, max_size=4), max_size=20)


@given(
    TICKS, st.integers(0, 20), st.sets(st.sampled_from((*SYMBOLS, "EUR*", "*")), min_size=1), st.sampled_from((0, 3))
)
def test_from_a_cursor_on_nothing_is_missing_and_nothing_comes_twice(
    steps: list[list[tuple[str, int]]], came_back: int, symbols: set[str], kept: int
) -> None:
    hub, ear = Hub(Market(), {"ticks": {0: Place(0), 1: Place(0)}}), Ear()
    streams = [Stream("ticks", symbol) for symbol in symbols]
    ends, cursors = [0, 0], [Cursor("ticks", (Place(0), Place(0)))]
    told: list[dict[str, Any]] = []
    with patch.object(recent, "KEPT", kept or 1_000):
        for number, step in enumerate(steps):
            if number == came_back:
                hub.join(ear)
                hub.subscribe(ear, "ticks", streams)
                frames = hub.since(cursors[number // 2], streams)
            ticks: dict[str, list[dict[str, Any]]] = {}
            for symbol, _ in step:
                told.append({"symbol": symbol, "ts_event": len(told), "ordinal": 0, "step": number})
                ticks.setdefault(symbol, []).append(told[-1])
            for partition in {partition for _, partition in step}:
                ends[partition] += len(step)
            hub.apply(Update(ticks=ticks, places={"ticks": {n: Place(end, number) for n, end in enumerate(ends)}}))
            cursors.append(hub.cursors["ticks"])
    if came_back >= len(steps):
        return
    if frames is None:
        assert kept  # too long ago for what is kept in memory
        return
    missed = [row for frame in frames for row in JSON.load(frame.packet(JSON).body.message(b"1"))["data"]]
    heard = missed + [row for message in ear.heard for row in message["data"]]
    wanted = [
        row
        for row in told
        if row["step"] >= came_back // 2 and any(matches(symbol, row["symbol"]) for symbol in symbols)
    ]
    assert sorted(heard, key=lambda row: row["ts_event"]) == wanted
    assert all(
        [row["ts_event"] for row in heard if row["symbol"] == symbol]
        == [row["ts_event"] for row in wanted if row["symbol"] == symbol]
        for symbol in SYMBOLS
    )


def test_a_revised_count_bar_replaces_the_one_of_its_number() -> None:
    window = ClosedBars(since=0)
    rows = [bar("EURUSD", "T:5", 10, day=7), bar("EURUSD", "T:5", 30, day=7, number=1)]
    moved = [bar("EURUSD", "T:5", 30, 1, day=7, number=0), bar("EURUSD", "T:5", 30, 1, day=7, number=1)]
    for offset, row in enumerate([*rows, *reversed(moved)]):
        window.add(Placed(row, 0, offset))
    assert window.rows() == moved


def test_a_window_knows_from_where_on_it_is_whole() -> None:
    window = ClosedBars(since=0)
    for number in range(CLOSED_BARS):
        window.add(Placed(bar("EURUSD", "M1", number), 0, 10 * number))
    assert window.since == 0
    window.add(Placed(bar("EURUSD", "M1", 3, revision=1), 0, 5_000))
    assert window.since == 0
    window.add(Placed(bar("EURUSD", "M1", CLOSED_BARS), 0, 5_010))
    assert window.since == 1
    assert [row["ts_open"] for row in window.rows()] == list(range(1, CLOSED_BARS + 1))


def test_an_older_tick_does_not_take_the_newest_ones_place() -> None:
    market = Market()
    rows = [{"symbol": "EURUSD", "ts_event": time, "ordinal": 0} for time in (5, 9, 7)]
    market.take(Update(ticks={"EURUSD": rows[:2]}))
    market.take(Update(ticks={"EURUSD": rows[2:]}))
    assert market.snapshot(Stream("ticks", "EURUSD")) == [rows[1]]


def test_no_quote_is_made_up_for_a_symbol_charted_by_its_last_price() -> None:
    state = LiveBars(symbol="GOLD", feed="sim", last_ts=1, last_ordinal=0)
    assert quote(state, replace(spec("GOLD"), chart_mode=ChartMode.LAST)) is None


def test_the_rate_limit_is_a_bucket_of_one_second() -> None:
    limit = RateLimit(5)
    assert [limit.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.refused == 2
    assert limit.take(0.2)
    assert not limit.take(0.2)
    assert limit.take(10.0)
    assert limit.refused == 0


def test_who_may_come_in() -> None:
    local = Door("127.0.0.1", ("https://desk.example",))
    assert local.refuses("127.0.0.1:8080", None) is None
    assert local.refuses("localhost:8080", "http://localhost:8080") is None
    assert local.refuses("[::1]:8080", None) is None
    assert local.refuses("127.0.0.1:8080", "https://desk.example") is None
    assert local.refuses("desk.example", "https://desk.example") is None
    assert local.refuses("127.0.0.1:8080", "http://evil.example") is not None
    assert local.refuses("127.0.0.1:8080", "null") is not None
    assert local.refuses("evil.example:8080", "http://evil.example:8080") is not None
    assert Door("0.0.0.0", ()).refuses("gateway.internal:8080", None) is None  # noqa: S104


async def test_a_place_is_waited_for_until_another_gateways_client_would_be_there() -> None:
    hub = Hub(Market(), {"ticks": {0: Place(5), 1: Place(5)}})

    def cursor(*offsets: int) -> Cursor:
        return Cursor("ticks", tuple(map(Place, offsets)))

    assert await hub.reached(cursor(5, 4))
    assert not await hub.reached(cursor(5))
    with patch.object(hubs, "_BEHIND_SECONDS", 0.1):
        assert not await hub.reached(cursor(5, 6))
    waiting = asyncio.create_task(hub.reached(cursor(5, 6)))
    await asyncio.sleep(0)
    hub.apply(Update(places={"ticks": {1: Place(6)}}))
    assert await waiting
