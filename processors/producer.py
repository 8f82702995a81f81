"""The producer of one source partition's transactions: who started it last owns the partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, InvalidProducerIdMapping, KafkaError, ProducerFenced

from infra import kafka as clients
from infra.settings import KafkaSettings
from processors.batches import RecordBatch
from schemas.errors import BrokerError, FencedError

START_SECONDS: Final = 25.0
COMMIT_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0

_TRANSACTION_MS: Final = 60_000
_RETRY_MS: Final = 50
_FENCED: Final = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)


class TransactionalProducer:
    """Writes whole batches in transactions. Crash-only: after an error there is nothing to do but to close it.

    Whoever starts one with the same ``transactional_id`` aborts what this one has open and fences it off.
    """

    def __init__(self, kafka: KafkaSettings, transactional_id: str, partition: int) -> None:
        self._partition = partition
        self._error: BrokerError | None = None
        self._producer = AIOKafkaProducer(
            **clients.aiokafka(kafka),
            transactional_id=transactional_id,
            transaction_timeout_ms=_TRANSACTION_MS,
            retry_backoff_ms=_RETRY_MS,
        )

    async def start(self, topics: Iterable[str]) -> None:
        """Become the owner; ``topics`` are those that will be written.

        Raises BrokerError when Kafka does not allow it within `START_SECONDS`.
        """
        async with self._guarded("the takeover", START_SECONDS):
            await self._producer.start()
            for topic in topics:
                await self._producer.partitions_for(topic)

    async def commit(self, batches: Mapping[str, Iterable[RecordBatch]]) -> None:
        """Write batches to this partition of their topics, each topic's in order, and commit.

        Returns when Kafka has them for good. Raises FencedError when another is the owner by now, BrokerError when
        Kafka did not take them within `COMMIT_SECONDS`: whether it did in the end, the next owner will see.
        """
        async with self._guarded("the transaction", COMMIT_SECONDS):
            await self._producer.begin_transaction()
            sent = await asyncio.gather(*(self._send(topic, some) for topic, some in batches.items()))
            # All must be there before: aiokafka would commit without one that Kafka refused.
            await asyncio.gather(*(delivery for deliveries in sent for delivery in deliveries))
            await self._producer.commit_transaction()

    async def close(self) -> None:
        """Let go of the connections. What is open yet is the next owner's to abort, or Kafka's after a minute."""
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._producer.stop()

    async def _send(self, topic: str, batches: Iterable[RecordBatch]) -> list[Any]:
        return [await self._producer.send_batch(batch, topic, partition=self._partition) for batch in batches]

    @asynccontextmanager
    async def _guarded(self, what: str, seconds: float) -> AsyncIterator[None]:
        what = f"{what} of partition {self._partition}"
        if self._error is not None:
            raise BrokerError(f"{what} was not tried: {self._error}")
        try:
            async with asyncio.timeout(seconds):
                yield
        except _FENCED as error:
            _heard(self._producer)
            self._error = FencedError(f"{what} belongs to another worker now ({error}); this one has to stop")
            raise self._error from error
        except TimeoutError as error:
            self._error = BrokerError(f"Kafka did not take {what} within {seconds:.0f} s")
            raise self._error from error
        except KafkaError as error:
            _heard(self._producer)
            self._error = BrokerError(f"Kafka did not take {what}: {error!r}")
            raise self._error from error


def _heard(producer: Any) -> None:
    """Mark aiokafka's inner futures as asked for: their error is the one we have, and would be logged as lost."""
    waiting = producer._message_accumulator._batches.values()  # noqa: SLF001 - no public way
    futures = [batch._drain_waiter for batches in waiting for batch in batches]  # noqa: SLF001
    futures.append(producer._txn_manager._transaction_waiter)  # noqa: SLF001
    for future in futures:
        if future is not None and future.done() and not future.cancelled():
            future.exception()
