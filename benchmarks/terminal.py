"""How fast a shard collects from a terminal that answers at once, against a bare produce loop in the same run.

    python -m benchmarks.terminal [--ticks 1000000] [--symbols 10]

Needs a broker: ARBITREX_KAFKA__BOOTSTRAP_SERVERS, or the stack that runs here. It publishes into a world of its own and
drops it.
"""

from __future__ import annotations

import argparse
import threading
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from benchmarks.producer import bare
from infra import kafka as clients
from infra import provision
from infra.market.zones import ServerZone
from infra.settings import load
from infra.supervisor.runfile import attached
from infra.symbols import Symbols
from infra.topics import TICKS_RAW
from infra.worlds import World
from producers.clock import RealClock
from producers.cursor import Cursor
from producers.encoding import encode_ticks
from producers.poll import Poller, columns
from producers.publisher import Publisher
from producers.shard import Shard
from producers.terminal import TICK_DTYPE, Terminal, Ticks
from schemas.codec import Codec
from schemas.registry import Registry

ZONE = ServerZone.parse("New_York+7")
HOUR = 3_600_000


class InstantTerminal:
    """Has everything in memory."""

    def __init__(self, history: dict[str, Ticks]) -> None:
        self._history = history
        self._ends = {symbol: SimpleNamespace(time_msc=int(ticks["time_msc"][-1])) for symbol, ticks in history.items()}

    def terminal_info(self) -> Any:
        return SimpleNamespace(connected=True)

    def symbol_info_tick(self, symbol: str) -> Any:
        return self._ends[symbol]

    def copy_ticks_from(self, symbol: str, second: int, count: int, _flags: int) -> Ticks:
        ticks = self._history[symbol]
        start = int(np.searchsorted(ticks["time"], second))
        return ticks[start : start + count]


def history(symbols: int, ticks: int, begin: int) -> dict[str, Ticks]:
    """So many ticks of each symbol within the last hour, on the server's clock."""
    chance = np.random.default_rng(1)
    found = {}
    for number in range(symbols):
        rows = np.zeros(ticks, TICK_DTYPE)
        rows["time_msc"] = ZONE.to_server(np.sort(chance.integers(begin, begin + HOUR, ticks)))
        rows["time"] = rows["time_msc"] // 1_000
        rows["bid"] = 1.1 + np.cumsum(chance.integers(-1, 2, ticks)) / 1e5
        rows["ask"] = rows["bid"] + 0.0001
        rows["flags"] = 6
        found[f"SYM{number}"] = rows
    return found


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this process' processor time."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--symbols", type=int, default=10)
    given = parser.parse_args()
    settings = attached(load(world=f"bench-{uuid.uuid4().hex[:8]}"))
    provision.apply(settings, historical=True)
    registry = Registry(settings.registry.url)
    registry.register_all()
    codec = Codec(registry)
    begin = time.time_ns() // 1_000_000 - HOUR
    data = history(given.symbols, given.ticks // given.symbols, begin)
    count = sum(map(len, data.values()))
    try:
        publisher = Publisher(settings, codec, threading.Event(), feed="bench", shard="bench")
        terminal = cast("Terminal", InstantTerminal(data))

        def collect() -> None:
            wanted = settings.producer.model_copy(update={"patience_seconds": 0.0, "reread_minutes": 0.0})
            shard = Shard(terminal, ZONE, RealClock(), publisher, wanted, Symbols({}), threading.Event())
            Poller(shard, {symbol: Cursor(begin - 1) for symbol in data}, {symbol: symbol for symbol in data}).cycle()
            while not publisher.flush(1.0):
                pass

        tables = [columns(ticks, ZONE.to_utc(ticks["time_msc"]), 0) for ticks in data.values()]
        header = codec.headers["Tick"]
        values = [v for t in tables for v in encode_ticks(t, header=header, symbol="EURUSD", feed="bench")]
        times = [moment for table in tables for moment in table.ts_event.tolist()]
        producer = clients.producer(settings.kafka)
        topic = World(settings.world).topic(TICKS_RAW.name)
        rounds = [(timed(collect), timed(lambda: bare(producer, topic, values, times))) for _ in range(3)]
        publisher.close()
    finally:
        for future in clients.admin(settings.kafka).delete_topics(provision.world_topics(settings)).values():
            future.result(30)
    (seconds, cpu), (bare_seconds, bare_cpu) = (min(each) for each in zip(*rounds, strict=True))
    print(f"collect and publish {count / seconds:>12,.0f} ticks/s {cpu / count * 1e6:>8.2f} us of CPU a tick")
    print(f"bare produce loop   {count / bare_seconds:>12,.0f} ticks/s {bare_cpu / count * 1e6:>8.2f} us of CPU a tick")
    print(f"a shard collects at {bare_seconds / seconds:.2f} of the bare loop's rate")


if __name__ == "__main__":
    main()
