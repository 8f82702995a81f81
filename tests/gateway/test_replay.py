"""The order of the past, whatever pages it comes in, and the clock that it is played by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import past
from gateway.clock import Clock
from gateway.history import History, Stretch, TickId, place_of
from gateway.past import Past, is_bar, order, time_of
from gateway.player import stepped
from gateway.problems import BusyError
from gateway.protocol import Step

SYMBOLS = ("A", "B", "C")
TICKS = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(0, 12)), max_size=60)
BARS = st.sets(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(("M1", "M5")), st.integers(0, 13)), max_size=20)
NOTHING = Stretch({}, {})


class Store:
    """A history that is refused now and then."""

    newest_close = 13

    def __init__(self, ticks: list[tuple[str, int]], bars: set[tuple[str, str, int]], fails: int) -> None:
        self.rows: list[dict[str, Any]] = []
        for symbol, ts in sorted(ticks, key=lambda tick: tick[1]):
            ordinal = sum(row["symbol"] == symbol and row["ts_event"] == ts for row in self.rows)
            self.rows.append({"symbol": symbol, "ts_event": ts, "ordinal": ordinal})
        self.bars: list[dict[str, Any]] = [
            {"symbol": symbol, "timeframe": timeframe, "ts_close": close, "number": 0}
            for symbol, timeframe, close in sorted(bars)
        ]
        self._fails, self._asked = fails, 0

    async def ticks(self, symbol: str, after: TickId, end: int, limit: int, _: Stretch) -> list[dict[str, Any]]:
        self.refuse()
        mine = [row for row in self.rows if row["symbol"] == symbol and row["ts_event"] < end and place_of(row) > after]
        return mine[:limit]

    async def late(self, *_: object) -> dict[str, list[dict[str, Any]]]:
        self.refuse()
        return {}

    async def fresh_bars(self, *_: object) -> pl.DataFrame:
        return pl.DataFrame()

    async def closed(
        self, series: tuple[Sequence[str], Sequence[str]], span: tuple[int, int], *_: object
    ) -> list[dict[str, Any]]:
        self.refuse()
        return [row for row in self.bars if row["timeframe"] in series[1] and span[0] <= row["ts_close"] < span[1]]

    def refuse(self) -> None:
        self._asked += 1
        if self._fails and self._asked % self._fails == 0:
            raise BusyError("later")


@given(TICKS, BARS, st.integers(1, 5), st.tuples(st.integers(0, 12), st.integers(0, 13)), st.sampled_from((0, 2, 3)))
def test_all_rows_once_in_order(
    ticks: list[tuple[str, int]], bars: set[tuple[str, str, int]], page: int, span: tuple[int, int], fails: int
) -> None:
    store = Store(ticks, bars, fails)
    played = Past(cast("History", store), (SYMBOLS, ("M1",)), span, NOTHING)

    async def replayed() -> list[dict[str, Any]]:
        got: list[dict[str, Any]] = []
        while True:
            try:
                batch = await played.more()
            except BusyError:
                continue
            if batch is None:
                return got
            got += batch

    with patch.multiple(past, _LARGEST_PAGE=page, _SMALLEST_PAGE=1, _FIRST_STEP=2):
        got = asyncio.run(replayed())
    wanted = [row for row in (*store.rows, *store.bars) if span[0] <= time_of(row) < span[1]]
    assert got == sorted((row for row in wanted if row.get("timeframe") != "M5"), key=order)
    for place, row in enumerate(got):
        if is_bar(row):
            assert all(time_of(each) < row["ts_close"] for each in got[:place] if not is_bar(each))
            assert all(time_of(each) >= row["ts_close"] for each in got[place:])


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 5))
def test_a_step_goes_on_by_ticks_or_to_a_close(bars: list[bool], count: int) -> None:
    rows: list[dict[str, Any]] = [
        {"symbol": "A", "timeframe": "M1", "ts_close": time, "number": 0}
        if bar
        else {"symbol": "A", "ts_event": time, "ordinal": 0}
        for time, bar in enumerate(bars)
    ]
    stop, left = stepped(rows, 0, Step("step", ticks=count))
    ticks = sum(not is_bar(row) for row in rows[:stop])
    if left is None:
        assert ticks == count
        assert not is_bar(rows[stop - 1])
    else:
        assert (stop, left.ticks + ticks) == (len(rows), count)
    stop, left = stepped(rows, 0, Step("step", timeframe="M1"))
    assert [is_bar(row) for row in rows[:stop]].count(True) == (left is None)
    assert left is not None or is_bar(rows[stop - 1])


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_clock_runs_at_its_speed_and_stands_still_when_told() -> None:
    seconds = Seconds()
    clock = Clock(1_000_000, 2.0, seconds)
    assert clock.delay(1_010_000) == 5.0
    clock.run(running=True)
    seconds.now = 3.0
    assert (clock.time, clock.delay(1_010_000)) == (1_006_000, 2.0)
    clock.change(10.0)
    seconds.now = 4.0
    assert clock.time == 1_016_000
    clock.run(running=False)
    seconds.now = 9.0
    assert clock.time == 1_016_000


def test_the_clock_waits_for_what_cannot_be_told_in_time() -> None:
    seconds = Seconds()
    clock = Clock(0, 1.0, seconds)
    clock.run(running=True)
    seconds.now = 10.0
    clock.following = 9_500
    assert clock.time == 9_500
    clock.told(9_500)  # half a second late: made up for
    clock.following = 12_000
    assert clock.time == 10_000
    seconds.now = 20.0
    clock.told(12_000)  # eight seconds late: from here on
    clock.following = 15_000
    assert clock.delay(15_000) == pytest.approx(3.0)
    clock.told(500)  # found late in the source's history
    assert clock.delay(15_000) == pytest.approx(3.0)
