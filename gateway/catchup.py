"""What a client missed while it was away, read from Kafka once more, exactly from its cursor to where we stand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from gateway import answers, protocol
from gateway.cursor import Cursor, Place
from gateway.feed import Decoder
from gateway.groups import Interest
from gateway.market import parts_of
from gateway.patterns import is_pattern
from gateway.protocol import Stream
from infra import kafka as clients
from infra.kafka_log import extent, polled, split
from infra.settings import Settings
from infra.topics import BARS, FEED_EVENTS, TICKS_CLEAN
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import BrokerError

TOPICS: Final = {protocol.TICKS: TICKS_CLEAN.name, protocol.BARS: BARS.name, protocol.EVENTS: FEED_EVENTS.name}
_READERS: Final = 8
_PAGE: Final = 2_000
_SILENCE_SECONDS: Final = 30.0
_BUFFERED_KBYTES: Final = 4_096


class LogReader:
    """A bounded pool of readers. Its method raises BrokerError."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._slots = asyncio.Semaphore(_READERS)
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="catch-up")

    async def read(self, start: Cursor, end: Cursor, streams: Sequence[Stream]) -> AsyncIterator[protocol.Message]:
        """Messages of all rows from ``start`` to ``end``, each with the cursor after it; before, what is lost."""
        lock = threading.Lock()
        topic = World(self._settings.world).topic(TOPICS[start.channel])
        decoder = Decoder({topic: TOPICS[start.channel]}, self._codec)
        pages = _Range(self._settings, topic, start, end).pages(decoder, streams)

        def following() -> protocol.Message | None:
            with lock:
                return next(pages, None)

        def close() -> None:
            with lock:
                pages.close()

        async with self._slots:
            try:
                while (page := await asyncio.get_running_loop().run_in_executor(self._pool, following)) is not None:
                    yield page
            finally:
                self._pool.submit(close)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Partition:
    """One partition of the range, until it is read."""

    start: Place
    end: Place
    low: int
    checked: bool
    """There is no record before it that could be looked at."""
    begun: bool = False
    """Its first message has come."""


class _Range:
    """From one cursor to another, of one topic."""

    def __init__(self, settings: Settings, topic: str, start: Cursor, end: Cursor) -> None:
        self._kafka = settings.kafka
        self._topic = topic
        self._start, self._end = start, end
        self._cursor = start
        self._open: dict[int, _Partition] = {}
        self._lost: list[dict[str, Any]] = []
        self._keys: dict[bytes, bool] = {}

    def pages(self, decoder: Decoder, streams: Sequence[Stream]) -> Generator[protocol.Message]:
        if len(self._start.places) != len(self._end.places):
            self._lost = [{"reason": "log_replaced", "from": _newest(self._start), "to": _newest(self._end)}]
            yield from self._told()
            return
        consumer = clients.consumer(
            self._kafka,
            group="arbitrex.gateway",
            **{"enable.partition.eof": True, "queued.max.messages.kbytes": _BUFFERED_KBYTES, "fetch.wait.max.ms": 10,
               "auto.offset.reset": "earliest"},
        )  # fmt: skip
        interest = Interest(streams)
        try:
            self._assign(consumer, _partitions(streams, len(self._end.places)))
            yield from self._told()
            heard = time.monotonic()
            while self._open:
                found = polled(consumer, _PAGE)
                messages, ended = split(found)
                if found:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE_SECONDS:
                    raise BrokerError(
                        f"Kafka at {self._kafka.bootstrap_servers} fell silent while {self._topic} was read"
                    )
                fresh = self._fresh(messages)
                for _, number in ended:
                    self._finish(number or 0)
                yield from self._told()
                update = decoder.update([message for message in fresh if self._is_wanted(message, interest)])
                rows = [row for stream, rows in parts_of(update) if interest.holds(stream) for row in rows]
                if rows:
                    yield answers.data(self._start.channel, "update", rows, cursor=str(self._cursor))
        except KafkaException as error:
            raise BrokerError(f"Kafka does not say where {self._topic} stands: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer, wanted: set[int]) -> None:
        starts = []
        for number, (start, end) in enumerate(zip(self._start.places, self._end.places, strict=True)):
            if start == end:
                continue
            if number not in wanted:
                self._cursor = self._cursor.moved({number: end})
                continue
            low, _ = extent(consumer, TopicPartition(self._topic, number))
            known = start.time is not None and start.next > low
            if start.next > end.next:
                self._replaced(number, start, end)
                continue
            self._open[number] = _Partition(start, end, low, checked=not known)
            starts.append(TopicPartition(self._topic, number, start.next - 1 if known else max(start.next, low)))
        consumer.assign(starts)

    def _is_wanted(self, message: Message, interest: Interest) -> bool:
        """Whether it may be worth decoding; of ticks the key tells."""
        if self._start.channel != protocol.TICKS:
            return True
        key = message.key() or b""
        wanted = self._keys.get(key)
        if wanted is None:
            wanted = self._keys[key] = interest.holds(Stream(protocol.TICKS, key.decode(errors="replace")))
        return wanted

    def _fresh(self, messages: Sequence[Message]) -> list[Message]:
        """Those of the range; the one before it shows that the log is still the one that the cursor is of."""
        fresh: list[Message] = []
        last: dict[int, Message] = {}
        for message in messages:
            number, offset = message.partition() or 0, message.offset() or 0
            part = self._open.get(number)
            if part is None:
                continue
            if not part.begun and not self._begins(part, number, message):
                continue
            if part.start.next <= offset < part.end.next:
                fresh.append(message)
                last[number] = message
            if offset >= part.end.next - 1:
                self._open.pop(number)
        places = {number: Place((each.offset() or 0) + 1, each.timestamp()[1]) for number, each in last.items()}
        self._cursor = self._cursor.moved(places)
        return fresh

    def _begins(self, part: _Partition, number: int, first: Message) -> bool:
        """Note what the first message of a partition shows; False when it is of another log."""
        part.begun = True
        moment = first.timestamp()[1]
        if not part.checked and first.offset() == part.start.next - 1 and moment != part.start.time:
            self._replaced(number, part.start, part.end)
            return False
        if part.start.next < part.low:
            about = {"partition": number, "reason": "retention", "from": part.start.time, "to": moment}
            self._lost.append(about | {"records": part.low - part.start.next})
        return True

    def _finish(self, number: int) -> None:
        """A partition is read to its end."""
        part = self._open.pop(number, None)
        if part is not None and not part.begun and part.start.next < part.low:
            about = {"partition": number, "reason": "retention", "from": part.start.time, "to": part.end.time}
            self._lost.append(about | {"records": part.end.next - part.start.next})

    def _replaced(self, number: int, start: Place, end: Place) -> None:
        self._open.pop(number, None)
        self._cursor = self._cursor.moved({number: end})
        self._lost.append({"partition": number, "reason": "log_replaced", "from": start.time, "to": end.time})

    def _told(self) -> Iterator[protocol.Message]:
        if self._lost:
            lost, self._lost = self._lost, []
            yield answers.data(self._start.channel, "history_lost", lost)


def _newest(cursor: Cursor) -> int | None:
    return max((place.time for place in cursor.places if place.time is not None), default=None)


def _partitions(streams: Sequence[Stream], count: int) -> set[int]:
    """Where rows of the streams may stand."""
    if any(is_pattern(stream.symbol) or stream.channel == protocol.EVENTS for stream in streams):
        return set(range(count))
    return {clients.partition_for(stream.symbol, count) for stream in streams}
