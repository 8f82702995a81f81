"""Kafka to updates: every partition of the gateway's topics, read by a thread of this instance alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from gateway import protocol
from gateway.cursor import Place as Standing
from gateway.market import Placed, Row, Update, closed_bar
from infra import kafka as clients
from infra import logs, metrics
from infra.kafka_log import partition_count, split
from infra.pacing import Pace, Place
from infra.settings import Settings
from infra.topics import BARS, BARS_LIVE, FEED_EVENTS, SYMBOLS, TICKS_CLEAN
from infra.worlds import World
from schemas.batch import INDEX, decode_batch
from schemas.codec import Codec
from schemas.errors import BrokerError, DecodeError, UnknownSchemaError
from schemas.records import FeedEvent, LiveBars, SymbolSpec

_FLUSH_SECONDS: Final = 0.01
"""How long records are gathered before they are passed on together."""
_FLUSH_RECORDS: Final = 2_000
_LOAD_RECORDS: Final = 20_000
_SILENCE_SECONDS: Final = 30.0

_TAIL: Final[dict[str, int | None]] = {
    SYMBOLS.name: None,
    BARS_LIVE.name: None,
    BARS.name: 20_000,
    TICKS_CLEAN.name: 1_000,
    FEED_EVENTS.name: 1_000,
}
"""How many of a partition's last records are read at the start; none: all of a compacted topic."""

RESUMABLE: Final = {
    TICKS_CLEAN.name: protocol.TICKS,
    BARS.name: protocol.BARS,
    FEED_EVENTS.name: protocol.EVENTS,
}

log = logs.logger(__name__)


class Feed:
    """The newest state first (`load`), then what is written from there on (`follow`), by the same consumer."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._kafka = settings.kafka
        world = World(settings.world)
        self._topics = {world.topic(name): name for name in _TAIL}
        self._decoder = Decoder(self._topics, codec)
        self.bars_since: dict[int, int] = {}
        """From which offset of each partition on bars are read, 0 for all; known once `load` has begun."""
        self.places: dict[str, dict[int, Standing]] = {}
        """By channel, where each partition stood when `load` was done."""
        self._consumer: Consumer | None = None

    def load(self, stopping: threading.Event) -> Iterator[Update]:
        """Updates up to where every partition ended when this began, at least: a busy one never ends.

        Raises BrokerError.
        """
        self._consumer = clients.consumer(
            self._kafka,
            group="arbitrex.gateway",
            **{"enable.partition.eof": True, "queued.max.messages.kbytes": 32_768},
        )
        starts, behind = self._starts(self._consumer)
        self._consumer.assign(starts)
        heard = time.monotonic()
        while behind and not stopping.is_set():
            messages, ended = split(self._consumer.consume(_LOAD_RECORDS, _FLUSH_SECONDS))
            reached = {(message.topic(), message.partition()): message.offset() or 0 for message in messages}
            behind = {
                place: end for place, end in behind.items() if place not in ended and reached.get(place, -1) + 1 < end
            }
            if messages or ended:
                heard = time.monotonic()
                update = self._decoder.update(messages)
                for channel, places in update.places.items():
                    self.places[channel] |= places
                yield update
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise BrokerError(f"Kafka at {self._kafka.bootstrap_servers} fell silent while its topics were read")

    def follow(self, stopping: threading.Event, deliver: Callable[[Update], None]) -> None:
        """Deliver updates until ``stopping``. Raises BrokerError."""
        consumer = self._consumer
        assert consumer is not None, "load comes first"  # noqa: S101 - a mistake of the caller
        pace = Pace(self._kafka, consumer, clients.EMBEDDED_IDLE_SECONDS)
        while not stopping.is_set():
            found = consumer.consume(_FLUSH_RECORDS, _FLUSH_SECONDS)
            messages, _ = split(found)
            if messages:
                deliver(self._decoder.update(messages))
            pace.after(found, stopping.wait)

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _starts(self, consumer: Consumer) -> tuple[list[TopicPartition], dict[Place, int]]:
        """Where to begin, and where each partition ends now."""
        starts, ends = [], dict[Place, int]()
        for full_name, name in self._topics.items():
            for partition in range(partition_count(self._kafka, full_name)):
                low, high = watermarks(consumer, full_name, partition)
                tail = _TAIL[name]
                offset = low if tail is None else max(low, high - tail)
                if name == BARS.name:
                    self.bars_since[partition] = 0 if offset == low else offset
                starts.append(TopicPartition(full_name, partition, offset))
                ends[full_name, partition] = high
                if name in RESUMABLE:
                    self.places.setdefault(RESUMABLE[name], {})[partition] = Standing(offset)
        return starts, ends


class Decoder:
    """Messages of several topics to one update. What cannot be decoded is counted and logged."""

    def __init__(self, topics: dict[str, str], codec: Codec) -> None:
        self._topics = topics
        self._codec = codec

    def update(self, messages: Sequence[Message]) -> Update:
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(self._topics[message.topic() or ""], []).append(message)
        places = {RESUMABLE[name]: _places(found) for name, found in by_topic.items() if name in RESUMABLE}
        ticks: dict[str, list[Row]] = {}
        for _, row in self._rows(by_topic.get(TICKS_CLEAN.name, ()), "Tick"):
            ticks.setdefault(row["symbol"], []).append(row)
        return Update(
            specs=self._records(newest_by_key(by_topic.get(SYMBOLS.name, ())), SymbolSpec),
            ticks=ticks,
            bars=[
                Placed(closed_bar(row), message.partition() or 0, message.offset() or 0)
                for message, row in self._rows(by_topic.get(BARS.name, ()), "Bar")
            ],
            live=self._records(newest_by_key(by_topic.get(BARS_LIVE.name, ())), LiveBars),
            events=self._records(by_topic.get(FEED_EVENTS.name, ()), FeedEvent),
            places=places,
        )

    def _rows(self, messages: Sequence[Message], name: str) -> list[tuple[Message, Row]]:
        if not messages:
            return []
        decoded = decode_batch([message.value() for message in messages], self._codec, name)
        for place, error in decoded.bad:
            _skip(messages[place], error)
        for place, record in decoded.others:
            _skip(messages[place], f"a {type(record).__name__}, not a {name}")
        return [(messages[row.pop(INDEX)], row) for row in decoded.frame.to_dicts()]

    def _records(self, messages: Sequence[Message], kind: type[Any]) -> list[Any]:
        found = []
        for message in messages:
            value = message.value()
            if value is None:
                continue  # a compacted topic's tombstone
            try:
                record = self._codec.decode(value)
            except (DecodeError, UnknownSchemaError) as error:  # a registry that is away is no bad data: it is raised
                _skip(message, error)
                continue
            if isinstance(record, kind):
                found.append(record)
            else:
                _skip(message, f"a {type(record).__name__}, not a {kind.__name__}")
        return found


def _places(messages: Sequence[Message]) -> dict[int, Standing]:
    """Where the partitions of one topic stand after these messages."""
    last = {message.partition() or 0: message for message in messages}
    return {number: Standing((each.offset() or 0) + 1, each.timestamp()[1]) for number, each in last.items()}


def newest_by_key(messages: Sequence[Message]) -> list[Message]:
    """Of each key the last message, in order of first appearance."""
    return list({message.key(): message for message in messages}.values())


def watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First offset and next offset of a partition. Raises BrokerError."""
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10.0)
    except KafkaException as error:
        raise BrokerError(f"Kafka does not say where {topic} ends: {error.args[0].str()}") from error
    return low, high


def _skip(message: Message, reason: object) -> None:
    metrics.GATEWAY_SKIPPED.labels((message.topic() or "").partition(".")[2]).inc()
    log.warning(
        "record skipped",
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        reason=str(reason),
    )
