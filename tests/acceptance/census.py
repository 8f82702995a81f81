"""What a world holds, counted from the outside: topics, lake and CSV."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
from confluent_kafka import Message
from deltalake import DeltaTable

from infra import kafka_log, topics
from infra.settings import Settings
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec

IDENTITY = ("symbol", "ts_event", "ordinal")


def messages(settings: Settings, topic: topics.Topic) -> list[Message]:
    """All committed messages of a topic, each partition in order."""
    name = World(settings.world).topic(topic.name)
    starts = kafka_log.beginnings(settings.kafka, name)
    return [message for batch in kafka_log.read_to_end(settings.kafka, starts) for message in batch]


def frame(settings: Settings, codec: Codec, topic: topics.Topic, record: str) -> pl.DataFrame:
    """All records of one type in a topic, with partition, offset and the reason header."""
    found = messages(settings, topic)
    decoded = decode_batch([message.value() for message in found], codec, record)
    assert not decoded.bad or topic is topics.TICKS_RAW
    index = decoded.frame["index"].to_list()
    return decoded.frame.with_columns(
        partition=pl.Series([found[i].partition() for i in index], dtype=pl.Int32),
        offset=pl.Series([found[i].offset() for i in index], dtype=pl.Int64),
        reason=pl.Series([_reason(found[i]) for i in index], dtype=pl.String),
    )


def by_symbol(ticks: pl.DataFrame) -> dict[str, int]:
    """Rows by symbol."""
    return dict(Counter(ticks["symbol"].to_list()))


def out_of_order(ticks: pl.DataFrame) -> int:
    """How many ticks do not have a higher identity than the one before in their series: repeats too."""
    identity = pl.col("ts_event") * (1 << 20) + pl.col("ordinal")
    ordered = ticks.sort("partition", "offset")
    return ordered.filter(identity <= identity.shift(1).over("symbol")).height


def lake_rows(settings: Settings, table: str) -> dict[str, int]:
    """Rows by symbol of this world in a lake table, read by deltalake alone."""
    uri = f"{settings.lake_uri}/{table}"
    if not DeltaTable.is_deltatable(uri):
        return {}
    scanned = pl.scan_delta(uri).filter(pl.col("world") == settings.world)
    return dict(scanned.group_by("symbol").len().collect().iter_rows())


def csv_rows(folder: Path) -> dict[str, int]:
    """Tick rows by symbol in the CSV folder, counted as lines below each file's header."""
    rows: Counter[str] = Counter()
    for path in (folder / "ticks").rglob("*.csv"):
        with path.open("rb") as file:
            rows[path.parent.name] += sum(1 for _ in file) - 1
    return dict(rows)


def _reason(message: Message) -> str | None:
    headers = dict(message.headers() or [])
    reason = headers.get("reason")
    return reason.decode() if isinstance(reason, bytes) else reason
