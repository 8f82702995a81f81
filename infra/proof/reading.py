"""What the proof reads of a world: one partition of each topic, in parts and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from threading import Event
from typing import Final, cast

import polars as pl
from confluent_kafka import Message, TopicPartition

from infra import topics
from infra.kafka_log import ends, extents, read_to_end, since
from infra.proof.comparing import RECORD_KEY
from infra.proof.matching import TICK
from infra.proof.partition import Part, Placed
from infra.settings import Settings
from infra.topics import Topic
from infra.worlds import World
from schemas.batch import INDEX, Decoded, decode_batch
from schemas.codec import Codec
from schemas.errors import ArbitrexError, DecodeError, UnknownSchemaError
from schemas.records import Control, FeedEvent, LiveBars, Progress, Record, SymbolSpec

PART: Final = 100_000
"""Records that are worked on at once."""
_QUEUE_KILOBYTES: Final = 16_384
_FOREVER: Final = 2**62

Advance = Callable[[int], None]
"""Told how many records were read."""


class StoppedError(ArbitrexError):
    """Asked to stop before all was read."""


class Reader:
    """Reads one world. Raises BrokerError and RegistryError; StoppedError once ``stopping`` is set."""

    def __init__(self, settings: Settings, codec: Codec, stopping: Event, advance: Advance = lambda _: None) -> None:
        self._settings = settings
        self._codec = codec
        self._world = World(settings.world)
        self._stopping = stopping
        self._advance = advance
        self._extents: dict[Topic, dict[int, tuple[int, int]]] = {}
        self.foreign: list[str] = []
        """What was met that is not ours, or stands where it does not belong."""

    def extents(self, topic: Topic) -> dict[int, tuple[int, int]]:
        """First and end offset of each partition, as they were when first asked for."""
        if topic not in self._extents:
            self._extents[topic] = extents(self._settings.kafka, self._world.topic(topic.name))
        return self._extents[topic]

    def messages(
        self, topic: Topic, partition: int, from_ms: int = 0, offset: int | None = None
    ) -> Iterator[list[Message]]:
        """Committed messages from the first of time ``from_ms`` on, or from ``offset``, to the end."""
        name = self._world.topic(topic.name)
        start = TopicPartition(name, partition, self.extents(topic)[partition][0] if offset is None else offset)
        if from_ms > 0 and offset is None:
            start = since(self._settings.kafka, name, from_ms)[partition]
        overrides = {"queued.max.messages.kbytes": _QUEUE_KILOBYTES}
        part: list[Message] = []
        for batch in read_to_end(self._settings.kafka, [start], self._stopping, batch=PART, **overrides):
            self._advance(len(batch))
            part += batch
            if len(part) >= PART:
                yield part
                part = []
        if self._stopping.is_set():
            raise StoppedError("asked to stop")
        if part:
            yield part

    def first_time(self, topic: Topic, partition: int) -> int:
        """The time of the first record there is, if others before it are gone; -1 if none is gone."""
        low, high = self.extents(topic)[partition]
        if low == 0:
            return -1
        times = [batch[0].timestamp()[1] for batch in islice(self.messages(topic, partition), 1)] if high > low else []
        return times[0] if times else _FOREVER

    def records(self, topic: Topic, partition: int | None = None) -> Iterator[tuple[Message, Record | None]]:
        """The records of a small topic or one partition of it: None for a tombstone, nothing for what is not ours."""
        name, lows = self._world.topic(topic.name), {number: low for number, (low, _) in self.extents(topic).items()}
        wanted = [TopicPartition(name, number, low) for number, low in lows.items() if partition in {None, number}]
        for batch in read_to_end(self._settings.kafka, wanted):
            for message in batch:
                value = message.value()
                try:
                    record = None if value is None else self._codec.decode(value)
                except (DecodeError, UnknownSchemaError):
                    continue
                yield message, record

    def progress(self) -> dict[int, int]:
        """The next offset of each partition's processor."""
        return {
            int(message.key() or b"-1"): record.next_offset
            for message, record in self.records(topics.PROGRESS)
            if isinstance(record, Progress)
        }

    def live(self, partition: int) -> dict[str, LiveBars]:
        """The aggregator's state, by symbol."""
        return {
            record.symbol: record
            for _, record in self.records(topics.BARS_LIVE, partition)
            if isinstance(record, LiveBars)
        }

    def specs(self, partition: int) -> list[tuple[int, SymbolSpec]]:
        """The specs that ``symbols`` keeps, with the offsets of their controls."""
        return [
            (header(message, "offset"), record)
            for message, record in self.records(topics.SYMBOLS, partition)
            if isinstance(record, SymbolSpec)
        ]

    def events(self, partition: int) -> list[tuple[int, FeedEvent]]:
        """The ledger, with the offsets of the controls it tells of (-1: of none)."""
        return [
            (header(message, "offset"), record)
            for message, record in self.records(topics.FEED_EVENTS, partition)
            if isinstance(record, FeedEvent)
        ]

    def dead(self, partition: int) -> dict[int, str]:
        """Offsets in ``ticks.raw`` of dead letters, with the error."""
        raw = self._world.topic(topics.TICKS_RAW.name).encode()
        found = {}
        for batch in self.messages(topics.DEAD_LETTERS, partition):
            for message in batch:
                headers = dict(message.headers() or [])
                if headers.get("topic") == raw:
                    error = headers.get("error") or b""
                    found[header(message, "offset")] = error.decode() if isinstance(error, bytes) else error
        return found

    def clean(self, partition: int, from_ms: int, symbols: Sequence[bytes] | None) -> Iterator[pl.DataFrame]:
        """The ticks of ``ticks.clean``, to its end as it was when this was first called.

        So in a world that goes on, whoever asked for `progress` before finds all that it covers, and whoever reads
        ``ticks.raw`` afterwards the source of each.
        """
        end = self._clean_ends[partition]

        def read() -> Iterator[pl.DataFrame]:
            for batch in self.messages(topics.TICKS_CLEAN, partition, from_ms):
                _, decoded = self._ticks([each for each in batch if cast("int", each.offset()) < end], symbols)
                yield decoded.frame.filter(pl.col("ts_event") >= from_ms).select(TICK)

        return read()

    @cached_property
    def _clean_ends(self) -> dict[int, int]:
        return ends(self._settings.kafka, self._world.topic(topics.TICKS_CLEAN.name))

    def rejected(self, partition: int, from_ms: int, symbols: Sequence[bytes] | None) -> Iterator[pl.DataFrame]:
        """The ticks of ``ticks.rejected``, with ``source`` and ``reason``."""
        for batch in self.messages(topics.TICKS_REJECTED, partition, from_ms):
            messages, decoded = self._ticks(batch, symbols)
            places = [messages[at] for at in decoded.frame[INDEX].to_list()]
            yield decoded.frame.select(TICK).with_columns(
                source=pl.Series([header(message, "offset") for message in places], dtype=pl.Int64),
                reason=pl.Series([text_header(message, "reason") for message in places], dtype=pl.String),
            )

    def raw(self, partition: int, symbols: Sequence[bytes] | None, offset: int | None = None) -> Iterator[Part]:
        """``ticks.raw`` in parts, from ``offset`` or the first record on."""
        for batch in self.messages(topics.TICKS_RAW, partition, offset=offset):
            messages, decoded = self._ticks(batch, symbols, controls=True)
            offsets = [cast("int", message.offset()) for message in messages]
            ticks = decoded.frame.with_columns(
                source=pl.Series([offsets[at] for at in decoded.frame[INDEX].to_list()], dtype=pl.Int64)
            )
            controls: list[Placed] = [
                (offsets[at], record) for at, record in decoded.others if isinstance(record, Control)
            ]
            bad = [at for at, _ in decoded.bad] + [
                at for at, record in decoded.others if not isinstance(record, Control)
            ]
            undecodable = {offsets[at]: messages[at].timestamp()[1] for at in bad}
            yield Part(ticks.select(*TICK, "source"), controls, undecodable, cast("int", batch[-1].offset()))

    def bars(self, topic: Topic, partition: int, symbols: Sequence[bytes] | None) -> pl.DataFrame:
        """The last revision of each bar that the topic holds."""
        latest: dict[bytes, Message | None] = {}
        for batch in self.messages(topic, partition):
            for message in batch:
                key = message.key() or b""
                if symbols is None or key.split(b"|", 1)[0] in symbols:
                    latest.pop(key, None)
                    latest[key] = None if message.value() is None else message
        return self.bars_of([message for message in latest.values() if message is not None])

    def bars_of(self, messages: Sequence[Message]) -> pl.DataFrame:
        """The bars in ``messages``: their fields, and ``at``, the message's own offset.

        ``cause``, ``first_offset`` and ``last_offset`` are from the headers (-1: none).
        """
        decoded = decode_batch([message.value() for message in messages], self._codec, "Bar")
        places = [messages[at] for at in decoded.frame[INDEX].to_list()]
        frame = decoded.frame.with_columns(
            keyed=pl.Series([message.key() for message in places], dtype=pl.Binary),
            cause=pl.Series([header(message, "offset") for message in places], dtype=pl.Int64),
            first_offset=pl.Series([header(message, "first_offset") for message in places], dtype=pl.Int64),
            last_offset=pl.Series([header(message, "last_offset") for message in places], dtype=pl.Int64),
            at=pl.Series([message.offset() for message in places], dtype=pl.Int64),
        )
        own = pl.col("keyed") == RECORD_KEY.cast(pl.Binary)
        self._note(messages, decoded, "Bar")
        for key, name, at in frame.filter(~own).select("keyed", RECORD_KEY.alias("name"), "at").iter_rows():
            self.foreign.append(f"{messages[0].topic()} offset {at}: the bar {name} under the key {key!r}")
        return frame.filter(own).drop(INDEX, "keyed")

    def _ticks(
        self, batch: Sequence[Message], symbols: Sequence[bytes] | None, *, controls: bool = False
    ) -> tuple[Sequence[Message], Decoded]:
        """The batch's messages of the symbols (and of whole shards, for ``controls``), decoded."""
        if symbols is not None:
            batch = [m for m in batch if (key := m.key() or b"") in symbols or (controls and key.startswith(b"@"))]
        decoded = decode_batch([message.value() for message in batch], self._codec)
        if not controls:
            self._note(batch, decoded, "Tick")
        return batch, decoded

    def _note(self, messages: Sequence[Message], decoded: Decoded, wanted: str) -> None:
        strange = [(at, str(error)) for at, error in decoded.bad]
        strange += [(at, f"a {type(record).__name__}, not a {wanted}") for at, record in decoded.others]
        for at, what in strange:
            message = messages[at]
            self.foreign.append(f"{message.topic()}[{message.partition()}] offset {message.offset()}: {what}")


def header(message: Message, name: str) -> int:
    """A number from the headers; -1 where there is none."""
    text = text_header(message, name)
    return int(text) if text and text.isascii() and text.isdigit() else -1


def text_header(message: Message, name: str) -> str | None:
    """A text from the headers."""
    value = dict(message.headers() or ()).get(name)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
