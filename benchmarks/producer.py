"""How fast files become messages: reading, encoding and publishing against a bare produce loop, in the same run.

    python benchmarks/producer.py [--ticks 1000000]

Needs a broker: ARBITREX_KAFKA__BOOTSTRAP_SERVERS, or the stack that runs here. It publishes into a world of its own and
drops it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

from infra import kafka as clients
from infra import provision
from infra.market.zones import ServerZone
from infra.settings import load
from infra.supervisor.runfile import attached
from infra.topics import TICKS_RAW
from infra.worlds import World
from producers.encoding import columns, encode_ticks
from producers.files import lean
from producers.files.days import DAY_MS, TickDay
from producers.publisher import Publisher
from schemas.codec import Codec
from schemas.registry import Registry

DAY = "20260303"
ZONE = ServerZone.parse("UTC")


def generate(folder: Path, ticks: int) -> TickDay:
    chance = np.random.default_rng(1)
    times = np.sort(chance.integers(0, DAY_MS, ticks))
    bid = 1.1 + np.cumsum(chance.integers(-1, 2, ticks)) / 1e5
    path = folder / "tick" / "eurusd" / f"{DAY}_quote.zip"
    path.parent.mkdir(parents=True)
    lines = (f"{t},{b:.5f},{b + 0.0001:.5f}" for t, b in zip(times.tolist(), bid.tolist(), strict=True))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{DAY}_eurusd_tick_quote.csv", "\r\n".join(lines))
    day = lean.recognise(path)
    assert day is not None  # noqa: S101 - it has just been given that name
    return day


def bare(producer: Producer, topic: str, values: list[bytes], times: list[int]) -> None:
    """The loop that nothing in Python can be faster than."""
    for value, moment in zip(values, times, strict=True):
        while True:
            try:
                producer.produce(topic, value, b"EURUSD", 0, None, None, moment)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def publish(publisher: Publisher, file: TickDay) -> None:
    ticks = file.load().ticks
    publisher.ticks("EURUSD", columns(ticks, ZONE.to_utc(ticks["time_msc"]), 0))
    while not publisher.flush(1.0):
        pass


def rate(ticks: int, work: Callable[[], object], rounds: int = 3) -> float:
    """The best of some rounds, ticks a second."""
    best = 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        best = max(best, ticks / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    ticks: int = parser.parse_args().ticks
    settings = attached(load(world=f"bench-{uuid.uuid4().hex[:8]}"))
    provision.apply(settings, historical=True)
    registry = Registry(settings.registry.url)
    registry.register_all()
    codec = Codec(registry)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = generate(Path(folder), ticks)
            read = file.load().ticks
            table = columns(read, ZONE.to_utc(read["time_msc"]), 0)
            header = codec.headers["Tick"]
            values = encode_ticks(table, header=header, symbol="EURUSD", feed="bench")
            times = table.ts_event.tolist()
            producer = clients.producer(settings.kafka)
            topic = World(settings.world).topic(TICKS_RAW.name)
            publisher = Publisher(settings, codec, threading.Event(), feed="bench", shard="bench")
            figures = {
                "read the file": rate(ticks, file.load),
                "encode": rate(ticks, lambda: encode_ticks(table, header=header, symbol="EURUSD", feed="bench")),
                "bare produce loop": rate(ticks, lambda: bare(producer, topic, values, times)),
                "read, encode, publish": rate(ticks, lambda: publish(publisher, file)),
            }
            publisher.close()
    finally:
        admin = clients.admin(settings.kafka)
        for future in admin.delete_topics(provision.world_topics(settings)).values():
            future.result(30)
    for name, figure in figures.items():
        print(f"{name:<24}{figure:>12,.0f} ticks/s")
    print(f"published at {figures['read, encode, publish'] / figures['bare produce loop']:.2f} of the bare loop's rate")


if __name__ == "__main__":
    main()
