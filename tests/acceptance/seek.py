"""The time machine over real ticks: a day in the order of events, and into the present while ticks pour in.

    python -m tests.acceptance.seek --hours 24 --seconds 120 --rate 5000 --kills 3

First a day of three symbols is written, of which the lake has only the morning when a client plays it at full speed:
what it heard must be the lake's ticks, once the lake has them all, in the order of events, and equal in every field.
Then travellers go to random moments of random symbols and run into the present, again and again, while ticks are
written, the lake takes them in, and the gateway is killed; of each symbol each must have heard every tick from the
moment on, once and in order. Broker: a real Kafka of one node, or ``--broker embedded``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from gateway.client import Client
from gateway.history import place_of
from infra import kafka as clients
from infra import ports
from infra.kafka_log import ends
from infra.lake import tables
from infra.lake.layout import TICKS
from infra.registry.client import connect
from infra.settings import GatewaySettings, LakeSettings, Settings
from infra.topics import SYMBOLS, TICKS_CLEAN
from infra.worlds import World
from producers.encoding import TickColumns, encode_ticks, ordinals
from producers.files import lean
from producers.files.days import midnight
from schemas.records import SymbolSpec
from tests.acceptance import gateway, gateway_load
from tests.acceptance.gateway import Heard, KillableGateway, Topic, compared, topic_of
from tests.acceptance.oracle import DATA, FEEDS
from tests.support import ROOT, Child, Out, environment, eventually, produce_all

DAY = "20140507"
HOUR = 3_600_000
PLAYED = FEEDS[:3]
TRAVELLERS = 4
SYMBOLS_EACH = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done: hours of the day, seconds of travelling, ticks a second, kills of the gateway."""

    hours: float
    seconds: float
    rate: float
    kills: int
    seed: int = 7


@dataclass(slots=True)
class Result:
    """What came of it."""

    played: int = 0
    seconds: float = 0.0
    written: int = 0
    delivered: int = 0
    arrivals: int = 0
    kills: int = 0
    again: int = 0
    """Connections that went on in the past."""
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Traveller:
    """One client, and what it heard of each symbol since the moment it went to."""

    client: Client
    draw: random.Random
    heard: dict[str, Heard] = field(default_factory=dict)
    over: list[tuple[str, int, Heard]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    told: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    async def listen(self) -> None:
        async for message in self.client:
            if message.type in {"error", "history_lost"}:
                self.errors.append(str(message.raw))
            if message.type == "connected" and self.heard and not self.arrived.is_set():
                self.told["again"] += 1
            if message.channel == "replay" and message.rows[0]["state"] == "live":
                self.told["live"] += 1
                self.arrived.set()
            if message.channel == "ticks" and message.type in {"replay", "update"}:
                for row in message.rows:
                    if row["symbol"] in self.heard:
                        self.heard[row["symbol"]].take(row)

    async def travel(self, until: float) -> None:
        """Go back, arrive, stay a while, and go to other symbols."""
        free = self.draw.sample(gateway_load.names(), gateway_load.COUNT)
        while time.monotonic() < until and len(free) >= SYMBOLS_EACH:
            chosen, free = free[:SYMBOLS_EACH], free[SYMBOLS_EACH:]
            moment = await self.moment_of(chosen[0]) - self.draw.randrange(HOUR)
            self.heard = {symbol: Heard() for symbol in chosen}
            self.arrived.clear()
            await self.client.seek(moment, *chosen, speed=self.draw.choice(("max", 5_000)))
            async with asyncio.timeout(gateway.CATCH_UP_SECONDS):
                await self.arrived.wait()
            await asyncio.sleep(self.draw.uniform(0.5, 2))
            heard, self.heard = self.heard, {}
            self.over += [(symbol, moment, each) for symbol, each in heard.items()]
            await self.client.unsubscribe("ticks", *chosen)

    async def moment_of(self, symbol: str) -> int:
        """When the newest tick of a symbol was, as soon as the gateway says so."""
        async with asyncio.timeout(gateway.CATCH_UP_SECONDS):
            while True:
                if newest := await self._newest(symbol):
                    return newest
                await asyncio.sleep(0.1)

    async def _newest(self, symbol: str) -> int:
        address = self.client._address.replace("/v1/ws?slow=close", "/v1/latest")
        try:
            async with self.client._http.get(address, params={"symbol": symbol}) as response:
                tick = (await response.json()).get("tick") if response.ok else None
        except OSError:
            return 0
        return int(tick["ts_event"]) if tick else 0


def run(settings: Settings, plan: Plan) -> Result:
    """Do it, in a world that is there and empty."""
    port = ports.free_port()
    served = settings.model_copy(
        update={
            "gateway": GatewaySettings(port=port, heartbeat_seconds=1),
            "lake": LakeSettings(rotate_seconds=0.5),
        }
    )
    result = Result()
    noon = write_day(settings, 0, plan.hours / 2)
    with Child(served, "sink", "lake"):
        eventually(lambda: _in_lake(served) >= noon, 300, every=0.2)
    whole = noon + write_day(settings, plan.hours / 2, plan.hours)
    gateway_load.introduce(settings, connect(settings), clients.producer(settings.kafka))
    asyncio.run(_run(served, plan, whole, result))
    return result


async def _run(settings: Settings, plan: Plan, whole: int, result: Result) -> None:
    draw = random.Random(plan.seed)
    url = f"http://127.0.0.1:{settings.gateway.port}"
    killed = gateway.Result()
    async with KillableGateway(settings, killed) as kill:
        start = time.monotonic()
        heard = await _day(url, plan.hours)
        result.played, result.seconds = len(heard), time.monotonic() - start
        with Child(settings, "sink", "lake"):
            await asyncio.to_thread(eventually, lambda: _in_lake(settings) >= whole, 300, every=0.2)
            if problem := _unlike(heard, _lake_day(settings, plan.hours)):
                result.problems.append(problem)
            env = environment(settings) | {"ARBITREX_TEST_DATA": str(DATA.parent)}
            load = ["-m", "tests.acceptance.gateway_load", "--rate", str(plan.rate), "--seconds", str(plan.seconds)]
            writing = await asyncio.create_subprocess_exec(sys.executable, *load, env=env, cwd=ROOT)
            travellers = [Traveller(Client(url), random.Random(draw.random())) for _ in range(TRAVELLERS)]
            for each in travellers:
                await each.client.__aenter__()
            listening = [asyncio.create_task(each.listen()) for each in travellers]
            travelling = [asyncio.create_task(each.travel(time.monotonic() + plan.seconds)) for each in travellers]
            for _ in range(plan.kills):
                await asyncio.sleep(plan.seconds / (plan.kills + 1) * draw.uniform(0.7, 1))
                await kill()
            failed = await asyncio.gather(*travelling, return_exceptions=True)
            result.problems += [f"a traveller: {error!r}" for error in failed if error is not None]
            if await writing.wait():
                result.problems.append("the ticks could not be written")
            for task in listening:
                task.cancel()
            failed = await asyncio.gather(*listening, return_exceptions=True)
            result.problems += [repr(error) for error in failed if isinstance(error, Exception)]
            for each in travellers:
                await each.client.__aexit__(None, None, None)
    result.kills = killed.kills
    _judge(travellers, await asyncio.to_thread(topic_of, settings), result)


def _judge(travellers: Sequence[Traveller], oracle: Topic, result: Result) -> None:
    result.written = sum(len(ticks) for symbol, ticks in oracle.items() if symbol.startswith("REAL"))
    for number, each in enumerate(travellers):
        result.arrivals += each.told["live"]
        result.again += each.told["again"]
        result.problems += [f"traveller {number}: {text}" for text in each.errors]
        for symbol, moment, heard in each.over:
            result.delivered += heard.count
            ticks = oracle[symbol]
            problem = compared(heard, ticks, to_the_end=False)
            if not problem and heard.first and ticks["ts_event"][heard.first - 1] >= moment:
                problem = f"tick {heard.first - 1} of {moment} or later is missing"
            if problem:
                result.problems.append(f"traveller {number}, {symbol}: {problem}")


async def _day(url: str, hours: float) -> list[dict[str, Any]]:
    """The day as a client hears it."""
    start = _midnight()
    heard: list[dict[str, Any]] = []
    async with Client(url) as client:
        names = [feed.symbol for feed in PLAYED]
        await client.seek(start, *names, to=start + round(hours * HOUR), speed="max")
        async for message in client:
            assert message.type != "error", message
            if message.type == "replay":
                heard += message.rows
            if message.channel == "replay" and message.rows[0]["state"] == "ended":
                break
    return heard


def _lake_day(settings: Settings, hours: float) -> list[dict[str, Any]]:
    """The same as the lake has it, in the order of events."""
    start = _midnight()
    frames = [
        tables.read_ticks(
            settings.lake_uri, None, settings.world, feed.symbol, start_ms=start, end_ms=start + round(hours * HOUR)
        )
        for feed in PLAYED
    ]
    order = pl.concat(frames).sort("ts_event", "symbol", "ordinal")
    return order.drop("world", "source_partition", "source_offset").to_dicts()


def _unlike(heard: Sequence[dict[str, Any]], lake: Sequence[dict[str, Any]]) -> str:
    if len(heard) != len(lake):
        return f"{len(heard)} ticks were played, the lake has {len(lake)}"
    for number, (mine, theirs) in enumerate(zip(heard, lake, strict=True)):
        if mine != theirs:
            return f"tick {number} of the day was {mine['symbol']} {place_of(mine)}, in the lake it is {theirs}"
    return ""


def write_day(settings: Settings, start: float, end: float) -> int:
    """Write some hours of the day, as the processor would, and the symbols' specs; how many ticks."""
    codec = connect(settings)
    world = World(settings.world)
    first, last = (_midnight() + round(hour * HOUR) for hour in (start, end))
    rows: list[tuple[int, Out]] = []
    for feed in PLAYED:
        spec = SymbolSpec(symbol=feed.symbol, feed=feed.name, shard="a", broker_name=feed.symbol, digits=5, point=1e-5)
        produce_all(settings, world.topic(SYMBOLS.name), [Out(feed.symbol, codec.encode(spec), first)])
        path = next(path for path in feed.tick_files if path.name.startswith(DAY))
        day = lean.recognise(path)
        assert day is not None
        ticks = day.load().ticks
        times = ticks["time_msc"].astype(np.int64)
        wanted = (times >= first) & (times < last)
        ticks, times = ticks[wanted], times[wanted]
        nothing = np.zeros(len(times))
        columns = TickColumns(
            ts_event=times, ordinal=ordinals(times), bid=ticks["bid"].copy(), ask=ticks["ask"].copy(), last=nothing,
            volume=np.flatnonzero(wanted).astype(float), flags=np.full(len(times), 6, np.int64), server_time=times,
            ts_recv=times * 1_000,
        )  # fmt: skip
        values = encode_ticks(columns, header=codec.headers["Tick"], symbol=feed.symbol, feed=feed.name)
        rows += [
            (moment, Out(feed.symbol, value, moment)) for value, moment in zip(values, times.tolist(), strict=True)
        ]
    rows.sort(key=lambda row: row[0])
    return produce_all(settings, world.topic(TICKS_CLEAN.name), (row for _, row in rows))


def _in_lake(settings: Settings) -> int:
    """How many offsets of clean ticks the lake has taken in."""
    name = World(settings.world).topic(TICKS_CLEAN.name)
    partitions = len(ends(settings.kafka, name))
    return sum(tables.ends(settings.lake_uri, None, settings.world, partitions, only=[TICKS])[name].values())


def _midnight() -> int:
    path = next(path for path in PLAYED[0].tick_files if path.name.startswith(DAY))
    day = lean.recognise(path)
    assert day is not None
    return midnight(day.day)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0, help="of the day")
    parser.add_argument("--seconds", type=float, default=120.0, help="of travelling")
    parser.add_argument("--rate", type=float, default=5_000.0, help="ticks a second, of 40 symbols")
    parser.add_argument("--kills", type=int, default=3, help="of the gateway")
    parser.add_argument("--broker", choices=("kafka", "embedded"), default="kafka")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        gateway.place(chosen.broker, Path(folder)) as settings,
    ):
        result = run(settings, Plan(chosen.hours, chosen.seconds, chosen.rate, chosen.kills, chosen.seed))
    console = Console()
    console.print(f"{result.played:,} ticks of three symbols played in {result.seconds:.1f} s")
    console.print(
        f"{result.written:,} ticks written meanwhile, {result.delivered:,} delivered; {result.arrivals} arrivals in "
        f"the present; gateway killed {result.kills} times, {result.again} replays gone on with on another connection"
    )
    for problem in result.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    console.print(f"{len(result.problems)} problems" if result.problems else "nothing lost, nothing twice")
    sys.exit(bool(result.problems))


if __name__ == "__main__":
    main()
