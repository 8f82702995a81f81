"""Reading spans of a topic's partitions, each in order, as far ahead as is needed and no further."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, cast

from confluent_kafka import KafkaError, Message, TopicPartition

from infra import kafka as clients
from infra.kafka_log import extent
from infra.pacing import AT_THE_END
from infra.settings import KafkaSettings
from schemas.errors import BrokerError, SourceError

_BATCH: Final = 10_000
_FULL: Final = 20_000
"""Messages of a partition that wait to be taken, at which no more of it are read."""

_LOW: Final = 5_000
"""…and at which reading goes on."""

_WAIT_SECONDS: Final = 0.05
_SILENCE_SECONDS: Final = 30.0


class Reader:
    """Messages from first to end offset of some partitions; a context manager, used by one thread.

    What is read waits in `buffers`, by partition, until it is taken from there.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, spans: Mapping[int, tuple[int, int]]) -> None:
        self._kafka, self._topic = kafka, topic
        self._next = {partition: first for partition, (first, _) in spans.items()}
        self._end = {partition: end for partition, (_, end) in spans.items()}
        self._open = {partition for partition, (first, end) in spans.items() if first < end}
        self._asked: set[int] = set()
        self._heard = time.monotonic()
        self.buffers: Final[dict[int, deque[Message]]] = {partition: deque() for partition in spans}

    def __enter__(self) -> Self:
        options: dict[str, Any] = {"enable.partition.eof": True, "queued.max.messages.kbytes": 32_768}
        if not self._kafka.embedded:
            options["fetch.wait.max.ms"] = 10
        self._consumer = clients.consumer(self._kafka, group="arbitrex.reader", **options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def finished(self, partition: int) -> bool:
        """Whether all of the partition's span was read and taken."""
        return partition not in self._open and not self.buffers[partition]

    @property
    def all_finished(self) -> bool:
        return not self._open and not any(self.buffers.values())

    @property
    def silent_seconds(self) -> float:
        """How long nothing has come."""
        return time.monotonic() - self._heard

    def fill(self, wait: float) -> bool:
        """Read on for up to ``wait`` seconds where little is left; False when nothing needs to be read.

        Raises SourceError for records that are gone, BrokerError when Kafka refuses.
        """
        wanted = {p for p in self._open if len(self.buffers[p]) < (_FULL if p in self._asked else _LOW)}
        if not wanted:
            return False
        if wanted != self._asked:  # what was fetched of others is fetched again when its turn comes
            self._consumer.assign([TopicPartition(self._topic, p, self._next[p]) for p in sorted(wanted)])
            self._asked = wanted
        for message in self._consumer.consume(_BATCH, wait):
            self._heard = time.monotonic()
            self._take(message)
        return True

    def fill_or_fail(self) -> None:
        """The same, but raises BrokerError when Kafka says nothing for half a minute."""
        if self.fill(_WAIT_SECONDS) and self.silent_seconds > _SILENCE_SECONDS:
            raise BrokerError(f"Kafka at {self._kafka.bootstrap_servers} fell silent while {self._topic} was read")

    def _take(self, message: Message) -> None:
        error, partition = message.error(), cast("int", message.partition())
        if error is not None:
            self._erred(error, partition, message)
            return
        offset = cast("int", message.offset())
        if partition not in self._open or offset < self._next[partition]:
            return
        if offset < self._end[partition]:
            self.buffers[partition].append(message)
        self._reached(partition, offset + 1)

    def _erred(self, error: KafkaError, partition: int, message: Message) -> None:
        code = error.code()
        if code == AT_THE_END:
            if partition in self._open:
                self._reached(partition, cast("int", message.offset()))
                self._look_for_loss(partition)
        elif code in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001 - as above
            raise SourceError(
                f"{self._topic}[{partition}] no longer has its records from {self._next.get(partition)} on: retention "
                "took them before they were read; what is written stays, for the rest there is nothing to read"
            )
        else:
            raise BrokerError(f"reading {self._topic}: {error.str()}")

    def _look_for_loss(self, partition: int) -> None:
        """What is still to come is written already; where it is not, it was there once."""
        if partition not in self._open:
            return
        end = extent(self._consumer, TopicPartition(self._topic, partition))[1]
        if end < self._end[partition]:
            raise SourceError(
                f"{self._topic}[{partition}] ends at {end}, and had records up to {self._end[partition]} when the "
                "replay was begun: the broker lost data; begin anew in another world (--into)"
            )

    def _reached(self, partition: int, offset: int) -> None:
        self._next[partition] = max(offset, self._next[partition])
        if self._next[partition] >= self._end[partition]:
            self._open.discard(partition)
