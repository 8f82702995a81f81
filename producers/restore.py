"""Where a feed stands, read back from Kafka at start: its cursors, and what was published after they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeGuard

import numpy as np
import polars as pl
from confluent_kafka import KafkaException, TopicPartition

from infra import kafka as clients
from infra.kafka import partition_for
from infra.kafka_log import beginnings, partition_count, read_to_end
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.topics import CURSORS, TICKS_RAW
from infra.worlds import World
from producers.cursor import Cursor, advance, from_record
from producers.recent import WINDOWS_KEPT, Recent
from producers.terminal import TICK_DTYPE, Ticks
from schemas import records
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.errors import BrokerError
from schemas.records import Control, ControlKind

_TIMEOUT: Final = 15.0
_NONE: Final = -1


@dataclass(slots=True)
class Standing:
    """What is known of a feed."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    """In UTC, by symbol; those of symbols that were never begun are missing."""
    recent: dict[str, Recent] = field(default_factory=dict)
    """What was published of the last minutes, by symbol."""
    watermark: int = _NONE
    """The shard's highest published, UTC ms; -1 when none is near the end of the log."""


def restore(settings: Settings, codec: Codec, *, feed: str, shard: str) -> Standing:
    """Where ``feed`` stands in the settings' world. Raises BrokerError when Kafka is away."""
    kept = {symbol: one for (of, symbol), one in _read_kept(settings, codec).items() if of == feed}
    standing = Standing({symbol: from_record(*one) for symbol, one in kept.items()})
    window = int(settings.producer.reread_minutes * 60_000)
    since = {
        symbol: reread_from(standing.cursors[symbol], record.reread_from, window)
        for symbol, (record, _) in kept.items()
    }
    standing.recent = {symbol: Recent(moment) for symbol, moment in since.items()}
    starts = _tail(settings, {symbol: min(since[symbol], each.last_msc) for symbol, each in standing.cursors.items()})
    found: list[pl.DataFrame] = []
    for messages in read_to_end(settings.kafka, starts):
        decoded = decode_batch([message.value() for message in messages], codec)
        ours = decoded.frame.filter(pl.col("feed") == feed)
        found.append(ours)
        _take(standing.cursors, ours.filter(~pl.col("correction")))
        for _, record in decoded.others:
            if _is_watermark(record, feed, shard):
                standing.watermark = max(standing.watermark, record.time)
            elif isinstance(record, Control) and record.kind == ControlKind.COVERAGE and record.feed == feed:
                _begins(standing.recent, record)
    if found:
        _remember(standing.recent, pl.concat(found))
    return standing


def reread_from(cursor: Cursor, kept: int | None, window: int) -> int:
    """From when on (UTC ms) a series is to be looked at again for late ticks.

    ``kept``: what its last process kept with the cursor; ``window``: how many ms are read again, usually.
    """
    end = cursor.last_msc + 1
    if not cursor.taken:
        return end  # its beginning
    return end - window if kept is None else max(kept, end - WINDOWS_KEPT * window)


def read_cursors(settings: Settings, codec: Codec) -> dict[tuple[str, str], Cursor]:
    """Every series' cursor in the settings' world, in UTC, by feed and symbol."""
    return {key: from_record(*one) for key, one in _read_kept(settings, codec).items()}


def _read_kept(settings: Settings, codec: Codec) -> dict[tuple[str, str], tuple[records.Cursor, int]]:
    """The cursors' records and their timestamps."""
    topic = World(settings.world).topic(CURSORS.name)
    starts = beginnings(settings.kafka, topic)
    found: dict[tuple[str, str], tuple[records.Cursor, int]] = {}
    for messages in read_to_end(settings.kafka, starts):
        for message in messages:
            value = message.value()
            record = codec.decode(value) if value is not None else None
            if isinstance(record, records.Cursor):
                found[record.feed, record.symbol] = record, message.timestamp()[1]
    return found


def _tail(settings: Settings, since_by_symbol: Mapping[str, int]) -> Sequence[TopicPartition]:
    """Where in ``ticks.raw`` to read on: a series' ticks after a moment all stand behind the first record after it."""
    if not since_by_symbol:
        return []
    topic = World(settings.world).topic(TICKS_RAW.name)
    partitions = partition_count(settings.kafka, topic)
    since: dict[int, int] = {}
    for symbol, moment in since_by_symbol.items():
        partition = partition_for(symbol, partitions)
        since[partition] = min(moment, since.get(partition, 2**62))
    consumer = clients.consumer(settings.kafka, group="arbitrex.reader")
    try:
        wanted = [TopicPartition(topic, partition, max(time, 0)) for partition, time in since.items()]
        found = consumer.offsets_for_times(wanted, timeout=_TIMEOUT)
    except KafkaException as error:
        raise BrokerError(f"Kafka does not say where {topic} stands: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return [place for place in found if place.offset >= 0]


def _take(cursors: dict[str, Cursor], frame: pl.DataFrame) -> None:
    """Move the cursors over published ticks; repeats among them are recognised by their identity."""
    for (name,), part in frame.filter(pl.col("symbol").is_in(list(cursors))).group_by("symbol", maintain_order=True):
        symbol = str(name)
        cursor = cursors[symbol]
        known = (cursor.last_msc, cursor.taken - 1)
        fresh = (
            part.filter(
                (pl.col("ts_event") > known[0]) | ((pl.col("ts_event") == known[0]) & (pl.col("ordinal") > known[1]))
            )
            .unique(["ts_event", "ordinal"], keep="first")
            .sort("ts_event", "ordinal")
        )
        cursors[symbol] = advance(cursor, _as_ticks(fresh), fresh["ts_event"].to_numpy())


def _begins(recent: Mapping[str, Recent], coverage: Control) -> None:
    """What is older than the series' coverage was never to be published."""
    one = recent.get(coverage.symbol or "")
    if one is not None:
        one.since = max(one.since, coverage.time)


def _remember(recent: Mapping[str, Recent], frame: pl.DataFrame) -> None:
    """Keep the published ticks of the last minutes, each once."""
    ours = frame.filter(pl.col("symbol").is_in(list(recent))).unique(["symbol", "ts_event", "ordinal"], keep="first")
    for (name,), part in ours.group_by("symbol"):
        recent[str(name)].add(_as_ticks(part), part["ts_event"].to_numpy())


def _as_ticks(frame: pl.DataFrame) -> Ticks:
    """What of the ticks makes their keys."""
    ticks = np.zeros(len(frame), TICK_DTYPE)
    for column, name in (
        ("bid", "bid"),
        ("ask", "ask"),
        ("last", "last"),
        ("volume", "volume_real"),
    ):
        ticks[name] = frame[column].to_numpy()
    return ticks


def utc(server_ms: int, zone: ServerZone) -> int:
    """When the server's clock shows ``server_ms``."""
    return int(zone.to_utc(np.array([server_ms]))[0])


def _is_watermark(record: records.Record, feed: str, shard: str) -> TypeGuard[Control]:
    return (
        isinstance(record, Control)
        and record.kind == ControlKind.WATERMARK
        and (record.feed, record.shard) == (feed, shard)
    )


def server_time(utc_ms: int, zone: ServerZone) -> int:
    """What the server's clock shows at ``utc_ms``."""
    return int(zone.to_server(np.array([utc_ms]))[0])
