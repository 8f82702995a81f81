"""What a worker knows of a partition of ``ticks.raw`` that it owns."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from processors.core.state import State
from processors.drafts import Drafts
from processors.producer import TransactionalProducer
from processors.records import Records


@dataclass(slots=True, eq=False)
class Partition:
    """One partition from one assignment to the next; a later assignment makes a new one."""

    number: int
    epoch: int
    """Of the assignment; says of a fetched batch which seek it came from."""
    producer: TransactionalProducer
    drafts: Drafts
    state: State
    """After the last batch that was handed to the step."""
    next_offset: int
    """The first offset whose record no committed transaction covers."""
    read_to: int
    """The offset to be fetched next."""
    end: int
    """The end of the partition as it was last heard of."""
    struck: deque[int]
    """Offsets of recent dead letters."""
    in_flight: int = 0
    """Batches fetched and not yet committed."""
    pending: int = 0
    """Those of them that were handed to the step."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a batch is committed, and when the partition is closed."""
    closed: bool = False
    fetched: deque[Any] = field(default_factory=deque)
    """Batches to be filtered, in order."""
    filtering: asyncio.Task[None] | None = None
    """What filters them."""
    stepping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a batch is decoded and stepped through, not while Faust takes it on: in a rebalance it does not."""
    waiting: deque[Any] = field(default_factory=deque)
    """Filtered batches to be committed, in order."""
    committing: asyncio.Task[None] | None = None
    """What commits them."""

    async def settle(self) -> bool:
        """Wait until every batch that was handed to the step is committed; False if it was closed meanwhile."""
        while self.pending and not self.closed:
            self.settled.clear()
            await self.settled.wait()
        return not self.closed

    async def stepped(self) -> None:
        """Wait until no batch is in a thread."""
        async with self.stepping:
            pass


@dataclass(frozen=True, slots=True, eq=False)
class Fetch:
    """What one fetch gave of one partition: one unit of work, one transaction."""

    partition: Partition
    records: Records

    @property
    def next_offset(self) -> int:
        """The offset after its last record; offsets in between may be missing."""
        return int(self.records.offsets[-1]) + 1
