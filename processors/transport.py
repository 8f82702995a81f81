"""Faust's transport for whole batches: a fetch of one partition becomes one event.

Faust spends a tenth of a millisecond on every event it hands over, which for single ticks means 10,000 a second. It is
made for transports of one's own (`faust.transports`); this one is its aiokafka driver with four things changed: what an
event is, where reading starts after an assignment (where the last committed transaction ended, not where the group's
offsets are), which partitions are asked (those with few batches in flight), and the fetch's sizes and waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Final, Protocol, cast

import aiokafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from infra import kafka as clients
from infra import logs
from infra.settings import KafkaSettings
from processors.partition import Fetch, Partition
from schemas.errors import ArbitrexError, BrokerError

BATCH_RECORDS: Final = 20_000
"""aiokafka unpacks on the loop that sends heartbeats: with 100,000 a lone worker lost its membership."""

_BATCHES_IN_FLIGHT: Final = 2
_BACKLOG_RECORDS: Final = 1_000
_FETCH_WAIT_MS: Final = 50
"""For the first record: a partition that has room again waits as long for a fetch of silent ones to end."""
_PARTITION_FETCH_BYTES: Final = 4_000_000
_FETCH_MAX_BYTES: Final = 52_428_800
_BUSY_SECONDS: Final = 0.002
_IDLE_SECONDS: Final = 0.05
_SHORT_SECONDS: Final = 0.01

log = logs.logger(__name__)
_FAUSTS_LOGGER: Final = logging.getLogger("faust.transport")


class Owner(Protocol):
    """Who takes partitions over; `processors.ownership.Ownership` is the real one."""

    epoch: int

    async def take_over(self, bounds: Mapping[int, tuple[int, int]]) -> Mapping[int, Partition]:
        """The partitions by number, ready to go on, given the first and the end offset of each."""

    def opened(self, partitions: Mapping[int, Partition]) -> None:
        """Reading goes on at their next offsets."""

    def owned(self, number: int) -> Partition | None:
        """A partition that is open."""

    def fail(self, error: ArbitrexError, /) -> object:
        """Leave, for this reason."""


class BatchThread(driver.AIOKafkaConsumerThread):
    """The thread that fetches and sends heartbeats."""

    logger = _FAUSTS_LOGGER
    kafka: KafkaSettings
    epoch = 0

    def _create_worker_consumer(self, transport: Any) -> Any:  # noqa: ARG002 - Faust's signature
        """As Faust's own, which hard-codes a wait of 1.5 s, with our security settings, read_committed, no reset."""
        conf = self.app.conf
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            **clients.aiokafka(self.kafka),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=BATCH_RECORDS,
            fetch_min_bytes=1,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            fetch_max_bytes=_FETCH_MAX_BYTES,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )

    async def on_thread_stop(self) -> None:
        """Leave the group for good: aiokafka would not, for a static member, and the others would wait for it.

        The embedded broker keeps the partitions of one that leaves.
        """
        if self._consumer is not None and not self.kafka.embedded:
            self._consumer._coordinator._group_instance_id = None  # noqa: SLF001 - no public way
        await super().on_thread_stop()

    async def seek_all(self, offsets: Mapping[Any, int], epoch: int) -> None:
        """Go on at ``offsets``; what is fetched from now on carries ``epoch``."""

        async def seek() -> None:
            consumer = self._ensure_consumer()
            for partition, offset in offsets.items():
                consumer.seek(partition, offset)
            self.epoch = epoch

        await self.call_thread(seek)

    async def _fetch_records(self, consumer: Any, active_partitions: set[Any], *args: Any, **options: Any) -> Any:
        """The records and the epoch they are of: seeks run on this loop too, with no await in between.

        After a small batch, which was all there is, nothing is fetched ahead: it would be old when its turn comes, and
        while it waits aiokafka asks its node for nothing else. A partition that was assigned and not yet sought has no
        position, which aiokafka tells as an error.
        """
        places = consumer._subscription  # noqa: SLF001 - no public way that takes Faust's partitions
        for tp in places.assigned_partitions() & active_partitions:
            places.resume(tp)
        try:
            fetched = await super()._fetch_records(consumer, active_partitions, *args, **options)
        except NoOffsetForPartitionError:
            fetched = {}
        if consumer._fetcher._fetch_task.done() and not consumer._closed:  # noqa: SLF001 - it only logs that
            raise BrokerError("aiokafka no longer fetches; its error stands in the log")
        for tp, records in fetched.items():
            if len(records) < _BACKLOG_RECORDS and places.is_assigned(tp):
                places.pause(tp)
        return self.epoch, fetched


class BatchConsumer(driver.Consumer):
    """Faust's consumer with a whole fetch of a partition as one message."""

    logger = _FAUSTS_LOGGER
    _thread: BatchThread

    @property
    def owner(self) -> Owner:
        return cast("BatchTransport", self.transport).owner

    def _new_consumer_thread(self) -> BatchThread:
        thread = BatchThread(self, loop=self.loop, beacon=self.beacon)
        thread.kafka = cast("BatchTransport", self.transport).kafka
        return thread

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, ConsumerMessage]]:  # noqa: ASYNC109 - Faust's
        """Batches of the partitions that have few in flight."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type] # an Event will do
        active = self._get_active_partitions()
        wanted = {tp for tp in active if self._has_room(tp)}
        if not wanted:  # an empty set would mean all partitions to aiokafka
            await asyncio.sleep(_BUSY_SECONDS if active else _IDLE_SECONDS)
            return
        # While others are busy a long wait for a quiet partition would hold them up afterwards.
        try:
            fetched: Any = await self._thread.getmany(wanted, timeout if len(wanted) == len(active) else _SHORT_SECONDS)
        except OffsetOutOfRangeError:
            await self._look_for_loss(wanted)
            return
        except BrokerError as error:
            self.owner.fail(error)
            return
        if not fetched or self.should_stop or not self.flow_active:
            return  # the flow stops for a rebalance only, which seeks again
        epoch, by_partition = fetched
        for tp, records in by_partition.items():
            partition = self.owner.owned(tp.partition)
            if partition is None or partition.epoch != epoch:
                continue
            fetch = Fetch(partition, records)
            partition.in_flight += 1
            partition.read_to = fetch.next_offset
            partition.end = self.highwater(tp)
            yield tp, self._message(tp, fetch)

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Take the assigned partitions over and go on where their last transaction ended.

        Faust calls this after each assignment, before the flow of events resumes.
        """
        partitions = self.assignment()
        try:
            first, end = await asyncio.gather(self.earliest_offsets(*partitions), self.highwaters(*partitions))
            bounds = {tp.partition: (first[tp], end[tp]) for tp in partitions}
            taken = await self.owner.take_over(bounds)
            offsets = {tp: taken[tp.partition].next_offset for tp in partitions}
            await self._thread.seek_all(offsets, self.owner.epoch)
        except ArbitrexError as error:
            self.owner.fail(error)
            return {}
        except IllegalStateError as error:
            log.info("assigned anew during the takeover", reason=str(error))
            return {}
        except KafkaError as error:
            self.owner.fail(BrokerError(f"Kafka refused during the takeover: {error!r}"))
            return {}
        self.owner.opened(taken)
        return offsets

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Nothing: an event stands for all offsets up to its own, so none is missing."""

    def _new_offset(self, tp: Any) -> int | None:
        """The offset to commit for lag displays: events are acknowledged in order, after their transaction."""
        acknowledged = self._acked[tp]
        if not acknowledged:
            return None
        last: int = max(acknowledged)
        acknowledged.clear()
        self._acked_index[tp].clear()
        return last + 1

    async def _look_for_loss(self, wanted: set[Any]) -> None:
        """Leave if what is to be read next is gone; the next takeover records the loss.

        The error may also be of an earlier position, from before the seek: then all is well.
        """
        for tp, first in (await self.earliest_offsets(*wanted)).items():
            partition = self.owner.owned(tp.partition)
            if partition and partition.read_to < first:
                self.owner.fail(
                    BrokerError(f"{tp.topic}[{tp.partition}]: {partition.read_to} to {first - 1} went while being read")
                )

    def _has_room(self, tp: Any) -> bool:
        """Whether to fetch more of it: a second batch only where much waits, else what comes meanwhile is the next."""
        partition = self.owner.owned(tp.partition)
        if partition is None:
            return False
        allowed = _BATCHES_IN_FLIGHT if partition.end - partition.read_to >= _BACKLOG_RECORDS else 1
        return partition.in_flight < allowed

    def _message(self, tp: TP, fetch: Fetch) -> ConsumerMessage:
        last = fetch.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            timestamp=last.timestamp / 1000,
            timestamp_type=0,
            headers=[],
            key=last.key,
            value=cast("Any", fetch),
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )


class BatchTransport(driver.Transport):
    """The transport to give a Faust app."""

    Consumer: ClassVar[type[Any]] = BatchConsumer

    def __init__(self, app: Any, kafka: KafkaSettings, owner: Owner) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.kafka = kafka
        self.owner = owner
