"""Which partitions this worker owns, and how it comes to own them.

Ownership is the transaction's: whoever last started a producer with a partition's transactional id owns it, and what an
older owner still has in flight is aborted. The consumer group only says who should.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from infra import logs, topics
from infra.kafka_log import ends
from infra.settings import Settings
from infra.worlds import World
from processors.core.state import State, lose, progress, restore
from processors.core.types import Rules
from processors.drafts import Drafts
from processors.partition import Partition
from processors.producer import TransactionalProducer
from processors.standing import Reader, Stand
from schemas.codec import Codec
from schemas.errors import ArbitrexError, BrokerError, ComponentError
from schemas.records import EventKind, FeedEvent

_RELEASE_SECONDS: Final = 20.0
STRIKE_WINDOW: Final = 100_000
"""Records in which dead letters are counted."""

T = TypeVar("T")

log = logs.logger(__name__)


class Ownership:
    """The partitions of this worker. Its methods are called on the event loop; what blocks runs in threads."""

    def __init__(self, settings: Settings, codec: Codec, rules: Rules, fail: Callable[[ArbitrexError], object]) -> None:
        self.epoch = 0
        self._rules = rules
        self.fail = fail
        """Leave, for this reason; the first one counts."""
        self._settings = settings
        self._world = World(settings.world)
        self._codec = codec
        self._reader = Reader(settings, codec, rules)
        self._partitions: dict[int, Partition] = {}
        self._producers: dict[int, TransactionalProducer] = {}
        self._threads = ThreadPoolExecutor(thread_name_prefix="takeover")
        self.on_opened: Callable[[int], None] = lambda _: None
        """Called after each takeover with the number of partitions."""

    def owned(self, number: int) -> Partition | None:
        """The partition, if it is open."""
        partition = self._partitions.get(number)
        return None if partition is None or partition.closed else partition

    async def take_over(self, bounds: Mapping[int, tuple[int, int]]) -> Mapping[int, Partition]:
        """Fence earlier owners off and read where the partitions stand; ``bounds``: their first and end offsets.

        Raises BrokerError when Kafka refuses or lost what was processed, ComponentError when records were lost to
        retention before they were processed and that is not accepted, and as `Reader.read_back`.
        """
        await self.release()  # an assignment may follow the one before without a revocation in between
        self.epoch += 1
        epoch = self.epoch
        lost = [self._producers.pop(number) for number in list(self._producers) if number not in bounds]
        new = [number for number in bounds if number not in self._producers]
        began = time.monotonic()
        await asyncio.gather(*map(self._fence, new), _close(lost))
        fenced = time.monotonic()
        stands = await self._in_thread(self._reader.read_back, sorted(bounds))
        partitions = (self._stand(number, epoch, stands[number], bounds[number]) for number in bounds)
        taken = dict(zip(bounds, await asyncio.gather(*partitions), strict=True))
        log.info(
            "partitions taken over",
            partitions=sorted(taken),
            epoch=epoch,
            fencing_seconds=round(fenced - began, 3),
            reading_seconds=round(time.monotonic() - fenced, 3),
        )
        return taken

    def opened(self, partitions: Mapping[int, Partition]) -> None:
        """Reading goes on at the partitions' next offsets."""
        self._partitions = dict(partitions)
        self.on_opened(len(partitions))

    async def release(self) -> None:
        """Close all partitions and wait for what is in flight, so that the next owner need not abort transactions."""
        self.close()
        partitions = self._partitions.values()
        tasks = [partition.committing for partition in partitions if partition.committing]
        tasks += [asyncio.create_task(partition.stepped()) for partition in partitions if partition.stepping.locked()]
        if tasks and (await asyncio.wait(tasks, timeout=_RELEASE_SECONDS))[1]:
            self.fail(BrokerError(f"a batch was not done within {_RELEASE_SECONDS:.0f} s"))
        self._partitions = {}

    def close(self) -> None:
        """Let no partition begin another batch or transaction."""
        for partition in self._partitions.values():
            partition.closed = True
            partition.settled.set()

    async def shut_down(self) -> None:
        """Let the producers go."""
        producers = list(self._producers.values())
        self._producers.clear()
        await _close(producers)
        await asyncio.to_thread(self._threads.shutdown)

    async def _fence(self, number: int) -> None:
        name = self._world.transactional_id(number)
        producer = self._producers[number] = TransactionalProducer(self._settings.kafka, name, number)
        await producer.start(self._drafts(number).topics)

    async def _stand(self, number: int, epoch: int, stand: Stand, bounds: tuple[int, int]) -> Partition:
        first, end = bounds
        state = await self._in_thread(restore, stand.live, stand.progress, self._rules)
        next_offset = first if stand.next_offset is None else stand.next_offset
        if next_offset > end:  # asked before the fence: the owner before may have gone on since
            end = (await self._in_thread(ends, self._settings.kafka, self._world.topic(topics.TICKS_RAW.name)))[number]
        if next_offset > end:
            raise BrokerError(
                f"{self._world.topic(topics.TICKS_RAW.name)}[{number}] ends at {end}, but {next_offset} records of it "
                "were processed: the broker lost data; go on in a new world (--world NAME)"
            )
        if next_offset < first:
            state = await self._record_loss(number, stand, state, first)
            next_offset = first
        struck = deque(offset for offset in stand.dead if offset >= next_offset - STRIKE_WINDOW)
        return Partition(
            number, epoch, self._producers[number], self._drafts(number), state, next_offset, next_offset, end, struck
        )

    async def _record_loss(self, number: int, stand: Stand, state: State, first: int) -> State:
        """The state once it is recorded that records before ``first`` are gone.

        Raises ComponentError unless that is accepted.
        """
        name, accepted = self._world.topic(topics.TICKS_RAW.name), self._settings.processor.accept_loss
        text = f"{name}[{number}]: records {stand.next_offset} to {first - 1} were gone before they were processed"
        last = max((live.last_ts for live in stand.live), default=0)
        feed = stand.live[0].feed if stand.live else ""
        event = FeedEvent(time=last, kind=EventKind.RETENTION_LOSS, feed=feed, shard="", from_=last, text=text)
        if not accepted:
            await self._producers[number].commit(self._drafts(number).note(event))
            raise ComponentError(f"{text}; to go on without them set ARBITREX_PROCESSOR__ACCEPT_LOSS=true")
        state, news = lose(state, self._rules)
        draft = self._drafts(number).going_on(event, [(live, first - 1) for live in news], progress(state, first))
        await self._producers[number].commit(draft)
        log.warning("records lost to retention", text=text)
        return state

    def _drafts(self, number: int) -> Drafts:
        return Drafts(self._world, self._codec, number)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


async def _close(producers: Iterable[TransactionalProducer]) -> None:
    await asyncio.gather(*(producer.close() for producer in producers))
