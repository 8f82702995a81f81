"""Catching up into the lake, beside bare consume + decode + Parquet of the same topic in the same run.

    python -m benchmarks.sinks [--ticks 1000000] [--bootstrap-servers HOST:PORT]

Without an address an embedded broker is started. Ratios are firmer than figures.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, closing
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from confluent_kafka import TopicPartition

from infra import kafka as clients
from infra import kafka_log, provision
from infra.brokers.embedded import EmbeddedBroker
from infra.lake.layout import TICKS
from infra.lake.tables import table_uri
from infra.settings import KafkaSettings, Settings
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.definitions import NAMES, Schema, definition
from schemas.records import Tick
from sinks.lake import LakeSink
from sinks.runner import Runner

SYMBOLS = [f"SYM{number:02}" for number in range(28)]


class LocalStore:
    """A registry's part without a registry."""

    def id_of(self, name: str) -> int:
        return NAMES.index(name) + 1

    def schema_of(self, schema_id: int) -> Schema:
        return definition(NAMES[schema_id - 1])


def fill(settings: Settings, topic: str, codec: Codec, ticks: int) -> None:
    partitions = kafka_log.partition_count(settings.kafka, topic)
    producer = clients.producer(settings.kafka)
    start = int(time.time() * 1_000) - ticks
    for number in range(ticks):
        symbol, at = SYMBOLS[number % len(SYMBOLS)], start + number
        tick = Tick(
            symbol=symbol, ts_event=at, ordinal=0, bid=1.1 + number % 997 / 1e5, ask=1.2, flags=6, feed="bench",
            server_time=at, ts_recv=at * 1_000,
        )  # fmt: skip
        producer.produce(
            topic, codec.encode(tick), symbol.encode(), clients.partition_for(symbol, partitions), timestamp=at
        )
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush(120)


def bare(settings: Settings, topic: str, codec: Codec, home: Path) -> int:
    """Consume, decode and write Parquet, one file for each rotation's rows; no order, no offsets, no sync."""
    partitions = range(kafka_log.partition_count(settings.kafka, topic))
    frames: list[pl.DataFrame] = []
    rows = files = total = 0
    for messages in kafka_log.read_to_end(settings.kafka, [TopicPartition(topic, number) for number in partitions]):
        frames.append(decode_batch([message.value() for message in messages], codec).frame)
        rows += len(messages)
        if rows >= settings.lake.rotate_rows:
            pq.write_table(pl.concat(frames).to_arrow(), home / f"{files}.parquet", compression="zstd")
            total, rows, files, frames = total + rows, 0, files + 1, []
    if frames:
        pq.write_table(pl.concat(frames).to_arrow(), home / f"{files}.parquet", compression="zstd")
    return total + rows


def lake(settings: Settings, codec: Codec, ticks: int) -> int:
    stopping = threading.Event()
    world = World(settings.world)
    with closing(LakeSink(settings.lake_uri, None, settings.world)) as sink:
        runner = Runner(sink, settings.lake, settings.kafka, world, codec)
        thread = threading.Thread(target=runner.run, args=(stopping, lambda: None))
        thread.start()
        while thread.is_alive() and runner.rows_read < ticks:
            time.sleep(0.02)
        stopping.set()
        thread.join()
    found = pl.scan_delta(table_uri(settings.lake_uri, TICKS)).select(pl.len()).collect().item()
    return int(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--bootstrap-servers")
    given = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = given.bootstrap_servers or stack.enter_context(EmbeddedBroker(home / "broker")).bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=address, embedded=given.bootstrap_servers is None)
        settings = Settings(world=f"bench-{uuid.uuid4().hex[:8]}", home=home, kafka=kafka)
        provision.apply(settings)
        codec, topic = Codec(LocalStore()), World(settings.world).topic(TICKS.topic.name)
        fill(settings, topic, codec, given.ticks)
        rates = {}
        for name, work in (
            ("consume + decode + pyarrow.parquet.write_table", lambda: bare(settings, topic, codec, home)),
            ("sink into the lake, exactly once", lambda: lake(settings, codec, given.ticks)),
        ):
            started = time.perf_counter()
            rows = work()
            rates[name] = rows / (time.perf_counter() - started)
            if rows != given.ticks:
                raise SystemExit(f"{name}: {rows} of {given.ticks} ticks")
            print(f"{name:50} {rates[name]:12,.0f} ticks/s")
        first, second = rates.values()
        print(f"{'ratio':50} {second / first:12.2f}")


if __name__ == "__main__":
    main()
