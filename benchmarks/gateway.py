"""From a tick's append in Kafka to its being in a client's hand, over the gateway, with and without clients that hang.

    python -m benchmarks.gateway --rate 5000 --seconds 20 --rounds 3

Starts a real Kafka of one node, a registry, a gateway, and a producer of real ticks of 40 symbols. All clients follow
all of them; some are measured, the others only read. Those that hang have asked to be skipped, so that they stay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from statistics import median
from typing import NamedTuple

import aiohttp
import numpy as np
import orjson
import psutil

from benchmarks.fanout import Reader
from benchmarks.stage import BROKER_WARM_UP_SECONDS, stage
from infra import kafka as clients
from infra.settings import GatewaySettings, Settings
from tests.acceptance.gateway_load import introduce
from tests.acceptance.oracle import DATA
from tests.support import ROOT, Child, environment

MEASURED = 5
PARTITIONS = 4
_HEAD = 100
"""Characters of a message in which its channel stands."""
WARM_UP_SECONDS = 5.0
FIRST_TICK_SECONDS = 120
"""Within which the first tick has to come: the load reads its files first, and other programs may run."""
EVERYTHING = json.dumps({"method": "subscribe", "params": {"channel": "ticks", "symbol": "*", "snapshot": False}})
_UPGRADE = (
    b"GET /v1/ws?slow=skip HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASKED = bytes([0x81, 0x80 | len(EVERYTHING), 0, 0, 0, 0])


class Measured:
    """Clients that say when each tick was in their hand."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []
        """Messages and when they came; what is in them is looked at afterwards."""
        self.began = asyncio.Event()

    async def read(self, http: aiohttp.ClientSession) -> str:
        """Until cancelled, or until the gateway closes the connection; why."""
        error = "no reason"
        async with http.ws_connect("/v1/ws", max_msg_size=0) as connection:
            await connection.send_str(EVERYTHING)
            async for message in connection:
                self.heard.append((time.time(), message.data))
                if '"channel":"ticks"' in message.data[:_HEAD]:
                    self.began.set()
                elif '"error"' in message.data:
                    error = message.data
        return f"a client that was measured was closed ({connection.close_code}): {error}"

    def latencies(self) -> tuple[int, list[float]]:
        """How many messages with ticks were heard, and how long each of their ticks took, in seconds."""
        found = [(now, orjson.loads(data)) for now, data in self.heard]
        ticks = [(now, message["data"]) for now, message in found if message.get("channel") == "ticks"]
        return len(ticks), [now - row["ts_recv"] / 1e6 for now, rows in ticks for row in rows]


def deaf(url: str) -> socket.socket:
    """A client that subscribes and never reads."""
    address = aiohttp.client.URL(url)
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    found.connect((address.host, address.port))
    found.sendall(_UPGRADE)
    time.sleep(0.01)
    found.sendall(_MASKED + EVERYTHING.encode())
    return found


def load(settings: Settings, rate: float, seconds: float) -> tuple[list[str], dict[str, str]]:
    """The command that writes ticks for some seconds, and its environment."""
    command = ["-m", "tests.acceptance.gateway_load", "--plain", "--rate", str(rate), "--seconds", str(seconds)]
    return [sys.executable, *command], environment(settings) | {"ARBITREX_TEST_DATA": str(DATA.parent)}


class Found(NamedTuple):
    """What clients saw, in milliseconds, and what it took."""

    p50: float
    p99: float
    most: float
    frames: float
    """A second, each."""
    cpu: float
    megabytes: float

    def __str__(self) -> str:
        return (
            f"p50 {self.p50:5.1f}  p99 {self.p99:5.1f}  most {self.most:6.1f} ms; {self.frames:,.0f} frames/s each; "
            f"gateway {self.cpu:.0%} of a core, {self.megabytes:,.0f} MB"
        )


async def measure(settings: Settings, rate: float, seconds: float, good: int, hanging: int) -> Found:
    """With so many clients that read, and so many that do not."""
    command, env = load(settings, rate, seconds + WARM_UP_SECONDS)
    with Child(settings, "gateway") as child:
        url, process = child.ready["url"], psutil.Process(child.process.pid)
        deaf_ones = [await asyncio.to_thread(deaf, url) for _ in range(hanging)]
        several = Measured()
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
            reading = [asyncio.create_task(several.read(http)) for _ in range(MEASURED)]
            loop, place = asyncio.get_running_loop(), aiohttp.client.URL(url)
            others = [
                (await loop.create_connection(lambda: Reader("json", follow="*"), place.host, place.port))[0]
                for _ in range(good - MEASURED)
            ]
            writer = await asyncio.create_subprocess_exec(*command, env=env, cwd=ROOT)
            ended = asyncio.create_task(writer.wait())
            first = asyncio.create_task(several.began.wait())
            await asyncio.wait((first, ended), timeout=FIRST_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                raise SystemExit(f"no tick within {FIRST_TICK_SECONDS} s; see what load and gateway say above")
            await asyncio.sleep(WARM_UP_SECONDS)
            several.heard.clear()
            before = process.cpu_times()
            await asyncio.sleep(seconds - 1)
            after = process.cpu_times()
            memory = process.memory_info().rss / 1e6
            if over := [task.result() for task in reading if task.done()]:
                raise SystemExit(over[0])
            if any(other.is_closing() for other in others):
                raise SystemExit("clients that only read were closed, so this is no measurement of all of them")
            for task in reading:
                task.cancel()
            for other in others:
                other.close()
            if await ended:
                raise SystemExit("the ticks could not be written; the load says why above")
        for each in deaf_ones:
            each.close()
    frames, latencies = several.latencies()
    p50, p99, most = np.percentile(np.array(latencies) * 1_000, [50, 99, 100])
    cpu = (after.user + after.system - before.user - before.system) / (seconds - 1)
    return Found(p50, p99, most, frames / (seconds - 1) / MEASURED, cpu, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=5_000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with stage(PARTITIONS) as place:
        settings = place.settings.model_copy(update={"gateway": GatewaySettings(port=0, max_connections=10_000)})
        introduce(settings, place.codec, clients.producer(settings.kafka))
        print(f"{chosen.rate:,.0f} ticks/s")
        command, env = load(settings, chosen.rate, BROKER_WARM_UP_SECONDS)
        subprocess.run(command, env=env, cwd=ROOT, check=True)
        found: dict[tuple[int, int], list[Found]] = {(100, 0): [], (50, 0): [], (50, 50): []}
        for _ in range(chosen.rounds):
            for (good, hanging), each in found.items():
                each.append(asyncio.run(measure(settings, chosen.rate, chosen.seconds, good, hanging)))
                print(f"{good:4} read, {hanging:3} hang: {each[-1]}")
        print("medians")
        for (good, hanging), each in found.items():
            print(f"{good:4} read, {hanging:3} hang: {Found(*map(median, zip(*each, strict=True)))}")


if __name__ == "__main__":
    main()
