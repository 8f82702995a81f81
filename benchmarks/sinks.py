"""Catching up from a real Kafka into the lake, beside bare consume + decode + Parquet of the same topic.

    python -m benchmarks.sinks [--ticks 1000000 10000000]

The ceiling keeps no order and no offsets and syncs nothing. Rates run from the first file or commit to the last full
one: what is left then waits for its time. A sink's memory is the most that was seen while it caught up.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from confluent_kafka import TopicPartition

from benchmarks.race import Result, run_component
from benchmarks.stage import START_MS, STEP_MS, Stage, publish, stage, ticks
from infra import kafka_log, topics
from infra.lake.layout import TICKS
from infra.lake.tables import table_uri
from infra.settings import LakeSettings
from infra.worlds import World
from schemas.batch import decode_batch

_FLUSHED = "arbitrex_ticks_flushed_total"


def bare(found: Stage, folder: Path) -> tuple[float, float]:
    """Ticks a second, and CPU seconds for a million: consumed, decoded, written as Parquet, a file a rotation."""
    settings = found.settings
    topic = World(settings.world).topic(topics.TICKS_CLEAN.name)
    partitions = range(kafka_log.partition_count(settings.kafka, topic))
    frames: list[pl.DataFrame] = []
    rows = total = 0
    written: list[tuple[int, float, float]] = []
    folder.mkdir()
    for messages in kafka_log.read_to_end(settings.kafka, [TopicPartition(topic, number) for number in partitions]):
        frames.append(decode_batch([message.value() for message in messages], found.codec).frame)
        rows += len(messages)
        if rows >= settings.lake.rotate_rows:
            pq.write_table(pl.concat(frames).to_arrow(), folder / f"{total}.parquet", compression="zstd")
            total, rows, frames = total + rows, 0, []
            written.append((total, time.perf_counter(), time.process_time()))
    (first, started, before), (last, ended, after) = written[0], written[-1]
    return (last - first) / (ended - started), (after - before) / (last - first) * 1e6


def sink(found: Stage, count: int, folder: Path) -> Result:
    """The lake's sink, into a lake of its own."""
    settings = found.settings.model_copy(update={"lake": LakeSettings(uri=str(folder))})
    full = count - settings.lake.rotate_rows
    result = run_component(settings, ("sink", "lake"), _FLUSHED, full)
    rows = pl.scan_delta(table_uri(settings.lake_uri, TICKS)).select(pl.len()).collect().item()
    if not full <= rows <= count:
        raise SystemExit(f"{rows} of {count} ticks")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, nargs="+", default=[1_000_000, 10_000_000])
    given = parser.parse_args()
    names = ("ticks", "ceiling/s", "sink/s", "ratio", "CPU s a million", "ratio", "peak MB")
    print(" ".join(f"{name:>{width}}" for name, width in zip(names, (12, 12, 12, 6, 16, 6, 8), strict=True)))
    with stage() as found:
        there, peaks = 0, []
        for count in sorted(given.ticks):
            start = START_MS + there * STEP_MS
            publish(found.settings, ticks(found.codec, count - there, start, STEP_MS), topics.TICKS_CLEAN)
            there = count
            ceiling, spent = bare(found, found.settings.home / f"bare-{count}")
            result = sink(found, count, found.settings.home / f"lake-{count}")
            peaks.append(result.peak_rss)
            print(
                f"{count:12,} {ceiling:12,.0f} {result.rate:12,.0f} {result.rate / ceiling:6.2f} "
                f"{spent:8.2f}{result.cpu_per_million:8.2f} {spent / result.cpu_per_million:6.2f} "
                f"{result.peak_rss / 1e6:8.0f}",
                flush=True,
            )
        if len(peaks) > 1:
            print(f"memory at the most ticks, compared with the fewest: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
