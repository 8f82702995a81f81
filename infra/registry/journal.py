"""The registry's log: a compacted topic of one partition, with one writer at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from infra import kafka as clients
from infra.kafka_log import read_to_end
from infra.registry.catalog import Entry
from infra.settings import KafkaSettings
from schemas.errors import BrokerError, FencedError, RegistryError

TOPIC: Final = "_schemas"
_WRITER: Final = "arbitrex.registry"
_SECONDS: Final = 10.0
_CLUSTER: Final = 3
_COMMIT_SECONDS: Final = 30.0


class Journal:
    """Entries, kept by Kafka.

    One transaction a change, so a change is there as a whole or not at all; the transaction's id fences a registry
    that still runs elsewhere on the same Kafka.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer: Producer | None = None

    def open(self) -> list[Entry]:
        """Become the writer; all entries so far. Raises BrokerError when Kafka is away."""
        try:
            self._ensure_topic()
            self._producer = clients.producer(self._kafka, transactional_id=_WRITER, **{"linger.ms": 0})
            self._producer.init_transactions(_SECONDS)  # after it, nothing of an earlier writer can follow
        except KafkaException as error:
            raise BrokerError(f"Kafka at {self._kafka.bootstrap_servers}: {error.args[0].str()}") from error
        start = TopicPartition(TOPIC, 0, 0)
        return [_entry(message) for batch in read_to_end(self._kafka, [start]) for message in batch]

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep the entries, all or none; they are safe when this returns.

        Raises FencedError when another registry has taken over, and BrokerError when they could not be kept; after
        that it is unknown what the log holds, and the journal must be opened anew.
        """
        if self._producer is None:
            raise RegistryError("the registry's log is not open")
        try:
            self._producer.begin_transaction()
            for key, value in entries:
                self._producer.produce(
                    TOPIC, key=_dump(key), value=None if value is None else _dump(value), partition=0
                )
            self._commit(self._producer)
        except KafkaException as error:
            problem: KafkaError = error.args[0]
            if problem.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH}:  # noqa: SLF001
                raise FencedError(
                    "another registry has taken over on this Kafka, and only one may run: have this stack use the "
                    "other's with ARBITREX_REGISTRY__URL"
                ) from error
            raise BrokerError(f"Kafka could not keep a schema: {problem.str()}") from error

    def close(self) -> None:
        """Give up writing."""
        self._producer = None

    @staticmethod
    def _commit(producer: Producer) -> None:
        deadline = time.monotonic() + _COMMIT_SECONDS
        while True:
            try:
                producer.commit_transaction(_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    def _ensure_topic(self) -> None:
        """Create the topic, or see that the one there forgets nothing."""
        admin = clients.admin(self._kafka)
        cluster = admin.list_topics(timeout=_SECONDS)
        if TOPIC not in cluster.topics:
            replicas = self._kafka.replication or (3 if len(cluster.brokers) >= _CLUSTER else 1)
            config = {"cleanup.policy": "compact", "min.insync.replicas": str(min(replicas, 2))}
            topic = NewTopic(TOPIC, num_partitions=1, replication_factor=replicas, config=config)
            try:
                admin.create_topics([topic], operation_timeout=_SECONDS)[TOPIC].result(2 * _SECONDS)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker
                    raise
            return
        partitions = len(cluster.topics[TOPIC].partitions)
        resource = ConfigResource(ResourceType.TOPIC, TOPIC)
        policy = admin.describe_configs([resource])[resource].result(2 * _SECONDS)["cleanup.policy"].value
        if partitions != 1 or policy != "compact":
            raise RegistryError(
                f"topic {TOPIC} has {partitions} partitions and cleanup.policy={policy}; "
                "the registry needs one partition and compact"
            )


def _dump(part: dict[str, Any]) -> bytes:
    """JSON that is the same bytes for the same content: compaction compares keys as bytes."""
    return json.dumps(part, sort_keys=True, separators=(",", ":")).encode()


def _entry(message: Any) -> Entry:
    value = message.value()
    try:
        return json.loads(message.key()), None if value is None else json.loads(value)
    except (TypeError, ValueError) as error:
        raise RegistryError(f"topic {TOPIC} holds a record at offset {message.offset()} that is no entry") from error
