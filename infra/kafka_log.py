"""Reading a topic as a log: to its end, from a moment, in bulk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra import kafka as clients
from infra.settings import KafkaSettings
from schemas.errors import BrokerError

_SILENCE_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.01
_LEADERLESS: Final = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


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
    """The start of each partition, for `read_to_end`. Raises BrokerError when Kafka is away or has no such topic."""
    return [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partition_count(kafka, topic))]


def read_to_end(
    kafka: KafkaSettings, starts: Sequence[TopicPartition], *, batch: int = 10_000, **overrides: Any
) -> Iterator[list[Message]]:
    """Batches of all committed messages from each start (an offset, or from the beginning) to the end as it is now.

    Raises BrokerError when Kafka refuses, or says nothing for half a minute.
    """
    if not starts:
        return
    consumer = clients.consumer(
        kafka,
        group="arbitrex.reader",
        **{"enable.partition.eof": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10} | overrides,
    )
    try:
        consumer.assign(
            [TopicPartition(s.topic, s.partition, s.offset if s.offset >= 0 else OFFSET_BEGINNING) for s in starts]
        )
        open_ends = {(start.topic, start.partition) for start in starts}
        heard = time.monotonic()
        while open_ends:
            messages = []
            for message in consumer.consume(batch, 0.05):
                heard = time.monotonic()
                error = message.error()
                if error is None:
                    messages.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's public name for it
                    open_ends.discard((message.topic(), message.partition()))
                else:
                    raise BrokerError(f"reading {message.topic()}: {error.str()}")
            if messages:
                yield messages
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                waiting = ", ".join(sorted({topic for topic, _ in open_ends}))
                raise BrokerError(f"Kafka at {kafka.bootstrap_servers} fell silent while {waiting} was read")
    finally:
        consumer.close()


def offset_at(kafka: KafkaSettings, place: TopicPartition, time_ms: int) -> TopicPartition | None:
    """Where the first record of that time or later stands in a partition; None if there is none.

    Raises BrokerError when Kafka is away.
    """
    consumer = clients.consumer(kafka, group="arbitrex.reader")
    try:
        (found,) = consumer.offsets_for_times(
            [TopicPartition(place.topic, place.partition, max(time_ms, 0))], timeout=_ANSWER_SECONDS
        )
    except KafkaException as error:
        raise BrokerError(f"Kafka at {kafka.bootstrap_servers} does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return found if found.offset >= 0 else None


def wait_for_transactions(kafka: KafkaSettings, place: TopicPartition) -> None:
    """Wait until no transaction is open in a partition: a commit returns a little before others can read it.

    Raises BrokerError when Kafka is away, or one stays open.
    """
    committed = clients.consumer(kafka, group="arbitrex.reader")
    everything = clients.consumer(kafka, group="arbitrex.reader", **{"isolation.level": "read_uncommitted"})
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


def ends(kafka: KafkaSettings, topic: str, *, timeout: float = 10.0) -> dict[int, int]:
    """The end offset of each partition. Raises BrokerError when Kafka is away or has no such topic."""
    partitions = range(partition_count(kafka, topic, timeout=timeout))
    consumer = clients.consumer(kafka, group="arbitrex.reader")
    try:
        return {number: extent(consumer, topic, number, timeout=timeout)[1] for number in partitions}
    except KafkaException as error:
        raise BrokerError(f"Kafka at {kafka.bootstrap_servers} does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()


def extent(consumer: Consumer, topic: str, partition: int, *, timeout: float = 10.0) -> tuple[int, int]:
    """First and end offset of a partition. Raises KafkaException.

    A partition that was just made, or moved, may have no leader yet: that is waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout)
        except KafkaException as error:
            if error.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
