"""From a tick's append in ticks.raw to its being visible, read_committed, in ticks.clean and in bars.live.

    python -m benchmarks.latency --rate 5000 --seconds 30

Starts a real Kafka of one node, an embedded registry and one worker. Times count from the call that sends the tick,
a little before its append, to the moment a reader has the record in hand. How much of that is Kafka and the machine a
reader of ticks.raw shows afterwards, at the same rate, since it would slow what is measured. Ticks are encoded before.
Last: what the worker uses when idle.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import deque
from typing import Any, cast

import numpy as np
import psutil
from confluent_kafka import OFFSET_END, TopicPartition
from numpy.typing import NDArray

from benchmarks.race import Spent
from benchmarks.stage import BROKER_WARM_UP_SECONDS, FEED, SHARD, SYMBOLS, Stage, columns, controls, publish, stage
from infra import kafka as clients
from infra import topics
from infra.topics import Topic
from infra.worlds import World
from producers.encoding import encode_ticks
from schemas.batch import decode_batch
from schemas.records import Control, ControlKind, LiveBars
from tests.support import Child

PARTITIONS = 4
"""What a world on one node has."""
IDLE_SECONDS = 15.0
_TURN_SECONDS = 0.002
_ENCODE_SECONDS = 20e-6
"""What a tick takes at most to be encoded beforehand."""
_GATHERED, _LOOK_SECONDS = 1_000, 0.1
_WATERMARK_SECONDS = 0.1
_SETTLE_SECONDS = 2.0
"""How long readers go along before they count."""
_LAST_SECONDS = 2.0
"""How long after the last tick they go on."""

Floats = NDArray[np.float64]


class Reader(threading.Thread):
    """Notes when each record of a topic was in hand."""

    def __init__(self, place: Stage, topic: Topic) -> None:
        super().__init__(daemon=True)
        self._consumer = clients.consumer(
            place.settings.kafka, group="bench.latency", **{"auto.offset.reset": "latest"}
        )
        name = World(place.settings.world).topic(topic.name)
        self._consumer.assign([TopicPartition(name, number, OFFSET_END) for number in range(PARTITIONS)])
        self.seen: list[tuple[float, bytes]] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            if (first := self._consumer.poll(_LOOK_SECONDS)) is None:
                continue
            now = time.time()
            # Together, since a call for each message has the threads wait for each other more than for Kafka.
            messages = [first, *self._consumer.consume(_GATHERED, 0)]
            self.seen += [(now, message.value()) for message in messages if message.error() is None]
        self._consumer.close()


class Sender:
    """Sends ticks at an even rate, and watermarks as a producer does."""

    def __init__(self, place: Stage, rate: float, seconds: float) -> None:
        self._place, self._step, count = place, 1 / rate, int(rate * seconds)
        self._producer = clients.producer(place.settings.kafka)
        self._sent = np.zeros(count)
        self._begin = time.time() + count * _ENCODE_SECONDS
        draw = np.random.default_rng(7)
        which = draw.integers(0, len(SYMBOLS), count)
        moments = self._begin + np.arange(count) * self._step
        self._due: list[tuple[int, int, str, bytes, int]] = []
        for at, symbol in enumerate(SYMBOLS):
            mine = np.flatnonzero(which == at)
            times, points = (
                (moments[mine] * 1_000).astype(np.int64),
                110_000 + np.cumsum(draw.choice((-1, 1), len(mine))),
            )
            ticks = columns(times, points, np.rint(moments[mine] * 1e6).astype(np.int64))
            values = encode_ticks(ticks, header=place.codec.headers["Tick"], symbol=symbol, feed=FEED)
            partition = clients.partition_for(symbol, PARTITIONS)
            self._due += [
                (number, partition, symbol, value, ts)
                for number, value, ts in zip(mine.tolist(), values, ticks.ts_event.tolist(), strict=True)
            ]
        self._due.sort()
        self._next = 0

    def send(self, seconds: float) -> float:
        """Send what is due within the next seconds; since when (UTC seconds)."""
        time.sleep(max(0.0, self._begin - time.time()))
        start = time.time()
        marked, raw = 0.0, self._place.raw
        while (now := time.time()) < start + seconds:
            due = min(int((now - self._begin) / self._step), len(self._due))
            for number, partition, symbol, value, ts in self._due[self._next : due]:
                self._producer.produce(raw, value, symbol, partition, None, None, ts)
                self._sent[number] = now
            self._next = due
            if now > marked + _WATERMARK_SECONDS:
                marked = now
                self._mark(int(now * 1_000) - 200)
            self._producer.poll(0)
            time.sleep(_TURN_SECONDS)
        self._producer.flush()
        return start

    def sent(self, ts_recv: Floats) -> Floats:
        """When ticks were sent (UTC seconds), by the receipt (microseconds) that stands in them."""
        return self._sent[np.rint((ts_recv / 1e6 - self._begin) / self._step).astype(np.int64)]

    def _mark(self, ts: int) -> None:
        value = self._place.codec.encode(Control(kind=ControlKind.WATERMARK, feed=FEED, shard=SHARD, time=ts))
        for partition in range(PARTITIONS):
            self._producer.produce(self._place.raw, value, f"@{FEED}/{SHARD}", partition, timestamp=ts)


def tick_latencies(place: Stage, reader: Reader, sender: Sender, since: float) -> Floats:
    """Of each tick, in ms."""
    frame = decode_batch([value for _, value in reader.seen], place.codec).frame
    sent = sender.sent(frame["ts_recv"].to_numpy().astype(np.float64))
    seen = np.array([moment for moment, _ in reader.seen])[frame["index"].to_numpy()]
    return (seen - sent)[sent >= since] * 1_000


def live_latencies(place: Stage, reader: Reader, ticks: Reader, sender: Sender, since: float) -> Floats:
    """Of each tick that a reader of ``ticks`` had, in ms: the first record of its symbol that holds it shows it."""
    waiting: dict[str, deque[tuple[Any, ...]]] = {symbol: deque() for symbol in SYMBOLS}
    frame = decode_batch([value for _, value in ticks.seen], place.codec).frame
    for symbol, *tick in frame.select("symbol", "ts_event", "ordinal", "ts_recv").iter_rows():
        waiting[symbol].append(tuple(tick))
    found, moments = [], []
    for moment, value in reader.seen:
        live = cast("LiveBars", place.codec.decode(value))
        mine = waiting[live.symbol]
        while mine and mine[0][:2] <= (live.last_ts, live.last_ordinal):
            found.append(mine.popleft()[2])
            moments.append(moment)
    sent = sender.sent(np.array(found, np.float64))
    return (np.array(moments) - sent)[sent >= since] * 1_000


def read(
    place: Stage, sender: Sender, seconds: float, process: psutil.Process, *names: Topic
) -> tuple[float, float, list[Reader]]:
    """Send for some seconds, with readers of these topics; since when, what the process took, and the readers."""
    readers = [Reader(place, topic) for topic in names]
    for reader in readers:
        reader.start()
    sender.send(_SETTLE_SECONDS)
    before = Spent.of(process)
    since = sender.send(seconds)
    busy = Spent.of(process).since(before)
    time.sleep(_LAST_SECONDS)
    for reader in readers:
        reader.over.set()
        reader.join()
    return since, busy, readers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=5_000.0, help="ticks a second, of 28 symbols")
    parser.add_argument("--seconds", type=float, default=30.0)
    chosen = parser.parse_args()
    with stage(PARTITIONS) as place:
        publish(place.settings, controls(place.codec, int(time.time() * 1_000)))
        with Child(place.settings, "processor") as child:
            process = psutil.Process(child.process.pid)
            needed = BROKER_WARM_UP_SECONDS + 2 * (chosen.seconds + _SETTLE_SECONDS + _LAST_SECONDS) + 1
            sender = Sender(place, chosen.rate, needed)
            sender.send(BROKER_WARM_UP_SECONDS)
            since, busy, (clean, live) = read(
                place, sender, chosen.seconds, process, topics.TICKS_CLEAN, topics.BARS_LIVE
            )
            then, _, (raw,) = read(place, sender, chosen.seconds, process, topics.TICKS_RAW)
            before = Spent.of(process)
            time.sleep(IDLE_SECONDS)
            idle = Spent.of(process).since(before)
            times = {
                topics.TICKS_RAW.name: tick_latencies(place, raw, sender, then),
                topics.TICKS_CLEAN.name: tick_latencies(place, clean, sender, since),
                topics.BARS_LIVE.name: live_latencies(place, live, clean, sender, since),
            }
    print(f"{chosen.rate:,.0f} ticks/s for {chosen.seconds:.0f} s, {PARTITIONS} partitions; ms from send to sight")
    for name, found in times.items():
        p50, p99, worst = np.percentile(found, [50, 99, 100])
        print(f"{name:12} p50 {p50:6.1f}   p99 {p99:6.1f}   most {worst:6.1f}   {len(found):,} ticks")
    print(f"CPU of the worker: {busy:.0%} of a core busy, {idle:.1%} idle")


if __name__ == "__main__":
    main()
