"""Reading a topic as a log: to its end, from a moment, in bulk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra import kafka as clients
from infra.pacing import AT_THE_END, Pace, Place
from infra.settings import KafkaSettings
from schemas.errors import BrokerError

_GROUP: Final = "arbitrex.reader"
_POLL_SECONDS: Final = 0.05
_FILL_SECONDS: Final = 0.005
_SILENCE_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.01
_PASSING: Final = {
    KafkaError._TRANSPORT,  # noqa: SLF001 - its public names
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - the client joins again
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


def passes(error: KafkaError) -> bool:
    """Whether it ends by itself, as while a node is lost: whoever meets it should ask again."""
    return error.retriable() or error.code() in _PASSING


def partition_count(kafka: KafkaSettings, topic: str, *, timeout: float = 10.0) -> int:
    """How many partitions ``topic`` has. Raises BrokerError when Kafka is away or has no such topic."""
    try:
        found = clients.admin(kafka).list_topics(topic, timeout=timeout).topics[topic]
    except KafkaException as error:
        raise BrokerError(f"Kafka at {kafka.bootstrap_servers} does not answer: {error.args[0].str()}") from error
    if found.error is not None or not found.partitions:
        raise BrokerError(f"topic {topic} does not exist; create it with: arbitrex topics apply")
    return len(found.partitions)


def beginnings(kafka: KafkaSettings, topic: str) -> list[TopicPartition]:
    """The start of each partition as an offset, for `read_to_end`.

    Raises BrokerError when Kafka is away or has no such topic.
    """
    return [TopicPartition(topic, partition, low) for partition, (low, _) in extents(kafka, topic).items()]


def extents(kafka: KafkaSettings, topic: str, *, timeout: float = 10.0) -> dict[int, tuple[int, int]]:
    """The first and the end offset of each partition. Raises BrokerError when Kafka is away or has no such topic."""
    partitions = range(partition_count(kafka, topic, timeout=timeout))
    with _asking(kafka) as consumer:
        return {number: extent(consumer, TopicPartition(topic, number), timeout=timeout) for number in partitions}


def extent(consumer: Consumer, place: TopicPartition, *, timeout: float = 10.0) -> tuple[int, int]:
    """First and end offset of a partition. Raises KafkaException.

    One that was just made, or moves, may have no leader yet, and a node may be lost: that is waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=timeout)
        except KafkaException as error:
            new = error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            if not (new or passes(error.args[0])) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def ends(kafka: KafkaSettings, topic: str, *, timeout: float = 10.0) -> dict[int, int]:
    """The end offset of each partition. Raises BrokerError when Kafka is away or has no such topic."""
    return {number: end for number, (_, end) in extents(kafka, topic, timeout=timeout).items()}


def since(kafka: KafkaSettings, topic: str, utc_ms: int, *, timeout: float = 10.0) -> list[TopicPartition]:
    """In each partition the first record of that time (milliseconds) or later; its end where there is none.

    Raises BrokerError when Kafka is away or has no such topic.
    """
    found = extents(kafka, topic, timeout=timeout)
    wanted = [TopicPartition(topic, number, max(utc_ms, 0)) for number in found]
    with _asking(kafka) as consumer:
        places = consumer.offsets_for_times(wanted, timeout=timeout)
    return [
        TopicPartition(topic, each.partition, each.offset if each.offset >= 0 else found[each.partition][1])
        for each in places
    ]


def offset_at(kafka: KafkaSettings, place: TopicPartition, time_ms: int) -> TopicPartition | None:
    """Where the first record of that time or later stands in a partition; None if there is none.

    Raises BrokerError when Kafka is away.
    """
    with _asking(kafka) as consumer:
        (found,) = consumer.offsets_for_times(
            [TopicPartition(place.topic, place.partition, max(time_ms, 0))], timeout=_ANSWER_SECONDS
        )
    return found if found.offset >= 0 else None


def wait_for_transactions(kafka: KafkaSettings, place: TopicPartition) -> None:
    """Wait until no transaction is open in a partition: a commit returns a little before others can read it.

    Raises BrokerError when Kafka is away, or one stays open.
    """
    committed = clients.consumer(kafka, group=_GROUP)
    everything = clients.consumer(kafka, group=_GROUP, **{"isolation.level": "read_uncommitted"})
    deadline = time.monotonic() + _SILENCE_SECONDS
    try:
        end = everything.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)[1]
        while committed.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)[1] < end:
            if time.monotonic() > deadline:
                raise BrokerError(f"a transaction in {place.topic}[{place.partition}] does not end")
            time.sleep(_PAUSE_SECONDS)
    except KafkaException as error:
        raise BrokerError(f"Kafka at {kafka.bootstrap_servers} does not answer: {error.args[0].str()}") from error
    finally:
        committed.close()
        everything.close()


def split(found: Sequence[Message]) -> tuple[list[Message], set[Place]]:
    """The messages of what a consumer gave, and the partitions that it has read to their end. Raises BrokerError."""
    messages: list[Message] = []
    ended: set[Place] = set()
    for message in found:
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.code() == AT_THE_END:
            ended.add((message.topic(), message.partition()))
        else:
            raise BrokerError(f"reading {message.topic()}: {error.str()}")
    return messages, ended


def read_to_end(
    kafka: KafkaSettings,
    starts: Sequence[TopicPartition],
    stopping: Event | None = None,
    *,
    batch: int = 10_000,
    **overrides: Any,
) -> Iterator[list[Message]]:
    """Batches of all committed messages from each start (an offset, or from the beginning) to the end as it is now.

    Ends early once ``stopping`` is set. Raises BrokerError when Kafka refuses, or says nothing for half a minute.
    """
    if not starts:
        return
    consumer = _reader(kafka, starts, {"enable.partition.eof": True} | overrides)
    try:
        open_ends: set[Place] = {(start.topic, start.partition) for start in starts}
        heard = time.monotonic()
        while open_ends and not (stopping and stopping.is_set()):
            found = polled(consumer, batch)
            if found:
                heard = time.monotonic()
            messages, ended = split(found)
            open_ends -= ended
            if messages:
                yield messages
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                waiting = ", ".join(sorted({str(topic) for topic, _ in open_ends}))
                raise BrokerError(f"Kafka at {kafka.bootstrap_servers} fell silent while {waiting} was read")
    finally:
        consumer.close()


def follow(
    kafka: KafkaSettings, starts: Sequence[TopicPartition], stopping: Event, *, batch: int = 1_000
) -> Iterator[list[Message]]:
    """Batches of committed messages from each start on, as they come, until ``stopping`` is set.

    A Kafka that is away is waited for. Raises BrokerError when it refuses.
    """
    consumer = _reader(kafka, starts, {"fetch.wait.max.ms": 100, "enable.partition.eof": True})
    pace = Pace(kafka, consumer, clients.EMBEDDED_IDLE_SECONDS)
    try:
        while not stopping.is_set():
            found, messages = consumer.consume(batch, _POLL_SECONDS), []
            for message in found:
                error = message.error()
                if error is None:
                    messages.append(message)
                elif error.code() != AT_THE_END and not passes(error):
                    raise BrokerError(f"reading {message.topic()}: {error.str()}")
            if messages:
                yield messages
            pace.after(found, stopping.wait)
    finally:
        consumer.close()


def polled(consumer: Consumer, batch: int) -> list[Message]:
    """What comes next; `Consumer.consume` alone waits its whole time out when fewer than a batch come."""
    first = consumer.consume(1, _POLL_SECONDS)
    return [*first, *consumer.consume(batch - 1, _FILL_SECONDS)] if first and batch > 1 else first


def _reader(kafka: KafkaSettings, starts: Sequence[TopicPartition], overrides: dict[str, Any]) -> Consumer:
    usual = {"auto.offset.reset": "earliest", "fetch.wait.max.ms": 10}
    consumer = clients.consumer(kafka, group=_GROUP, **usual | overrides)
    consumer.assign(
        [TopicPartition(s.topic, s.partition, s.offset if s.offset >= 0 else OFFSET_BEGINNING) for s in starts]
    )
    return consumer


@contextmanager
def _asking(kafka: KafkaSettings) -> Iterator[Consumer]:
    consumer = clients.consumer(kafka, group=_GROUP)
    try:
        yield consumer
    except KafkaException as error:
        raise BrokerError(f"Kafka at {kafka.bootstrap_servers} does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()
