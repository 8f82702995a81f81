"""Real ticks of many symbols into ``ticks.clean`` at an even rate, each numbered in its ``volume``.

    python -m tests.acceptance.gateway_load --rate 20000 --seconds 60

The world comes from the environment, as for a component. Written in transactions, as the processor does, unless told
otherwise; ``ts_recv`` is when a tick was, or was to be, handed to Kafka's client.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from infra import kafka as clients
from infra import provision
from infra.registry.client import connect
from infra.settings import Settings, load
from infra.topics import SYMBOLS, TICKS_CLEAN
from infra.worlds import World
from producers.encoding import TickColumns, encode_ticks, ordinals
from producers.files import lean
from producers.terminal import Ticks
from schemas.codec import Codec
from schemas.records import SymbolSpec
from tests.acceptance.oracle import DATA

FEED = "oanda"
COUNT = 40
WEEK = 7 * 86_400_000
_APART = 97
"""Ticks by which one symbol is ahead of the one before it: no two are alike."""
_TURN_SECONDS = 0.05
_ENCODE_SECONDS, _PAUSE_SECONDS = 50e-6, 0.001


def names() -> list[str]:
    return [f"REAL.{number:02}" for number in range(COUNT)]


def recorded() -> list[Ticks]:
    """The real ticks there are of each symbol."""
    folders = sorted(DATA.rglob("tick/*"))
    return [
        np.concatenate([day.load().ticks for path in sorted(folder.glob("*.zip")) if (day := lean.recognise(path))])
        for folder in folders
    ]


def all_series(ticks: Sequence[Ticks], header: bytes) -> list[Series]:
    """Each symbol's, all from the same hours on, as in a market: no replay plays days in which one is alone."""
    start = max(each["time_msc"][0] for each in ticks)
    return [
        Series(name, ticks[number % len(ticks)], start, number * _APART, header) for number, name in enumerate(names())
    ]


class Series:
    """The ticks of one symbol, for ever, from some ticks after a moment on."""

    def __init__(self, symbol: str, ticks: Ticks, start: int, skip: int, header: bytes) -> None:
        self.symbol = symbol
        self._header = header
        self._ticks = ticks
        self._from = int(np.searchsorted(ticks["time_msc"], start)) + skip
        self.sent = 0
        self._last = (-1, -1)
        """Time and ordinal of the last tick: the next one may be of the same millisecond."""

    def take(self, received: NDArray[np.int64]) -> list[tuple[bytes, int]]:
        """The next ticks, received when it is said, as messages with their times."""
        count = len(received)
        index = np.arange(self.sent, self.sent + count) + self._from
        around, place = np.divmod(index, len(self._ticks))
        found = self._ticks[place]
        times = found["time_msc"].astype(np.int64) + around * WEEK
        nothing = np.zeros(count)
        numbers = ordinals(times, self._last[1] + 1 if times[0] == self._last[0] else 0)
        self._last = int(times[-1]), int(numbers[-1])
        columns = TickColumns(
            ts_event=times, ordinal=numbers, bid=found["bid"].copy(), ask=found["ask"].copy(), last=nothing,
            volume=index.astype(float) - self._from, flags=np.full(count, 6, np.int64), server_time=times,
            ts_recv=received,
        )  # fmt: skip
        self.sent += count
        values = encode_ticks(columns, header=self._header, symbol=self.symbol, feed=FEED)
        return list(zip(values, times.tolist(), strict=True))


def introduce(settings: Settings, codec: Codec, producer: Producer) -> None:
    """Write each symbol's spec, so that the gateway knows it."""
    topic, partitions = World(settings.world).topic(SYMBOLS.name), provision.partitions(settings)
    for symbol in names():
        spec = SymbolSpec(symbol=symbol, feed=FEED, shard="a", broker_name=symbol, digits=5, point=1e-5)
        producer.produce(topic, codec.encode(spec), symbol, clients.partition_for(symbol, partitions))
    producer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20_000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--plain", action="store_true", help="without transactions, each tick when it is due, encoded before"
    )
    chosen = parser.parse_args()
    settings = load()
    codec = connect(settings)
    market = all_series(recorded(), codec.headers["Tick"])
    (_plainly if chosen.plain else _in_transactions)(settings, market, chosen.rate, chosen.seconds)


def _in_transactions(settings: Settings, market: Sequence[Series], rate: float, seconds: float) -> None:
    topic, partitions = World(settings.world).topic(TICKS_CLEAN.name), provision.partitions(settings)
    producer = clients.producer(settings.kafka, transactional_id=f"load-{settings.world}", **{"linger.ms": 1})
    producer.init_transactions(30)
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        producer.begin_transaction()
        for series in market:
            due = int(passed * rate / COUNT) - series.sent
            partition = clients.partition_for(series.symbol, partitions)
            for value, moment in series.take(np.full(due, time.time_ns() // 1_000)) if due > 0 else ():
                producer.produce(topic, value, series.symbol, partition, timestamp=moment)
                producer.poll(0)
        producer.commit_transaction(30)
        time.sleep(max(0.0, _TURN_SECONDS - (time.monotonic() - start - passed)))
    producer.flush()


def _plainly(settings: Settings, market: Sequence[Series], rate: float, seconds: float) -> None:
    topic, partitions = World(settings.world).topic(TICKS_CLEAN.name), provision.partitions(settings)
    producer = clients.producer(settings.kafka, transactional_id=None, **{"linger.ms": 1})
    count = int(rate * seconds / COUNT)
    start = time.time() + count * COUNT * _ENCODE_SECONDS
    ready = []
    for number, series in enumerate(market):
        due = start + (np.arange(count) * COUNT + number) / rate
        messages = series.take((due * 1e6).astype(np.int64))
        partition = clients.partition_for(series.symbol, partitions)
        ready += [(at, series.symbol, partition, *each) for at, each in zip(due.tolist(), messages, strict=True)]
    for at, symbol, partition, value, moment in sorted(ready):
        while (early := at - time.time()) > 0:
            time.sleep(max(early, _PAUSE_SECONDS))
        producer.produce(topic, value, symbol, partition, timestamp=moment)
        producer.poll(0)
    producer.flush()


if __name__ == "__main__":
    main()
