"""Every place where a library's internals are replaced, each with its reason.

`tests/processors/test_hooks.py` fails when what is replaced here no longer looks as it did.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any, Final

from aiokafka.consumer.fetcher import Fetcher, PartitionRecords

_YOUNG_OBJECTS: Final = 100_000


def keep_records_lean() -> None:
    """Have aiokafka hand over the records its C parser makes.

    It builds a dataclass of eleven fields out of each, most of them unused here. Without that a worker catches up at
    270,000 ticks/s instead of 160,000. The C record has the same ``key``, ``value``, ``offset``, ``timestamp`` and
    ``headers``.
    """
    PartitionRecords._consumer_record = _as_parsed  # noqa: SLF001 - no public way


def pace_fetches(seconds: float) -> None:
    """Have aiokafka ask a broker node no more often than every ``seconds``.

    The embedded broker answers empty fetches at once, whatever wait they name: an idle consumer would spin, and a
    busy one would be given its ticks one by one.
    """
    fetch = _ORIGINAL_FETCH
    last: dict[tuple[int, int], float] = {}

    async def paced(self: Any, assignment: Any, node_id: int, request: Any) -> Any:
        now = time.monotonic()
        due = last.get((id(self), node_id), 0.0) + seconds
        if due > now:
            try:
                await asyncio.sleep(due - now)
            except asyncio.CancelledError:
                return False  # as the original does: the partition went, or the consumer closes
        last[id(self), node_id] = time.monotonic()
        return await fetch(self, assignment, node_id, request)

    Fetcher._proc_fetch_request = paced  # noqa: SLF001 - no public way


def calm_garbage_collector() -> None:
    """Have Python look for cycles rarely, and never in what was loaded at the start.

    A batch makes tens of thousands of objects without a cycle among them; with the default threshold they are walked
    again and again (270,000 against 315,000 ticks/s).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 50, 1_000)


def _as_parsed(_self: Any, _partition: Any, record: Any) -> Any:
    return record


_ORIGINAL_FETCH: Final = Fetcher._proc_fetch_request  # noqa: SLF001 - no public way
