"""What is read back from Kafka is read when all that came before is there."""

import asyncio
from collections import deque
from typing import Any, cast

import pytest

from infra.settings import Settings
from processors.core.state import State
from processors.core.types import Rules
from processors.ownership import Ownership
from processors.partition import Partition
from schemas.errors import ArbitrexError


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


@pytest.mark.parametrize("work", ["stepping", "committing"])
def test_a_worker_that_leaves_waits_for_what_is_in_flight(work: str) -> None:
    """Threads and producers go after that: a batch that came upon them gone ended a clean stop with an error."""

    async def run() -> None:
        failed: list[ArbitrexError] = []
        nobody: Any = None
        ownership = Ownership(Settings(), nobody, Rules(("M1",)), failed.append)
        one, going_on = partition(1), asyncio.Event()
        if work == "stepping":
            await one.stepping.acquire()
        else:
            one.committing = asyncio.create_task(cast("Any", going_on.wait()))
        ownership.opened({0: one})
        leaving = asyncio.create_task(ownership.release())
        for _ in range(5):
            await asyncio.sleep(0)
        assert one.closed
        assert not leaving.done()
        if work == "stepping":
            one.stepping.release()
        going_on.set()
        await leaving
        assert not failed
        assert ownership.owned(0) is None

    asyncio.run(run())
