"""How fast a shard collects from a terminal that answers at once, against a bare produce loop in the same run.

    python -m benchmarks.terminal [--ticks 1000000] [--symbols 10] [--rounds 3]

Both write the same messages to the same partitions, in turn. Starts a real Kafka of one node (Java, and KAFKA_HOME or
Maven) and an embedded registry.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from statistics import median
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
from confluent_kafka import Producer

from benchmarks.stage import stage
from infra import kafka as clients
from infra.kafka import partition_for
from infra.market.zones import ServerZone
from infra.settings import ProducerSettings
from infra.symbols import Symbols
from producers.clock import RealClock
from producers.cursor import Cursor
from producers.encoding import columns, encode_ticks
from producers.poll import Poller
from producers.publisher import Publisher
from producers.shard import Shard
from producers.terminal import TICK_DTYPE, Terminal, Ticks

ZONE: Final = ServerZone.parse("New_York+7")
HOUR: Final = 3_600_000
PARTITIONS: Final = 4
FEED: Final = "bench"

Message = tuple[bytes, bytes, int, int]
"""Key, value, partition, UTC milliseconds."""


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

    def copy_ticks_range(self, symbol: str, first: int, last: int, _flags: int) -> Ticks:
        ticks = self._history[symbol]
        start, end = np.searchsorted(ticks["time_msc"], [first * 1_000, last * 1_000 + 1])
        return ticks[start:end]


def history(symbols: int, ticks: int, begin: int) -> dict[str, Ticks]:
    """So many ticks of each symbol within an hour, and one of the day before, on the server's clock."""
    chance = np.random.default_rng(1)
    found = {}
    for number in range(symbols):
        rows = np.zeros(ticks, TICK_DTYPE)
        times = np.sort(chance.integers(begin, begin + HOUR, ticks))
        times[0] = begin - 24 * HOUR
        rows["time_msc"] = ZONE.to_server(times)
        rows["time"] = rows["time_msc"] // 1_000
        rows["bid"] = 1.1 + np.cumsum(chance.integers(-1, 2, ticks)) / 1e5
        rows["ask"] = rows["bid"] + 0.0001
        rows["flags"] = 6
        found[f"SYM{number}"] = rows
    return found


def messages(data: dict[str, Ticks], header: bytes) -> list[Message]:
    """What a shard makes of ``data``."""
    now, found = time.time_ns() // 1_000, list[Message]()
    for symbol, everything in data.items():
        ticks = everything[1:]
        table = columns(ticks, ZONE.to_utc(ticks["time_msc"]), 0, now)
        values = encode_ticks(table, header=header, symbol=symbol, feed=FEED)
        key, partition = symbol.encode(), partition_for(symbol, PARTITIONS)
        found += [(key, value, partition, at) for value, at in zip(values, table.ts_event.tolist(), strict=True)]
    return found


def bare(producer: Producer, topic: str, messages: Sequence[Message]) -> None:
    """The loop that nothing in Python can be faster than."""
    produce = producer.produce
    for key, value, partition, moment in messages:
        while True:
            try:
                produce(topic, value, key, partition, None, None, moment)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def collect(publisher: Publisher, data: dict[str, Ticks], begin: int) -> None:
    """One poll of a shard that has everything before it, until Kafka has acknowledged it all."""
    terminal = cast("Terminal", InstantTerminal(data))
    wanted = ProducerSettings(patience_seconds=0.0)
    shard = Shard(terminal, ZONE, RealClock(), publisher, wanted, Symbols({}), threading.Event())
    Poller(shard, {symbol: Cursor(begin - 1) for symbol in data}, {symbol: symbol for symbol in data}).cycle()
    while not publisher.flush(1.0):
        pass


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this process' processor time, librdkafka's threads included."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    begin = time.time_ns() // 1_000_000 - HOUR
    data = history(given.symbols, given.ticks // given.symbols, begin)
    with stage(PARTITIONS) as place:
        publisher = Publisher(place.settings, place.codec, threading.Event(), feed=FEED, shard="bench")
        producer = clients.producer(place.settings.kafka)
        ready = messages(data, place.codec.headers["Tick"])
        count = len(ready)
        rounds = [
            (timed(lambda: collect(publisher, data, begin)), timed(lambda: bare(producer, place.raw, ready)))
            for _ in range(given.rounds)
        ]
        publisher.close()
    for name, number in (("collect and publish", 0), ("bare produce loop", 1)):
        seconds, cpu = (median(times[number][of] for times in rounds) for of in (0, 1))
        print(f"{name:<20}{count / seconds:>10,.0f} ticks/s {cpu / count * 1e6:>6.2f} us of CPU a tick")
    ratios = sorted(theirs[0] / ours[0] for ours, theirs in rounds)
    print(f"of the bare loop's rate: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
