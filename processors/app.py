"""The Faust app: two agents with a channel between them, on the batch transport.

`calendar_filter` takes a fetch of one partition through the pure step; `bar_aggregator` writes what came of it. Both
work on each partition by a task of its own: in order within it, while the step of one overlaps the transaction of
another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import faust
from faust.app.base import BootStrategy

from infra import topics
from infra.settings import Settings
from infra.worlds import World
from processors.core.recall import Lack
from processors.core.types import Batch
from processors.ownership import Ownership
from processors.partition import Fetch, Partition
from processors.pipeline import Pipeline, Work, is_small
from processors.transport import BatchTransport
from schemas.errors import ArbitrexError, ComponentError

GROUP: Final = "processor"

_EVENTS_BUFFERED: Final = 4_096
_HEARTBEAT_SECONDS: Final = 1.0
_REQUEST_SECONDS: Final = 30.0
_REBALANCE_SECONDS: Final = 10.0
_LAG_COMMIT_SECONDS: Final = 1.0
_TURNS_TO_SEND: Final = 8
"""Of the loop, from a step's end to its transaction's first request."""


T = TypeVar("T")


class _NoFaustProducer(BootStrategy):
    """Faust's producer cannot take part in our transactions, so it is not started."""

    enable_kafka_producer = False


class ProcessorApp(faust.App):
    """The app of one worker."""

    logger = logging.getLogger("faust.app")
    BootStrategy = _NoFaustProducer


def create(
    settings: Settings, ownership: Ownership, pipeline: Pipeline, threads: ThreadPoolExecutor, instance: str | None
) -> ProcessorApp:
    """The app of a worker; ``threads`` do what blocks, ``instance`` makes it a static member of its group."""
    world = World(settings.world)
    app = ProcessorApp(
        world.group(GROUP),
        broker=[f"kafka://{server}" for server in settings.kafka.bootstrap_servers.replace(" ", "").split(",")],
        broker_session_timeout=settings.processor.session_timeout_ms / 1000,
        broker_heartbeat_interval=_HEARTBEAT_SECONDS,
        broker_rebalance_timeout=_REBALANCE_SECONDS,
        broker_request_timeout=_REQUEST_SECONDS,
        consumer_group_instance_id=instance,
        broker_commit_interval=_LAG_COMMIT_SECONDS,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        datadir=settings.home / "faust",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        table_standby_replicas=0,  # else Faust's own assignor takes over
        stream_wait_empty=False,  # what waits at a rebalance is `Ownership.release`
        stream_buffer_maxsize=_EVENTS_BUFFERED,
        stream_recovery_delay=0.0,
    )
    app.transport = BatchTransport(app, settings.kafka, ownership)
    _watch_assignments(app, ownership)
    _Agents(ownership, pipeline, threads).attach(app, world.topic(topics.TICKS_RAW.name))
    return app


def _watch_assignments(app: ProcessorApp, ownership: Ownership) -> None:
    async def gone(*_: Any, **__: Any) -> None:
        await ownership.release()

    async def assigned(*_: Any, **__: Any) -> None:
        if not app.consumer.assignment():  # a standby; what is assigned, the transport takes over first
            ownership.opened({})

    app.on_partitions_revoked.connect(gone, weak=False)
    app.on_before_shutdown.connect(gone, weak=False)
    app.on_rebalance_complete.connect(assigned, weak=False)


class _Agents:
    def __init__(self, ownership: Ownership, pipeline: Pipeline, threads: ThreadPoolExecutor) -> None:
        self._ownership = ownership
        self._pipeline = pipeline
        self._threads = threads
        self._turns = asyncio.Lock()

    def attach(self, app: ProcessorApp, source: str) -> None:
        """Add the two agents to ``app``."""
        raw = app.topic(source, key_type=bytes, value_type=None, key_serializer="raw", value_serializer="raw")
        filtered: Any = app.channel()

        @app.agent(raw)
        async def calendar_filter(stream: Any) -> None:
            async for event in stream.noack().events():
                partition = event.value.partition
                if self._is_current(partition):
                    partition.fetched.append(event)
                    if partition.filtering is None:
                        work = self._guarded(self._filter_fetched, partition, filtered.put)
                        partition.filtering = asyncio.create_task(work)

        @app.agent(filtered)
        async def bar_aggregator(stream: Any) -> None:
            async for event, work in stream:
                partition = work.fetch.partition
                if self._is_current(partition):
                    partition.waiting.append((event, work))
                    if partition.committing is None:
                        partition.committing = asyncio.create_task(self._guarded(self._commit_waiting, partition))

    def _is_current(self, partition: Partition) -> bool:
        return self._ownership.owned(partition.number) is partition

    async def _filter_fetched(self, partition: Partition, put: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            while partition.fetched and not partition.closed:
                event = partition.fetched.popleft()
                async with partition.stepping:
                    work = await self._process(event.value)
                if work:
                    await put((event, work))
        finally:
            partition.filtering = None

    async def _process(self, fetch: Fetch) -> Work | None:
        partition, pipeline = fetch.partition, self._pipeline
        run = self._in_turn if is_small(fetch) else self._in_thread
        batch, wanted, work = await run(self._begin, fetch)
        if wanted:
            if not await partition.settle():
                return None
            await self._in_thread(pipeline.recall, partition, wanted)
            work = await run(pipeline.step, fetch, batch)
        partition.pending += 1
        return work

    def _begin(self, fetch: Fetch) -> tuple[Batch, Mapping[str, Lack], Work | None]:
        """The fetch decoded, what it lacks, and if that is nothing, its work."""
        batch = self._pipeline.decode(fetch)
        wanted = self._pipeline.lacking(fetch, batch)
        return batch, wanted, None if wanted else self._pipeline.step(fetch, batch)

    async def _in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """On the loop, one partition's after another's, so that what one gives is on its way before the next begins."""
        async with self._turns:
            for _ in range(_TURNS_TO_SEND):
                await asyncio.sleep(0)
            return work(*arguments)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _commit_waiting(self, partition: Partition) -> None:
        try:
            while partition.waiting and not partition.closed:
                event, work = partition.waiting.popleft()
                await self._pipeline.commit(work)
                event.ack()
                partition.in_flight -= 1
                partition.pending -= 1
                partition.settled.set()
        finally:
            partition.committing = None

    async def _guarded(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do ``work``; on any error the worker leaves, with nothing acknowledged.

        Faust would acknowledge the event all the same and go on with the next one.
        """
        try:
            await work(*arguments)
        except ArbitrexError as error:
            self._ownership.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is
            wrapped = ComponentError(f"the processor failed: {type(error).__name__}: {error}")
            wrapped.__cause__ = error
            self._ownership.fail(wrapped)
