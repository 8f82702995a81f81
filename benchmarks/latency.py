"""From a tick's append in ticks.raw to its being visible, read_committed, in ticks.clean and in bars.live.

    python -m benchmarks.latency --rate 5000 --seconds 30

Starts a real Kafka of one node, an embedded registry and one worker. Times count from the call that sends the tick,
a little before its append, to the moment a reader has the record in hand; a reader of ticks.raw shows how much of
that is Kafka and the machine. Afterwards: what the worker uses when idle.
"""

from __future__ import annotations

import argparse
import io
import random
import threading
import time
from collections import deque
from typing import cast

import fastavro
import numpy as np
import psutil
from confluent_kafka import Producer, TopicPartition

from benchmarks.race import Spent
from benchmarks.stage import FEED, SHARD, SYMBOLS, Stage, controls, publish, stage
from infra import kafka as clients
from infra import topics
from infra.topics import Topic
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.definitions import parsed
from schemas.records import Control, ControlKind, LiveBars
from tests.support import Child

PARTITIONS = 4
"""What a world on one node has."""
WARM_UP_SECONDS = 45.0
"""Java compiles that long what a broker does all the time, on as many cores as it gets."""
IDLE_SECONDS = 15.0
_TURN_SECONDS = 0.002
_GATHERED, _GATHER_SECONDS = 1_000, 0.003
_WATERMARK_SECONDS = 0.1
_LAST_SECONDS = 2.0
"""How long after the last tick readers go on."""


Sent = dict[str, deque[tuple[tuple[int, int], float]]]
"""By symbol, each tick's time and ordinal, and when it was sent."""


class Reader(threading.Thread):
    """Notes when each record of a topic was in hand."""

    def __init__(self, place: Stage, topic: Topic) -> None:
        super().__init__(daemon=True)
        self._consumer = clients.consumer(
            place.settings.kafka, group="bench.latency", **{"auto.offset.reset": "earliest"}
        )
        name = World(place.settings.world).topic(topic.name)
        self._consumer.assign([TopicPartition(name, number, 0) for number in range(PARTITIONS)])
        self.seen: list[tuple[float, bytes]] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            # Together, since a call for each message has the threads wait for each other more than for Kafka.
            messages = self._consumer.consume(_GATHERED, _GATHER_SECONDS)
            now = time.time()
            self.seen += [(now, message.value()) for message in messages if message.error() is None]
        self._consumer.close()


def generate(place: Stage, producer: Producer, rate: float, seconds: float) -> Sent:
    """Send ticks at an even rate, and watermarks as a producer does."""
    header, schema = place.codec.headers["Tick"], parsed("Tick")
    draw = random.Random(7)  # noqa: S311 - prices, not secrets
    sent: Sent = {symbol: deque() for symbol in SYMBOLS}
    last: dict[str, tuple[int, int]] = {}
    start = marked = time.time()
    count = 0
    while (now := time.time()) < start + seconds:
        while count < (now - start) * rate:
            symbol, moment = draw.choice(SYMBOLS), time.time()
            ts = int(moment * 1_000)
            ordinal = last[symbol][1] + 1 if last.get(symbol, (0, 0))[0] == ts else 0
            last[symbol] = ts, ordinal
            datum = {"symbol": symbol, "ts_event": ts, "ordinal": ordinal, "bid": 1.1, "ask": 1.1002, "flags": 6}
            datum |= {"feed": FEED, "server_time": ts, "ts_recv": int(moment * 1e6)}
            out = io.BytesIO()
            out.write(header)
            fastavro.schemaless_writer(out, schema, datum)
            partition = clients.partition_for(symbol, PARTITIONS)
            producer.produce(place.raw, out.getvalue(), symbol, partition, timestamp=ts)
            sent[symbol].append((last[symbol], moment))
            count += 1
        if now > marked + _WATERMARK_SECONDS:
            marked, ts = now, int(now * 1_000) - 200
            value = place.codec.encode(Control(kind=ControlKind.WATERMARK, feed=FEED, shard=SHARD, time=ts))
            for partition in range(PARTITIONS):
                producer.produce(place.raw, value, f"@{FEED}/{SHARD}", partition, timestamp=ts)
        producer.poll(0)
        time.sleep(_TURN_SECONDS)
    producer.flush()
    return sent


def tick_latencies(place: Stage, reader: Reader, since: float) -> np.ndarray:
    """Of each tick, in ms."""
    frame = decode_batch([value for _, value in reader.seen], place.codec).frame
    sent = frame["ts_recv"].to_numpy() / 1e6
    seen = np.array([moment for moment, _ in reader.seen])[frame["index"].to_numpy()]
    return (seen - sent)[sent >= since] * 1_000


def live_latencies(place: Stage, reader: Reader, sent: Sent, since: float) -> np.ndarray:
    """Of each tick, in ms: the first record of its symbol that holds it shows it."""
    found = []
    for moment, value in reader.seen:
        live = cast("LiveBars", place.codec.decode(value))
        waiting = sent[live.symbol]
        while waiting and waiting[0][0] <= (live.last_ts, live.last_ordinal):
            at = waiting.popleft()[1]
            if at >= since:
                found.append((moment - at) * 1_000)
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=5_000.0, help="ticks a second, of 28 symbols")
    parser.add_argument("--seconds", type=float, default=30.0)
    chosen = parser.parse_args()
    with stage(PARTITIONS) as place:
        now = int(time.time() * 1_000)
        publish(place.settings, controls(place.codec, now))
        with Child(place.settings, "processor") as child:
            readers = {
                topic.name: Reader(place, topic) for topic in (topics.TICKS_RAW, topics.TICKS_CLEAN, topics.BARS_LIVE)
            }
            for reader in readers.values():
                reader.start()
            process = psutil.Process(child.process.pid)
            producer = clients.producer(place.settings.kafka)
            generate(place, producer, chosen.rate, WARM_UP_SECONDS)
            since, before = time.time(), Spent.of(process)
            sent = generate(place, producer, chosen.rate, chosen.seconds)
            busy = Spent.of(process).since(before)
            time.sleep(_LAST_SECONDS)
            for reader in readers.values():
                reader.over.set()
                reader.join()
            before = Spent.of(process)
            time.sleep(IDLE_SECONDS)
            idle = Spent.of(process).since(before)
            times = {
                topics.TICKS_RAW.name: tick_latencies(place, readers[topics.TICKS_RAW.name], since),
                topics.TICKS_CLEAN.name: tick_latencies(place, readers[topics.TICKS_CLEAN.name], since),
                topics.BARS_LIVE.name: live_latencies(place, readers[topics.BARS_LIVE.name], sent, since),
            }
    print(f"{chosen.rate:,.0f} ticks/s for {chosen.seconds:.0f} s, {PARTITIONS} partitions; ms from send to sight")
    for name, found in times.items():
        p50, p99, worst = np.percentile(found, [50, 99, 100])
        print(f"{name:12} p50 {p50:6.1f}   p99 {p99:6.1f}   most {worst:6.1f}   {len(found):,} ticks")
    print(f"CPU of the worker: {busy:.0%} of a core busy, {idle:.1%} idle")


if __name__ == "__main__":
    main()
