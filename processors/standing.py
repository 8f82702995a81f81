"""What a world's topics say of where partitions stand. Others can write to them, too: what is not ours is skipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import polars as pl
from confluent_kafka import Message, TopicPartition

from infra import logs, metrics, topics
from infra.kafka_log import ends, offset_at, read_to_end, wait_for_transactions
from infra.settings import Settings
from infra.worlds import World
from processors.core.recall import Found, Lack
from processors.core.series import series_of
from processors.core.types import ClosedBar, Rules
from processors.drafts import dead_reason
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.columns import dtypes
from schemas.errors import ArbitrexError, ComponentError, DecodeError, UnknownSchemaError
from schemas.records import Bar, LiveBars, Progress

log: Final = logs.logger(__name__)

_NO_TICKS: Final = pl.DataFrame(schema=dtypes("Tick"))


class Stand:
    """What one partition's topics say of it."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.doubtful = False
        """Whether something that is not ours stands, or stood, where the progress belongs."""
        self.series: dict[bytes | None, LiveBars] = {}
        """By the record's key."""
        self.dead: list[int] = []

    @property
    def live(self) -> list[LiveBars]:
        """The latest of each series."""
        return list(self.series.values())

    @property
    def next_offset(self) -> int | None:
        """Where to go on; None before the first start."""
        return self.progress.next_offset if self.progress else None


class Reader:
    """Reads where partitions stand; its methods block."""

    def __init__(self, settings: Settings, codec: Codec, rules: Rules) -> None:
        world = World(settings.world)
        self._kafka = settings.kafka
        self._codec = codec
        self._rules = rules
        self._raw = world.topic(topics.TICKS_RAW.name)
        self._standing = world.topic(topics.PROGRESS.name)
        self._live = world.topic(topics.BARS_LIVE.name)
        self._bars = world.topic(topics.BARS.name)
        self._clean = world.topic(topics.TICKS_CLEAN.name)
        self._dead = world.topic(topics.DEAD_LETTERS.name)
        self._tail = 2 * (settings.processor.dead_letter_limit + 1)  # every other offset may be a transaction's marker

    def read_back(self, numbers: Sequence[int]) -> dict[int, Stand]:
        """Progress, live bars and recent dead letters of the partitions, as committed.

        Raises ComponentError where only records that are not ours say how far a partition was processed.
        """
        stands = {number: Stand() for number in numbers}
        starts = [TopicPartition(topic, number, 0) for topic in (self._standing, self._live) for number in numbers]
        newest = ends(self._kafka, self._dead)
        starts += [TopicPartition(self._dead, number, max(0, newest[number] - self._tail)) for number in numbers]
        for messages in read_to_end(self._kafka, starts):
            taken: set[tuple[str | None, int | None, bytes | None]] = set()
            for message in reversed(messages):  # only the latest of ours of each key is worth decoding
                place = (message.topic(), message.partition(), message.key())
                if place not in taken and self._take(stands[cast("int", message.partition())], message):
                    taken.add(place)
        for number, stand in stands.items():
            if stand.doubtful and not stand.progress:
                raise ComponentError(
                    f"{self._standing}[{number}] has records under the key {number}, but none of ours: how far the "
                    "partition was processed is not known; if it never was, delete them with an empty record"
                )
            stand.dead.sort()
        return stands

    def past(self, number: int, wanted: Mapping[str, Lack]) -> dict[str, Found]:
        """What is wanted of the symbols of one partition whose transactions are all committed. Raises BrokerError."""
        bars = {name: lack.closed_after for name, lack in wanted.items() if lack.closed_after is not None}
        ticks = {name: lack.ticks_from for name, lack in wanted.items() if lack.ticks_from is not None}
        closed = self._closed_bars(number, bars) if bars else {}
        clean = self._clean_ticks(number, ticks) if ticks else {}
        return {name: Found(closed.get(name), clean.get(name)) for name in wanted}

    def _closed_bars(self, number: int, after: Mapping[str, int]) -> dict[str, list[ClosedBar]]:
        """The last revision of every bar that closed later than the time given with its symbol, UTC milliseconds."""
        found: dict[str, dict[bytes | None, ClosedBar]] = {symbol: {} for symbol in after}
        for messages in self._committed_since(self._bars, number, min(after.values())):
            for message in messages:
                symbol = (message.key() or b"").rsplit(b"|", 2)[0].decode(errors="replace")
                if symbol in after and (closed := self._closed(message)):
                    found[symbol][message.key()] = closed
        return {
            symbol: [closed for closed in bars.values() if closed.bar.ts_close > after[symbol]]
            for symbol, bars in found.items()
        }

    def _clean_ticks(self, number: int, since: Mapping[str, int]) -> dict[str, pl.DataFrame]:
        """The clean ticks from the time given with their symbol on, UTC milliseconds; fewer if retention took some."""
        keys = {symbol.encode(): symbol for symbol in since}
        found: dict[str, list[pl.DataFrame]] = {symbol: [] for symbol in since}
        for messages in self._committed_since(self._clean, number, min(since.values())):
            for key, symbol in keys.items():
                values = [message.value() for message in messages if message.key() == key]
                ticks = decode_batch(values, self._codec, "Tick").frame
                found[symbol].append(ticks.filter(pl.col("symbol") == symbol, pl.col("ts_event") >= since[symbol]))
        return {symbol: pl.concat(parts) if parts else _NO_TICKS for symbol, parts in found.items()}

    def _committed_since(self, topic: str, number: int, time: int) -> Iterator[list[Message]]:
        place = TopicPartition(topic, number)
        wait_for_transactions(self._kafka, place)
        start = offset_at(self._kafka, place, time)
        return read_to_end(self._kafka, [start] if start else [])

    def _closed(self, message: Message) -> ClosedBar | None:
        try:
            return self._decoded_bar(message)
        except (DecodeError, UnknownSchemaError) as error:
            _skip(message, error)
            return None

    def _decoded_bar(self, message: Message) -> ClosedBar:
        record = self._codec.decode(message.value() or b"")
        if not isinstance(record, Bar) or record.key.encode() != message.key():
            raise DecodeError(f"a {type(record).__name__} where the key's Bar belongs")
        headers = dict(message.headers() or [])
        return ClosedBar(record, *(_number(headers.get(name)) for name in ("first_offset", "last_offset", "offset")))

    def _take(self, stand: Stand, message: Message) -> bool:
        """Take what ``message`` says; False when it is a dead letter or not ours."""
        try:
            if message.topic() == self._dead:
                stand.dead.append(self._dead_offset(message))
                return False
            if message.topic() == self._standing:
                self._take_progress(stand, message)
            else:
                self._take_live(stand, message)
        except (DecodeError, UnknownSchemaError) as error:
            _skip(message, error)
            return False
        return True

    def _take_progress(self, stand: Stand, message: Message) -> None:
        if message.key() != b"%d" % cast("int", message.partition()):
            raise DecodeError("progress under another key than its partition's")
        value = message.value()
        stand.doubtful = value is not None  # until it turns out to be ours
        record = None if value is None else self._codec.decode(value)
        if not isinstance(record, Progress | None):
            raise DecodeError(f"a {type(record).__name__} where Progress belongs")
        stand.progress = record

    def _take_live(self, stand: Stand, message: Message) -> None:
        key, value = message.key(), message.value()
        if value is None:
            stand.series.pop(key, None)
            return
        record = self._codec.decode(value)
        if not isinstance(record, LiveBars) or record.symbol.encode() != key:
            raise DecodeError(f"a {type(record).__name__} where the key's LiveBars belong")
        series_of(record, self._rules)
        stand.series[key] = record

    def _dead_offset(self, message: Message) -> int:
        headers = dict(message.headers() or [])
        if headers.get("topic") != self._raw.encode():
            raise DecodeError("a dead letter of somebody else")
        return _number(headers.get("offset"))


def _number(header: str | bytes | None) -> int:
    if not isinstance(header, bytes) or not header.isdigit():
        raise DecodeError(f"{header!r} where an offset belongs")
    return int(header)


def _skip(message: Message, error: ArbitrexError) -> None:
    topic, reason = str(message.topic()), dead_reason(error)
    log.warning(
        "record skipped: not ours",
        topic=topic,
        partition=message.partition(),
        offset=message.offset(),
        error=str(error),
    )
    metrics.PROCESSOR_SKIPPED.labels(topic, reason).inc()
