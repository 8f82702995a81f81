"""Reading on without spinning: the embedded broker answers empty fetches at once, whatever wait they name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message

from infra.settings import KafkaSettings

AT_THE_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - the client's public name for it

Place = tuple[str | None, int | None]
"""A message's topic and partition."""


class Pace:
    """Lets a consumer rest once every partition is read to its end; a real Kafka needs none.

    The consumer tells the ends (``enable.partition.eof``). Before all of them are told nothing is paused: that throws
    away what is being fetched, and where fetches take longer than the caller waits for them nothing would ever come.
    """

    def __init__(self, kafka: KafkaSettings, consumer: Consumer, seconds: float) -> None:
        self._consumer = consumer
        self._seconds = seconds if kafka.embedded else 0.0
        self._ended: set[Place] = set()

    def after(self, messages: Sequence[Message], wait: Callable[[float], object] = time.sleep) -> None:
        """What the consumer gave last; rests if that was all there is."""
        if not self._seconds:
            return
        for message in messages:
            error, place = message.error(), (message.topic(), message.partition())
            if error is not None and error.code() == AT_THE_END:
                self._ended.add(place)
            else:
                self._ended.discard(place)
        if not self._ended:
            return
        partitions = self._consumer.assignment()
        if partitions and self._ended.issuperset((each.topic, each.partition) for each in partitions):
            self._ended.clear()
            self._consumer.pause(partitions)
            wait(self._seconds)
            self._consumer.resume(partitions)
