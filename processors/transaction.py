"""One unit of work as one Kafka transaction: all that a batch gives, and that it was processed, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from infra import topics
from infra.topics import Topic
from infra.worlds import World
from processors.core.types import Outcome, Reason
from processors.records import Records
from schemas.codec import Codec
from schemas.errors import ArbitrexError, BrokerError, FencedError
from schemas.records import FeedEvent, LiveBars, Progress

COMMIT_SECONDS: Final = 30.0
LARGEST_DEAD_LETTER: Final = 900_000
"""Bytes kept of one: its headers must fit beside it into what a broker takes (1 MiB by default)."""

_ROOM_SECONDS: Final = 0.1
_FENCED: Final = {
    KafkaError._FENCED,  # noqa: SLF001 - the client's public name for it
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError._FATAL,  # noqa: SLF001 - a fenced producer's later calls
}

_WRITTEN: Final = (
    topics.TICKS_CLEAN,
    topics.TICKS_REJECTED,
    topics.BARS,
    topics.BARS_LIVE,
    topics.PROGRESS,
    topics.SYMBOLS,
    topics.FEED_EVENTS,
    topics.DEAD_LETTERS,
)

Headers = list[tuple[str, str | bytes | None]]


class Writer:
    """Writes the transactions of one source partition, whose owner its producer is."""

    def __init__(self, world: World, codec: Codec, producer: Producer, partition: int) -> None:
        self._codec = codec
        self._producer = producer
        self._partition = partition
        self._topics = {topic.name: world.topic(topic.name) for topic in _WRITTEN}
        self._source = world.topic(topics.TICKS_RAW.name).encode()

    def commit(self, records: Records, outcome: Outcome, progress: Progress) -> None:
        """Write what ``records`` gave, with ``progress``, and commit.

        Blocks until Kafka has it for good. Raises FencedError when another worker owns the partition by now,
        BrokerError when Kafka did not take it: then nothing of it is there.
        """
        with self._transaction():
            self._ticks(records, outcome)
            self._results(records, outcome)
            self._dead_letters(records, outcome)
            self._stand(progress, records.timestamps[-1])

    def note(self, event: FeedEvent) -> None:
        """Write an event in a transaction of its own. Raises as `commit`."""
        with self._transaction():
            self._event(event, [])

    def go_on(self, event: FeedEvent, news: Sequence[tuple[LiveBars, int]], progress: Progress) -> None:
        """Write an event, and with it live bars and progress to go on from. Raises as `commit`."""
        with self._transaction():
            self._event(event, [])
            self._live(news, event.time)
            self._stand(progress, event.time)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._producer.begin_transaction()
            yield
            self._producer.commit_transaction(COMMIT_SECONDS)
        except KafkaException as error:
            raise broker_error(error, f"the transaction of partition {self._partition}") from error

    def _ticks(self, records: Records, outcome: Outcome) -> None:
        produce, topic, partition = self._producer.produce, self._topics[topics.TICKS_CLEAN.name], self._partition
        keys, values, times = records.keys, records.values, records.timestamps
        for at in outcome.clean.tolist():
            try:  # seven positions: this is the loop that counts, and keywords cost a tenth of it
                produce(topic, values[at], keys[at], partition, None, None, times[at])
            except BufferError:
                self._send(topics.TICKS_CLEAN, values[at], keys[at], times[at])
        for at, reason in zip(outcome.rejected.tolist(), outcome.reasons.tolist(), strict=True):
            record = records[at]
            headers = [("reason", Reason(reason).label.encode()), *self._position(record.offset)]
            self._send(topics.TICKS_REJECTED, record.value, record.key, record.timestamp, headers)

    def _results(self, records: Records, outcome: Outcome) -> None:
        encode = self._codec.encode
        for closed in outcome.closed:
            bar = closed.bar
            headers = [
                *self._position(closed.cause_offset),
                ("first_offset", b"%d" % closed.first_offset),
                ("last_offset", b"%d" % closed.last_offset),
            ]
            self._send(topics.BARS, encode(bar), bar.key.encode(), bar.ts_close, headers)
        self._live(outcome.live, records.timestamps[-1])
        for at, spec in outcome.specs:
            headers = self._position(records.offsets[at])
            self._send(topics.SYMBOLS, encode(spec), spec.symbol.encode(), records.timestamps[at], headers)
        for at, event in outcome.events:
            self._event(event, self._position(records.offsets[at]))

    def _live(self, lives: Sequence[tuple[LiveBars, int]], otherwise: int) -> None:
        """Live bars, each with the source offset that changed it; ``otherwise``: the time of those without a tick."""
        for live, offset in lives:
            value, time = self._codec.encode(live), live.last_ts or otherwise
            self._send(topics.BARS_LIVE, value, live.symbol.encode(), time, self._position(offset))

    def _dead_letters(self, records: Records, outcome: Outcome) -> None:
        for at, error in outcome.dead:
            record = records[at]
            headers = [
                ("topic", self._source),
                *self._position(record.offset),
                ("reason", dead_reason(error).encode()),
                ("error", str(error).encode()),
            ]
            value = record.value
            if value is not None and len(value) > LARGEST_DEAD_LETTER:
                headers.append(("truncated_from", b"%d" % len(value)))
                value = value[:LARGEST_DEAD_LETTER]
            self._send(topics.DEAD_LETTERS, value, record.key, record.timestamp, headers)

    def _event(self, event: FeedEvent, headers: Headers) -> None:
        key = event.symbol or f"@{event.feed}/{event.shard}"
        self._send(topics.FEED_EVENTS, self._codec.encode(event), key.encode(), event.time, headers)

    def _stand(self, progress: Progress, time: int) -> None:
        self._send(topics.PROGRESS, self._codec.encode(progress), b"%d" % self._partition, time)

    def _position(self, offset: int) -> Headers:
        return [("partition", b"%d" % self._partition), ("offset", b"%d" % offset)]

    def _send(
        self, topic: Topic, value: bytes | None, key: bytes | None, time: int, headers: Headers | None = None
    ) -> None:
        """Produce one record, waiting for room in the local queue where there is none.

        A time before 1970 (no time at all is -1) is left to the client's clock: only dead letters can have one.
        """
        produce, name = self._producer.produce, self._topics[topic.name]
        while True:
            try:
                produce(name, value, key, self._partition, timestamp=max(time, 0), headers=headers)
            except BufferError:
                self._producer.poll(_ROOM_SECONDS)
            else:
                return


def dead_reason(error: ArbitrexError) -> str:
    """Why a record is a dead letter, as a label: its error's class without ``Error``, in snake case."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")


def broker_error(error: KafkaException, what: str) -> BrokerError:
    """The error of ours for one of the client's: FencedError when another worker has taken over."""
    reason: Any = error.args[0]
    if reason.code() in _FENCED:
        return FencedError(f"{what} belongs to another worker now ({reason.str()}); this one has to stop")
    return BrokerError(f"Kafka did not take {what}: {reason.str()}")
