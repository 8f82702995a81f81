"""The order of a replay, whatever pages the past comes in."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from gateway import replay
from gateway.history import History, TickId, place_of
from gateway.replay import merged

SYMBOLS = ("A", "B", "C")
TICKS = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(0, 12)), max_size=60)


class Past:
    def __init__(self, ticks: list[tuple[str, int]]) -> None:
        self.rows: list[dict[str, Any]] = []
        for symbol, ts in sorted(ticks, key=lambda tick: tick[1]):
            ordinal = sum(row["symbol"] == symbol and row["ts_event"] == ts for row in self.rows)
            self.rows.append({"symbol": symbol, "ts_event": ts, "ordinal": ordinal})

    async def ticks(self, symbol: str, after: TickId, end: int, limit: int) -> list[dict[str, Any]]:
        mine = [row for row in self.rows if row["symbol"] == symbol and row["ts_event"] < end and place_of(row) > after]
        return mine[:limit]


@given(TICKS, st.integers(1, 5), st.integers(0, 12), st.integers(0, 13))
def test_all_ticks_once_in_order(ticks: list[tuple[str, int]], page: int, start: int, end: int) -> None:
    past = Past(ticks)

    async def replayed() -> list[dict[str, Any]]:
        batches = merged(cast("History", past), SYMBOLS, start, end)
        return [row async for batch in batches for row in batch]

    with patch.object(replay, "_PAGE", page):
        got = asyncio.run(replayed())
    wanted = [row for row in past.rows if start <= row["ts_event"] < end]
    assert got == sorted(wanted, key=lambda row: (row["ts_event"], row["symbol"], row["ordinal"]))
