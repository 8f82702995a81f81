"""How fast the processor catches up, beside what the same broker gives a bare consumer of the same topic.

    python -m benchmarks.processor --ticks 1000000 --partitions 8

Starts a real Kafka of one node (Java, and KAFKA_HOME or Maven), an embedded registry, and one worker.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import TopicPartition

from infra import kafka as clients
from infra import provision, topics
from infra.brokers.kafka import KafkaCluster
from infra.kafka_log import read_to_end
from infra.market.calendar import parse_calendar
from infra.registry.client import connect
from infra.settings import KafkaSettings, RegistrySettings, Settings
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Control, ControlKind, SymbolSpec, Tick
from tests.support import Child

SYMBOLS = [f"SYM{number:02}" for number in range(28)]
FEED, SHARD = "bench", "a"
START_MS = 1_750_000_000_000
STEP_MS = 20
"""Between two ticks of all symbols together: two a second for each."""
COUNTER = "arbitrex_records_processed_total "


def controls(codec: Codec) -> Iterator[tuple[str, bytes, int]]:
    calendar = parse_calendar("24/7").to_json()
    for symbol in SYMBOLS:
        spec = SymbolSpec(
            symbol=symbol, feed=FEED, shard=SHARD, broker_name=symbol, digits=5, point=1e-5, calendar=calendar
        )
        for kind, content in ((ControlKind.SYMBOL_SPEC, spec), (ControlKind.COVERAGE, None)):
            control = Control(kind=kind, feed=FEED, shard=SHARD, symbol=symbol, time=START_MS, spec=content)
            yield symbol, codec.encode(control), START_MS


def ticks(codec: Codec, count: int) -> Iterator[tuple[str, bytes, int]]:
    draw = random.Random(7)  # noqa: S311 - prices, not secrets
    bids = dict.fromkeys(SYMBOLS, 1.1)
    for number in range(count):
        symbol, time_ms = draw.choice(SYMBOLS), START_MS + 1 + number * STEP_MS
        bid = bids[symbol] = round(bids[symbol] + draw.choice((-1e-5, 1e-5)), 5)
        tick = Tick(
            symbol=symbol,
            ts_event=time_ms,
            ordinal=0,
            bid=bid,
            ask=round(bid + 1e-4, 5),
            flags=6,
            feed=FEED,
            server_time=time_ms,
            ts_recv=time_ms * 1000,
        )
        yield symbol, codec.encode(tick), time_ms


def fill(settings: Settings, codec: Codec, topic: str, count: int, partitions: int) -> int:
    producer = clients.producer(settings.kafka)
    total = 0
    for records in (controls(codec), ticks(codec, count)):
        for symbol, value, time_ms in records:
            partition = clients.partition_for(symbol, partitions)
            while True:
                try:
                    producer.produce(topic, value, symbol, partition, timestamp=time_ms)
                    break
                except BufferError:
                    producer.poll(0.1)
            total += 1
    producer.flush()
    return total


def consume(settings: Settings, topic: str, partitions: int) -> float:
    """Records a second that a bare consumer gets."""
    start, count = time.perf_counter(), 0
    for messages in read_to_end(settings.kafka, [TopicPartition(topic, number, 0) for number in range(partitions)]):
        count += len(messages)
    return count / (time.perf_counter() - start)


def catch_up(settings: Settings, total: int) -> float:
    """Records a second of one worker, from its being ready to its last commit."""
    with Child(settings, "processor") as child:
        start = time.perf_counter()
        url = f"http://127.0.0.1:{child.ready['status_port']}/metrics"
        done = 0.0
        while done < total:
            time.sleep(0.05)
            with urllib.request.urlopen(url) as response:
                lines = response.read().decode().splitlines()
            done = next(float(line.removeprefix(COUNTER)) for line in lines if line.startswith(COUNTER))
        return total / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with KafkaCluster(home, nodes=1) as cluster:
            kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers, partitions=chosen.partitions)
            base = Settings(home=home, kafka=kafka, registry=RegistrySettings(port=0))
            with Child(base, "registry") as registry:
                settings = base.model_copy(
                    update={"world": "bench", "registry": RegistrySettings(url=registry.ready["url"], port=0)}
                )
                provision.apply(settings, historical=True)
                topic = World(settings.world).topic(topics.TICKS_RAW.name)
                total = fill(settings, connect(settings), topic, chosen.ticks, chosen.partitions)
                raw = consume(settings, topic, chosen.partitions)
                processed = catch_up(settings, total)
    print(f"{total:,} records, {chosen.partitions} partitions")
    print(f"raw consume   {raw:>12,.0f} /s")
    print(f"processor     {processed:>12,.0f} /s   {processed / raw:.0%} of it")


if __name__ == "__main__":
    main()
