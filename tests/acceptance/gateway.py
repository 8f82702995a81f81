"""Twenty clients follow real ticks, are cut off and come back, while the gateway under them is killed.

    python -m tests.acceptance.gateway --seconds 300 --rate 20000 --kills 10

Each client follows and gives up symbols at random, loses its connection at random, and resumes with its cursors. In
the end what each has heard of a symbol, from the moment it followed it, must be what the topic holds: every tick once,
in order, with the prices that were written. Broker: a real Kafka of one node, or ``--broker embedded``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from gateway.client import Client
from infra import kafka as clients
from infra import ports, provision
from infra.brokers.embedded import EmbeddedBroker
from infra.brokers.kafka import KafkaCluster
from infra.kafka_log import beginnings, read_to_end
from infra.registry.client import connect
from infra.settings import GatewaySettings, KafkaSettings, RegistrySettings, Settings
from infra.worlds import World
from schemas.batch import decode_batch
from tests.acceptance.gateway_load import introduce, names
from tests.acceptance.oracle import DATA
from tests.support import ROOT, Child, environment, registered

CLIENTS = 20
MOST_SYMBOLS = 4
CATCH_UP_SECONDS = 120


@dataclass(slots=True)
class Heard:
    """What one client heard of one symbol since it followed it."""

    first: int | None = None
    """The number of the first tick."""
    count: int = 0
    digest: int = 0
    problem: str = ""

    def take(self, row: dict[str, Any]) -> None:
        number = int(row["volume"])
        if self.first is None:
            self.first = number
        if number != self.first + self.count and not self.problem:
            self.problem = f"tick {number} came where {self.first + self.count} was due"
        self.count += 1
        self.digest = digest(self.digest, row["ts_event"], row["bid"], row["ask"])


@dataclass(slots=True)
class Trader:
    """One client, and what it heard."""

    client: Client
    draw: random.Random
    heard: dict[str, Heard] = field(default_factory=dict)
    over: list[tuple[str, Heard]] = field(default_factory=list)
    """What it has given up."""
    resumed: int = 0
    cut_off: int = 0
    lost: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def listen(self) -> None:
        async for message in self.client:
            if message.type == "error":
                self.errors.append(str(message.raw))
            self.resumed += message.type == "resumed"
            if message.type == "history_lost":
                self.lost += message.rows
            if message.channel != "ticks" or message.type not in {"update", "snapshot"}:
                continue
            for row in message.rows:
                heard = self.heard.get(row["symbol"])
                if heard is not None and not (message.type == "snapshot" and heard.count):
                    heard.take(row)

    async def live(self, until: float) -> None:
        """Follow, give up, and be cut off, at random."""
        await self.follow()
        while time.monotonic() < until:
            await asyncio.sleep(self.draw.uniform(0.2, 3))
            match self.draw.choice(("follow", "give up", "cut off", "cut off")):
                case "follow" if len(self.heard) < MOST_SYMBOLS:
                    await self.follow()
                case "give up" if len(self.heard) > 1:
                    symbol = self.draw.choice(sorted(self.heard))
                    self.over.append((symbol, self.heard.pop(symbol)))
                    await self.client.unsubscribe("ticks", symbol)
                case "cut off":
                    socket = self.client._socket
                    if socket is not None and not socket.closed:
                        self.cut_off += 1
                        socket._writer.transport.abort()

    async def follow(self) -> None:
        """A symbol that it has not followed: what it gave up it may hear no more of."""
        free = sorted(set(names()) - set(self.heard) - {symbol for symbol, _ in self.over})
        if free:
            symbol = self.draw.choice(free)
            self.heard[symbol] = Heard()
            await self.client.subscribe("ticks", symbol)


@dataclass(slots=True)
class Result:
    """What came of it."""

    ticks: int = 0
    delivered: int = 0
    resumed: int = 0
    cut_off: int = 0
    kills: int = 0
    problems: list[str] = field(default_factory=list)


def digest(before: int, ts_event: int, bid: float, ask: float) -> int:
    return zlib.crc32(f"{ts_event} {bid} {ask}".encode(), before)


def run(settings: Settings, seconds: float, rate: float, kills: int, seed: int = 7) -> Result:
    """Do it, in a world that is there and empty."""
    codec = connect(settings)
    introduce(settings, codec, clients.producer(settings.kafka))
    result = asyncio.run(_run(settings, seconds, rate, kills, random.Random(seed)))
    traders: list[Trader] = result[1]
    oracle = topic_of(settings)
    outcome = result[0]
    outcome.ticks = sum(len(ticks) for ticks in oracle.values())
    for number, trader in enumerate(traders):
        outcome.resumed += trader.resumed
        outcome.cut_off += trader.cut_off
        outcome.problems += [f"client {number}: {text}" for text in (*trader.errors, *map(str, trader.lost))]
        for symbol, heard in (*trader.over, *trader.heard.items()):
            outcome.delivered += heard.count
            ended = symbol in trader.heard
            problem = compared(heard, oracle.get(symbol, []), to_the_end=ended)
            if problem:
                outcome.problems.append(f"client {number}, {symbol}: {problem}")
    return outcome


async def _run(
    settings: Settings, seconds: float, rate: float, kills: int, draw: random.Random
) -> tuple[Result, list[Trader]]:
    port = ports.free_port()
    served = settings.model_copy(update={"gateway": GatewaySettings(port=port, heartbeat_seconds=1)})
    result = Result()
    env = environment(settings) | {"ARBITREX_TEST_DATA": str(DATA.parent)}
    load = [sys.executable, "-m", "tests.acceptance.gateway_load", "--rate", str(rate), "--seconds", str(seconds)]
    async with KillableGateway(served, result) as kill:
        writing = await asyncio.create_subprocess_exec(*load, env=env, cwd=ROOT)
        traders = [Trader(Client(f"http://127.0.0.1:{port}"), random.Random(draw.random())) for _ in range(CLIENTS)]
        for trader in traders:
            await trader.client.__aenter__()
        listening = [asyncio.create_task(trader.listen()) for trader in traders]
        until = time.monotonic() + seconds
        living = [asyncio.create_task(trader.live(until)) for trader in traders]
        for _ in range(kills):
            await asyncio.sleep(seconds / (kills + 1) * draw.uniform(0.7, 1))
            await kill()
        await asyncio.gather(*living)
        if await writing.wait():
            result.problems.append("the ticks could not be written")
        await asyncio.to_thread(_caught_up, settings, traders)
        for task in listening:
            task.cancel()
        failed = await asyncio.gather(*listening, return_exceptions=True)
        result.problems += [repr(error) for error in failed if isinstance(error, Exception)]
        for trader in traders:
            await trader.client.__aexit__(None, None, None)
    return result, traders


class KillableGateway:
    """A gateway that can be killed the hard way and is started again."""

    def __init__(self, settings: Settings, result: Result) -> None:
        self._settings, self._result = settings, result

    async def __aenter__(self) -> Any:
        self._child = await asyncio.to_thread(Child(self._settings, "gateway").__enter__)
        return self._kill

    async def _kill(self) -> None:
        await asyncio.to_thread(self._child.kill)
        self._child.__exit__()  # closes its pipes
        self._result.kills += 1
        self._child = await asyncio.to_thread(Child(self._settings, "gateway").__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._child.__exit__)


def topic_of(settings: Settings) -> dict[str, list[tuple[int, int, float, float]]]:
    """Each symbol's ticks as they stand in the topic: number, time, bid, ask."""
    found: dict[str, list[tuple[int, int, float, float]]] = {}
    codec = connect(settings)
    topic = World(settings.world).topic("ticks.clean")
    for batch in read_to_end(settings.kafka, beginnings(settings.kafka, topic)):
        frame = decode_batch([message.value() for message in batch], codec).frame
        for symbol, number, ts, bid, ask in frame.select("symbol", "volume", "ts_event", "bid", "ask").iter_rows():
            found.setdefault(symbol, []).append((int(number), ts, bid, ask))
    return found


def _caught_up(settings: Settings, traders: list[Trader]) -> None:
    """Wait until everybody has the last tick of what it follows, or for too long."""
    last = {symbol: ticks[-1][0] for symbol, ticks in topic_of(settings).items()}
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        if all(
            heard.first is not None and heard.first + heard.count > last[symbol]
            for trader in traders
            for symbol, heard in trader.heard.items()
        ):
            break
        time.sleep(0.1)
    time.sleep(1)  # what comes twice would come now


def compared(heard: Heard, ticks: list[tuple[int, int, float, float]], *, to_the_end: bool) -> str:
    if heard.problem:
        return heard.problem
    if heard.first is None:
        return "nothing was heard" if to_the_end else ""
    mine = ticks[heard.first : heard.first + heard.count]
    expected = 0
    for _, ts, bid, ask in mine:
        expected = digest(expected, ts, bid, ask)
    if len(mine) != heard.count or expected != heard.digest:
        return f"{heard.count} ticks from {heard.first} on are not those of the topic"
    missing = len(ticks) - heard.first - heard.count
    return f"the last {missing} ticks are missing" if to_the_end and missing else ""


@contextmanager
def place(broker: str, home: Path) -> Iterator[Settings]:
    """A broker, a registry and an empty world."""
    with ExitStack() as exits:
        if broker == "embedded":
            servers = exits.enter_context(EmbeddedBroker(home)).bootstrap_servers
        else:
            servers = exits.enter_context(KafkaCluster(home, nodes=1)).bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers, embedded=broker == "embedded", partitions=4)
        base = Settings(home=home, world="soak", kafka=kafka, registry=RegistrySettings(port=0))
        settings = exits.enter_context(registered(base))
        provision.apply(settings, historical=True)
        yield settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=20_000.0, help="ticks a second, of 40 symbols")
    parser.add_argument("--kills", type=int, default=10, help="of the gateway")
    parser.add_argument("--broker", choices=("kafka", "embedded"), default="kafka")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        place(chosen.broker, Path(folder)) as settings,
    ):
        result = run(settings, chosen.seconds, chosen.rate, chosen.kills, chosen.seed)
    console = Console()
    console.print(f"{result.ticks:,} ticks written, {result.delivered:,} delivered to {CLIENTS} clients")
    console.print(f"gateway killed {result.kills} times; {result.cut_off} connections cut, {result.resumed} resumed")
    for problem in result.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    console.print(f"{len(result.problems)} problems" if result.problems else "each client's ticks are the topic's")
    sys.exit(bool(result.problems))


if __name__ == "__main__":
    main()
