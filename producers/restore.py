"""Where a feed stands, read back from Kafka: its cursors, what was published after them, and its last minutes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

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
from producers.recent import Recent
from producers.terminal import Ticks
from schemas import records
from schemas.batch import Decoded, decode_batch
from schemas.codec import Codec
from schemas.errors import BrokerError
from schemas.records import Control, ControlKind

_TIMEOUT: Final = 15.0
_NONE: Final = -1
_NEVER: Final = 2**62
_AHEAD_KB: Final = 8_192
"""What Kafka's client holds before it is asked for it."""


@dataclass(slots=True)
class Standing:
    """What is kept of a feed's series, by symbol; those that were never begun are missing."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    """In UTC; more may be published by now, `recall` says."""
    since: dict[str, int] = field(default_factory=dict)
    """From when on (UTC ms) a series is to be looked at again for late ticks."""
    shards: dict[str, str] = field(default_factory=dict)
    """Whose it was last."""

    def of(self, symbols: Collection[str]) -> Standing:
        """What is kept of some of the symbols."""
        known = self.cursors.keys() & symbols
        return Standing({name: self.cursors[name] for name in known}, {name: self.since[name] for name in known})

    def had_by(self, shard: str) -> list[str]:
        """The symbols that were the shard's."""
        return [symbol for symbol, owner in self.shards.items() if owner == shard]


@dataclass(slots=True)
class Past:
    """What was published lately of some series, by symbol."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    """Behind all that is published."""
    recent: dict[str, Recent] = field(default_factory=dict)
    watermark: int = _NONE
    """The shard's highest, UTC ms; -1 when none is near the end of the log."""


def restore(settings: Settings, codec: Codec, feed: str) -> Standing:
    """What the settings' world keeps of ``feed``. Raises BrokerError when Kafka is away."""
    window = int(settings.producer.reread_minutes * 60_000)
    standing = Standing()
    for (of, symbol), (record, time) in _read_kept(settings, codec).items():
        if of == feed:
            cursor = standing.cursors[symbol] = from_record(record, time)
            standing.since[symbol] = reread_from(cursor, record.reread_from, window)
            standing.shards[symbol] = record.shard
    return standing


def recall(settings: Settings, codec: Codec, feed: str, shard: str, standing: Standing) -> Past:
    """What was published of the series in ``standing`` since they were kept, and in their last minutes, each tick once.

    What is older than a series' coverage was never to be published. Only these series' own partitions are read, from
    where they need it: not what others of the feed left behind. Raises BrokerError when Kafka is away.
    """
    past = Past(dict(standing.cursors), {symbol: Recent(moment) for symbol, moment in standing.since.items()})
    found: dict[str, list[Ticks]] = {symbol: [] for symbol in standing.cursors}
    least = {symbol: min(cursor.last_msc, standing.since[symbol]) for symbol, cursor in standing.cursors.items()}
    for decoded in _tail(settings, codec, feed, least, f"@{feed}/{shard}"):
        _take(past.cursors, decoded.frame.filter(~pl.col("correction")))
        for (name,), part in decoded.frame.group_by("symbol"):
            found[str(name)].append(_rows(part))
        for _, record in decoded.others:
            if not isinstance(record, Control) or record.feed != feed:
                continue
            if record.kind == ControlKind.WATERMARK and record.shard == shard:
                past.watermark = max(past.watermark, record.time)
            elif record.kind == ControlKind.COVERAGE and record.symbol in past.recent:
                one = past.recent[record.symbol]
                one.since = max(one.since, record.time)
    for symbol, one in past.recent.items():
        if parts := found.pop(symbol):
            rows = _once(np.concatenate(parts))
            one.add(rows, rows["ts_event"])
    return past


def reread_from(cursor: Cursor, kept: int | None, window: int) -> int:
    """From when on (UTC ms) a series is to be looked at again for late ticks.

    ``kept``: what its last process kept with the cursor; ``window``: how many ms are read again, usually.
    """
    end = cursor.after
    if not cursor.taken:
        return end  # its beginning
    return end - window if kept is None else kept


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


def _tail(settings: Settings, codec: Codec, feed: str, since: Mapping[str, int], mark: str) -> Iterator[Decoded]:
    """The feed's ticks and controls in ``ticks.raw``, of each symbol from its moment (UTC ms) on, in batches.

    ``mark``: the key of a shard whose watermarks come with them. Nothing else is decoded: other shards write to these
    partitions, too, and one quiet series makes all of its partition be read from far back.
    """
    least = {symbol.encode(): moment for symbol, moment in since.items()} | {mark.encode(): 0}
    ahead = {"queued.max.messages.kbytes": _AHEAD_KB}
    for messages in read_to_end(settings.kafka, _starts(settings, since), None, **ahead):
        values = [m.value() for m in messages if m.timestamp()[1] >= least.get(m.key() or b"", _NEVER)]
        decoded = decode_batch(values, codec)
        yield replace(decoded, frame=decoded.frame.filter(pl.col("feed") == feed, pl.col("symbol").is_in(list(since))))


def _starts(settings: Settings, since_by_symbol: Mapping[str, int]) -> Sequence[TopicPartition]:
    """Where in ``ticks.raw`` to read on: a series' ticks after a moment all stand behind the first record after it."""
    if not since_by_symbol:
        return []
    topic = World(settings.world).topic(TICKS_RAW.name)
    partitions = partition_count(settings.kafka, topic)
    since: dict[int, int] = {}
    for symbol, moment in since_by_symbol.items():
        partition = partition_for(symbol, partitions)
        since[partition] = min(moment, since.get(partition, _NEVER))
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
    for (name,), part in frame.group_by("symbol", maintain_order=True):
        symbol = str(name)
        cursor = cursors[symbol]
        known = (cursor.last_msc, cursor.taken - 1)
        fresh = _once(
            _rows(
                part.filter(
                    (pl.col("ts_event") > known[0])
                    | ((pl.col("ts_event") == known[0]) & (pl.col("ordinal") > known[1]))
                )
            )
        )
        cursors[symbol] = advance(cursor, fresh, fresh["ts_event"])


def _rows(frame: pl.DataFrame) -> Ticks:
    """What of ticks makes their identities and their keys."""
    return frame.select("ts_event", "ordinal", "bid", "ask", "last", volume_real="volume").to_numpy(structured=True)


def _once(rows: Ticks) -> Ticks:
    """Rows of a series in order, the first of each identity."""
    rows = rows[np.lexsort((rows["ordinal"], rows["ts_event"]))]
    times, places = rows["ts_event"], rows["ordinal"]
    fresh = np.ones(len(rows), np.bool_)
    fresh[1:] = (times[1:] != times[:-1]) | (places[1:] != places[:-1])
    return rows[fresh]


def utc(server_ms: int, zone: ServerZone) -> int:
    """When the server's clock shows ``server_ms``."""
    return int(zone.to_utc(np.array([server_ms]))[0])


def server_time(utc_ms: int, zone: ServerZone) -> int:
    """What the server's clock shows at ``utc_ms``."""
    return int(zone.to_server(np.array([utc_ms]))[0])
