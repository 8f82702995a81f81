"""Ticks a second through the codec: batches natively, against one by one, in one run.

python benchmarks/codec.py [TICKS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.definitions import NAMES, Schema, definition
from schemas.records import Tick

ROUNDS = 5


class Store:
    def id_of(self, name: str) -> int:
        return NAMES.index(name) + 1

    def schema_of(self, schema_id: int) -> Schema:
        return definition(NAMES[schema_id - 1])


def ticks(count: int) -> list[Tick]:
    start = 1_790_000_000_000
    return [
        Tick(
            symbol=("EURUSD", "XAUUSD", "USDJPY")[number % 3],
            ts_event=start + number * 7,
            ordinal=number % 2,
            bid=1.08 + number % 1_000 / 1e5,
            ask=1.0801 + number % 1_000 / 1e5,
            flags=6,
            feed="sim",
            server_time=start + 10_800_000 + number * 7,
            ts_recv=(start + number * 7) * 1_000,
        )
        for number in range(count)
    ]


def rate(count: int, work: Callable[[], Any]) -> float:
    """The best of some rounds, in items a second."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return count / best


def main(count: int) -> None:
    codec = Codec(Store())
    sample = ticks(count)
    few = sample[: count // 10]
    messages = [codec.encode(tick) for tick in sample]
    damaged = [*messages]
    damaged[count // 2] = damaged[count // 2][:-1]
    single = rate(len(few), lambda: [codec.decode(message) for message in messages[: len(few)]])
    print(f"{count:,} ticks, {len(messages[0])} bytes each")
    for what, speed in (
        ("encode, one by one", rate(len(few), lambda: [codec.encode(tick) for tick in few])),
        ("decode, one by one", single),
        ("decode, batch", rate(count, lambda: decode_batch(messages, codec))),
        ("decode, batch with one corrupt datum", rate(count, lambda: decode_batch(damaged, codec))),
    ):
        print(f"{what:38} {speed:12,.0f}/s {speed / single:6.1f} times one by one")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
