"""The past of several symbols in the order of events: ticks, and closed bars if they are wanted.

A `Past` is what a stretch of the log holds, whatever is written meanwhile: each record once, those that the source
found late in their place.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import polars as pl

from gateway.cursor import Cursor
from gateway.history import History, Series, Stretch, TickId, place_of
from gateway.market import Row
from gateway.place import Order, Position

_ROWS_AHEAD: Final = 30_000
"""Ticks of all symbols that may be in hand."""
_LARGEST_PAGE, _SMALLEST_PAGE = 10_000, 500
_FIRST_STEP: Final = 6 * 3_600_000
"""How far bars are read at once, until it is known how many there are."""
_FEW_BARS, _MANY_BARS = 1_000, 20_000


def stretch(start: Position | None, end: Position) -> Stretch:
    """What the logs were given from one place (None: their beginning) to another."""

    def ranges(start: Cursor | None, end: Cursor) -> dict[int, range]:
        starts = [place.next for place in start.places] if start else [0] * len(end.places)
        return {number: range(starts[number], place.next) for number, place in enumerate(end.places)}

    return Stretch(ranges(start and start.ticks, end.ticks), ranges(start and start.bars, end.bars))


def time_of(row: Row) -> int:
    """When a row is told: a tick when it happened, a bar when it closed."""
    return int(row["ts_close"] if is_bar(row) else row["ts_event"])


def is_bar(row: Row) -> bool:
    return "ts_close" in row


def order(row: Row) -> Order:
    """What happened first comes first; a bar comes before the ticks of the moment at which it closed."""
    if is_bar(row):
        return row["ts_close"], False, row["symbol"], row["timeframe"], row["number"]
    return row["ts_event"], True, row["symbol"], "", row["ordinal"]


class _Source(Protocol):
    """Rows of one kind, by time."""

    over: bool
    rows: list[Row]

    @property
    def known_to(self) -> int:
        """Every row before this time is in hand."""

    async def read(self) -> None:
        """Get some more."""


class Past:
    """The rows of a stretch within [start, end), UTC milliseconds, in the order of events; those after ``told``.

    What fails may be tried again: `more` goes on where it was.
    """

    def __init__(
        self, history: History, series: Series, span: tuple[int, int], stretch: Stretch, told: Order | None = None
    ) -> None:
        self._history = history
        self._series = series
        self._span = span if told is None else (max(span[0], told[0]), span[1])
        self._stretch = stretch
        self._told = told
        self._sources: list[_Source] = []

    async def more(self) -> list[Row] | None:
        """The next rows; None at the end. Raises BusyError, StoreError, BrokerError, UsageError."""
        if not self._sources:
            await self._open()
        while True:
            for each in self._sources:
                while not each.over and not (each.rows and time_of(each.rows[0]) < each.known_to):
                    await each.read()
            horizon = min((each.known_to for each in self._sources if not each.over), default=None)
            batch = list(heapq.merge(*(_taken(each, horizon) for each in self._sources), key=order))
            if self._told is not None:
                batch = batch[bisect_right(batch, self._told, key=order) :]
            if batch or horizon is None:
                return batch or None

    async def _open(self) -> None:
        symbols, timeframes = self._series
        start, end = self._span
        late = await self._history.late(symbols, start, self._stretch)
        found = self._stretch._replace(late=late)
        page = min(max(_ROWS_AHEAD // len(symbols), _SMALLEST_PAGE), _LARGEST_PAGE)
        sources: list[_Source] = [_Ticks(self._history, symbol, self._span, found, page) for symbol in symbols]
        if timeframes:
            fresh = await self._history.fresh_bars(self._series, start, found)
            last = min(end, self._history.newest_close + 1)
            sources.append(_Bars(self._history, self._series, (start, last), found, fresh))
        self._sources = sources


class _Ticks:
    """The ticks of one symbol, page by page."""

    def __init__(self, history: History, symbol: str, span: tuple[int, int], stretch: Stretch, page: int) -> None:
        self._history, self._symbol, self._stretch, self._page = history, symbol, stretch, page
        self._after: TickId = span[0], -1
        self._end = span[1]
        self.rows: list[Row] = []
        self.over = False

    @property
    def known_to(self) -> int:
        return self._after[0]

    async def read(self) -> None:
        page = await self._history.ticks(self._symbol, self._after, self._end, self._page, self._stretch)
        self.over = len(page) < self._page
        self.rows += page
        if page:
            self._after = place_of(page[-1])


class _Bars:
    """Closed bars of all series, some hours or weeks at once."""

    def __init__(
        self, history: History, series: Series, span: tuple[int, int], stretch: Stretch, fresh: pl.DataFrame
    ) -> None:
        self._history, self._series, self._stretch, self._fresh = history, series, stretch, fresh
        self._start, self._end = span
        self._step = _FIRST_STEP
        self.rows: list[Row] = []
        self.over = self._start >= self._end

    @property
    def known_to(self) -> int:
        return self._start

    async def read(self) -> None:
        span = self._start, min(self._start + self._step, self._end)
        found = await self._history.closed(self._series, span, self._stretch, self._fresh)
        self.rows += sorted(found, key=order)
        self._start = span[1]
        self.over = self._start >= self._end
        if len(found) < _FEW_BARS:
            self._step *= 4
        elif len(found) > _MANY_BARS:
            self._step = max(self._step // 4, 60_000)


def _taken(source: _Source, horizon: int | None) -> Iterable[Row]:
    """What is in hand before the horizon; all without one."""
    rows: Sequence[Row] = source.rows
    count = len(rows) if horizon is None else bisect_left(rows, horizon, key=time_of)
    source.rows = list(rows[count:])
    return rows[:count]
