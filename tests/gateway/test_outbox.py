"""What becomes of a client that does not keep up: bounded memory, and it is told what it did not get."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
from aiohttp import WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from gateway.frames import MessageFrame
from gateway.market import Row
from gateway.outbox import Outbox, Slow
from gateway.socket import Socket
from gateway.wire import JSON

MOST = 5
NEWEST: list[Row] = [{"symbol": "EURUSD", "bid": 9}]


class Line:
    """A socket that takes a frame each time it is let."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.open = asyncio.Event()

    def room(self) -> None:
        """Everything has to wait."""

    async def send_frame(self, payload: bytes, _: WSMsgType) -> None:
        await self.open.wait()
        self.told.append(orjson.loads(payload))


class Case:
    def __init__(self, slow: Slow) -> None:
        self.line = Line()
        self.full = 0
        self.box = Outbox(
            cast("Socket", self.line), JSON, slow, bounds=(MOST, 1_000_000), newest=lambda _: NEWEST, full=self._full
        )

    def _full(self) -> None:
        self.full += 1

    def offer(self, channel: str, number: int, rows: int = 1) -> None:
        message = {"channel": channel, "type": "update", "number": number}
        self.box.offer(MessageFrame(message, rows, f"{channel}~{number}" if channel != "bars.live" else None))

    async def told(self) -> list[dict[str, Any]]:
        """All that the client gets once it reads again."""
        self.line.open.set()
        writing = asyncio.create_task(self.box.run())
        self.box.close()
        await asyncio.wait_for(writing, 5)
        assert [message["seq"] for message in self.line.told] == list(range(1, len(self.line.told) + 1))
        return self.line.told


async def test_to_close() -> None:
    case = Case(Slow.CLOSE)
    fullness = []
    for number in range(MOST + 1):
        case.offer("ticks", number)
        fullness.append(case.full)
    assert fullness == [0] * MOST + [1]


async def test_to_skip_tells_how_much_and_from_where() -> None:
    case = Case(Slow.SKIP)
    for number in range(MOST + 3):
        case.offer("ticks", number, rows=2)
    case.offer("heartbeat", 0)
    told = await case.told()
    assert [message["number"] for message in told[:MOST]] == list(range(MOST))
    assert len(told) == MOST + 1
    assert told[-1] | {"seq": 0} == {
        "seq": 0, "channel": "ticks", "type": "skipped", "cursor": f"ticks~{MOST - 1}",
        "data": [{"messages": 3, "rows": 6}],
    }  # fmt: skip
    assert not case.full


async def test_to_conflate_gives_the_newest_state_and_every_bar() -> None:
    case = Case(Slow.CONFLATE)
    case.offer("bars", 1)
    for number in range(MOST + 20):
        case.offer("ticks", number)
    case.offer("bars", 2)
    told = await case.told()
    assert [(message["channel"], message.get("number"), message.get("merged")) for message in told] == [
        ("bars", 1, None),
        ("bars", 2, None),
        ("ticks", None, MOST + 20),
    ]
    assert told[-1]["data"] == NEWEST


async def test_bars_alone_cannot_be_conflated() -> None:
    case = Case(Slow.CONFLATE)
    for number in range(MOST + 1):
        case.offer("bars", number)
    assert case.full == 1


@given(st.sampled_from(Slow), st.lists(st.sampled_from(("ticks", "bars", "bars.live", "heartbeat")), max_size=60))
def test_whatever_comes_what_waits_is_bounded(slow: Slow, channels: list[str]) -> None:
    async def offered() -> Case:
        case = Case(slow)
        for number, channel in enumerate(channels):
            case.offer(channel, number)
            if case.full:
                break
            assert len(case.box._queue) <= MOST
        return case

    case = asyncio.run(offered())
    told = [packet for packet in case.box._queue if packet.channel is not None]
    lost = sum(each.messages for each in case.box._lost.values())
    if not case.full:
        facts = [channel for channel in channels if channel != "heartbeat"]
        assert len([packet for packet in told if packet.channel != "heartbeat"]) + lost == len(facts)
