"""Random and mutated messages to a session: each is answered, as the AsyncAPI description says, and nothing breaks.

python -m tests.acceptance.fuzz --messages 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import jsonschema
import orjson
import ormsgpack
from rich.console import Console

from gateway.access import EVERYTHING, Access
from gateway.asyncapi import answers
from gateway.catchup import LogReader
from gateway.cursor import Cursor
from gateway.history import History
from gateway.hub import Hub
from gateway.market import Market, Update
from gateway.outbox import Slow
from gateway.protocol import CHANNELS, METHODS
from gateway.replay import Replays, Slots
from gateway.session import Session, Surroundings, Wishes
from gateway.socket import Socket
from gateway.tokens import TokenFile
from gateway.wire import WIRES, Wire
from infra.settings import GatewaySettings, Settings
from schemas.errors import BrokerError

FRAMES = ("M1", "M5", "H1")
WORDS = [
    *METHODS, *CHANNELS, *FRAMES, "*", "EURUSD", "XAU*", "NOPE", "**", "*U*D*", "", "x" * 65,
    "\x00", "é\u2028", "method",
    "time", "to", "speed", "paused", "max",
    "params", "channel", "symbol", "timeframe", "series", "snapshot", "cursor", "interval", "req_id", "token",
    "ticks~1.a", "bars~0", "ticks~zzzzzzzzzzzzzzzzzzzz", "ticks~-1", "events~0~0",
]  # fmt: skip
NUMBERS = [0, 1, -1, 100, 101, 60_000, 60_001, 2**53 - 1, 2**53, 2**63, -(2**63), 0.5, 1e308, True, False, None]
WELL_FORMED: list[dict[str, Any]] = [
    {"method": "ping", "req_id": 1},
    {"method": "subscriptions"},
    {"method": "authenticate", "params": {"token": "arbitrex_00000000_x"}},
    {"method": "subscribe", "params": {"channel": "ticks", "symbol": ["EURUSD", "X*"], "interval": 100}, "req_id": "a"},
    {"method": "subscribe", "params": {"channel": "bars", "series": [["EURUSD", "M1"]], "snapshot": 5}},
    {"method": "subscribe", "params": {"channel": "ticks", "symbol": "EURUSD", "cursor": "ticks~0"}},
    {"method": "subscribe", "params": {"channel": "events"}},
    {"method": "seek", "params": {"time": 1_763_888_000_000, "symbol": ["EURUSD"], "timeframe": "M1", "speed": 5}},
    {"method": "seek", "params": {"time": 0, "symbol": "EURUSD", "to": 2**40, "speed": "max", "paused": True}},
    {"method": "speed", "params": {"speed": 0.5}, "req_id": 2},
    {"method": "step", "params": {"ticks": 10}},
    {"method": "step", "params": {"timeframe": "M1"}},
    {"method": "pause"},
    {"method": "resume"},
    {"method": "live", "req_id": "b"},
    {"method": "unsubscribe", "params": {"channel": "bars.live", "symbol": "*", "timeframe": ["M1", "*"]}},
]


class Mute:
    """A socket that nothing is written to."""

    def write_now(self, *_: object) -> bool:
        return False

    def cut_off(self) -> None:
        """Nothing is connected."""


class NoLog:
    """A Kafka that is away."""

    async def read(self, start: Cursor, *_: object) -> AsyncIterator[dict[str, Any]]:
        if start.places:
            raise BrokerError("Kafka is away")
        yield {}


class NoPast:
    """A history that cannot be read."""

    async def late(self, *_: object) -> None:
        raise BrokerError("Kafka is away")


class Checker:
    """Holds answers to the description, each shape of them once."""

    def __init__(self) -> None:
        self._validator = jsonschema.Draft202012Validator({"oneOf": list(answers().values())})
        self._known: set[object] = set()

    def check(self, message: dict[str, Any]) -> None:
        shape = _shape(message)
        if shape not in self._known:
            self._validator.validate(message)
            self._known.add(shape)


def _shape(value: Any, name: str = "") -> object:
    if isinstance(value, dict):
        return tuple((key, _shape(each, key)) for key, each in value.items())
    if isinstance(value, list):
        return tuple(dict.fromkeys(_shape(each) for each in value))
    return value if name in {"code", "method", "channel", "type", "success", "snapshot"} else type(value)


class Mutator:
    """Draws messages."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def message(self, wire: Wire) -> bytes | str:
        draw = self.draw
        kind = draw.random()
        if kind < 0.1:
            data = draw.randbytes(draw.randrange(60))
        elif kind < 0.25:
            data = self._packed(wire, self.value(3))
        else:
            data = self._packed(wire, self.mutated(draw.choice(WELL_FORMED), 0.15))
            if kind > 0.9:
                data = self.damaged(data)
        return data.decode(errors="replace") if wire.name == "json" else data

    def mutated(self, value: Any, chance: float) -> Any:
        """The value with some of its parts replaced, left out or added."""
        if self.draw.random() < chance / 2:
            return self.value(2)
        if isinstance(value, dict):
            found = {key: self.mutated(each, chance) for key, each in value.items() if self.draw.random() > chance / 4}
            return found | ({self.draw.choice(WORDS): self.value(2)} if self.draw.random() < chance else {})
        if isinstance(value, list):
            return [self.mutated(each, chance) for each in value for _ in range(self.draw.choice((1, 1, 1, 0, 2)))]
        return value

    def value(self, depth: int) -> Any:
        draw = self.draw
        match draw.randrange(4 if depth else 2):
            case 0:
                return draw.choice(WORDS)
            case 1:
                return draw.choice(NUMBERS)
            case 2:
                return [self.value(depth - 1) for _ in range(draw.randrange(4))]
            case _:
                return {draw.choice(WORDS): self.value(depth - 1) for _ in range(draw.randrange(4))}

    def damaged(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self.draw.randrange(len(data))
        return self.draw.choice((data[:place], data[place:], data[:place] + self.draw.randbytes(2) + data[place + 1 :]))

    def _packed(self, wire: Wire, value: Any) -> bytes:
        try:
            return orjson.dumps(value) if wire.name == "json" else ormsgpack.packb(value)
        except TypeError:
            return self.draw.randbytes(8)


async def fuzz(messages: int, seed: int = 7) -> Counter[str]:
    """How often each kind of answer was given. Raises what breaks."""
    hub = Hub(Market())
    hub.market.take(Update(ticks={"EURUSD": [_TICK]}))
    access = Access(TokenFile(Settings().home / "none.json"), public=False, may_be_open=True, now=lambda: 0)
    limits = GatewaySettings(max_subscriptions=20)
    replays = Replays(cast("History", NoPast()), hub, Slots(2))
    around = Surroundings(hub, limits, FRAMES, access, cast("LogReader", NoLog()), replays, lambda: 1_763_888_400_000)
    mutator, checker, told = Mutator(seed), Checker(), Counter[str]()
    for wire in WIRES.values():
        session = _session(around, wire)
        for number in range(messages // len(WIRES)):
            data = mutator.message(wire)
            session._handle(data)
            queue = session._outbox._queue
            assert queue, f"no answer to {data!r}"
            for body, _ in queue:
                answer = wire.load(wire.frame(1, body))
                checker.check(answer)
                told[str(answer.get("code", answer.get("method", answer.get("channel"))))] += 1
            session._outbox.empty()
            if number % 50 == 0:
                await asyncio.sleep(0)
            if session._farewell is not None:
                _end(session)
                session = _session(around, wire)
        _end(session)
    return told


def _session(around: Surroundings, wire: Wire) -> Session:
    session = Session(cast("Socket", Mute()), around, Wishes(wire, Slow.CLOSE), EVERYTHING)
    around.hub.join(session)
    return session


def _end(session: Session) -> None:
    session._machine._stop()
    for task in session._catching_up.values():
        task.cancel()
    for timer in session._timers:
        timer.cancel()
    session._hub.leave(session)


_TICK: dict[str, Any] = {
    "symbol": "EURUSD", "ts_event": 1_763_888_400_000, "ordinal": 0, "bid": 1.08, "ask": 1.09, "feed": "sim",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    start = time.monotonic()
    told = asyncio.run(fuzz(chosen.messages, chosen.seed))
    console = Console()
    for kind, count in told.most_common():
        console.print(f"{kind:>16} {count:>12,}")
    console.print(f"{chosen.messages:,} messages, each answered as described, in {time.monotonic() - start:.0f} s")
    sys.exit(0)


if __name__ == "__main__":
    main()
