"""What is read back from Kafka is read when all that came before is there."""

import asyncio
from collections import deque
from typing import Any

from processors.core.state import State
from processors.partition import Partition


def partition(pending: int) -> Partition:
    nobody: Any = None
    found = Partition(0, 1, nobody, nobody, State(), 0, 0, 0, deque())
    found.pending = pending
    return found


def test_it_settles_when_the_last_batch_is_committed() -> None:
    async def run() -> None:
        one = partition(2)
        settling = asyncio.create_task(one.settle())
        for pending in (1, 0):
            await asyncio.sleep(0)
            assert not settling.done()
            one.pending = pending
            one.settled.set()
        assert await settling
        assert await one.settle()

    asyncio.run(run())


def test_it_does_not_wait_for_what_a_closed_one_never_commits() -> None:
    async def run() -> None:
        one = partition(1)
        settling = asyncio.create_task(one.settle())
        await asyncio.sleep(0)
        one.closed = True
        one.settled.set()
        assert not await settling

    asyncio.run(run())
