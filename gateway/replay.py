"""The past once more, as a stream: the ticks of several symbols in the order of their time, at any pace."""

from __future__ import annotations

import asyncio
import heapq
import io
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import orjson
import polars as pl
import pyarrow as pa
from aiohttp import web

from gateway.history import History, TickId, place_of
from gateway.market import Row
from gateway.problems import BusyError
from schemas.columns import dtypes

MOST_SYMBOLS: Final = 50
_MOST_REPLAYS: Final = 8
_PAGE: Final = 5_000
_GATHER_MS: Final = 20
"""What is due within this time is sent together."""


async def merged(history: History, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[list[Row]]:
    """Batches of all clean ticks of [start, end), UTC milliseconds, by time, symbol and ordinal.

    What the source found late stands where it belongs, as in the lake. Raises BusyError, StoreError, BrokerError.
    """
    series = [_Series(history, symbol, (start, -1), end) for symbol in symbols]
    while True:
        for each in series:
            await each.fill()
        horizon = min((each.known_to for each in series if not each.over), default=None)
        batch = list(heapq.merge(*(each.take(horizon) for each in series), key=_order))
        if batch:
            yield batch
        if horizon is None:
            return


class _Series:
    """The ticks of one symbol, page by page."""

    def __init__(self, history: History, symbol: str, after: TickId, end: int) -> None:
        self._history, self._symbol, self._after, self._end = history, symbol, after, end
        self._rows: list[Row] = []
        self.over = False

    @property
    def known_to(self) -> int:
        """Every tick before this time is in hand."""
        return self._after[0]

    async def fill(self) -> None:
        """Get more, unless there is something to take or nothing to come."""
        while not self.over and not (self._rows and self._rows[0]["ts_event"] < self.known_to):
            page = await self._history.ticks(self._symbol, self._after, self._end, _PAGE)
            self.over = len(page) < _PAGE
            self._rows += page
            if page:
                self._after = place_of(page[-1])

    def take(self, horizon: int | None) -> list[Row]:
        """What is in hand before the horizon; all without one."""
        rows = self._rows
        count = len(rows) if horizon is None else bisect_left(rows, horizon, key=lambda row: int(row["ts_event"]))
        self._rows = rows[count:]
        return rows[:count]


async def paced(
    batches: AsyncIterator[list[Row]], start: int, speed: float, seconds: Callable[[], float]
) -> AsyncIterator[list[Row]]:
    """The rows when they are due: ``start`` now, what came a second later after 1/``speed`` seconds."""
    began = seconds()
    async for batch in batches:
        place = 0
        while place < len(batch):
            due = batch[place]["ts_event"] + _GATHER_MS * speed
            stop = next((n for n in range(place, len(batch)) if batch[n]["ts_event"] > due), len(batch))
            wait = (batch[place]["ts_event"] - start) / 1_000 / speed - (seconds() - began)
            if wait > 0:
                await asyncio.sleep(wait)
            yield batch[place:stop]
            place = stop


class Writer(Protocol):
    """Rows to bytes, piece by piece."""

    def rows(self, rows: list[Row]) -> bytes:
        """Some more."""

    def end(self) -> bytes:
        """What closes the stream."""


class Lines:
    """A JSON object a line."""

    def rows(self, rows: list[Row]) -> bytes:
        return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    def end(self) -> bytes:
        return b""


class Arrow:
    """Arrow's stream format."""

    def __init__(self) -> None:
        self._columns = dtypes("Tick")
        self._out = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._out, self._table([]).schema)

    def rows(self, rows: list[Row]) -> bytes:
        self._writer.write_table(self._table(rows))
        return self._taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._taken()

    def _table(self, rows: list[Row]) -> Any:
        columns = {name: [row.get(name) for row in rows] for name in self._columns}
        return pl.DataFrame(columns, schema=pl.Schema(self._columns)).to_arrow()

    def _taken(self) -> bytes:
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return data


WRITERS: Final[dict[str, Callable[[], Writer]]] = {
    "application/x-ndjson": Lines,
    "application/vnd.apache.arrow.stream": Arrow,
}


class Replays:
    """Streams replays to clients; at most so many at once. Raises BusyError beyond that."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._running = 0

    async def stream(
        self, request: web.Request, symbols: Sequence[str], span: tuple[int, int], speed: float | None
    ) -> web.StreamResponse:
        """Stream the ticks of [start, end); ``speed`` None: as fast as the client takes them."""
        if self._running >= _MOST_REPLAYS:
            raise BusyError(f"{_MOST_REPLAYS} replays run already; try again in a moment")
        accepted = request.headers.get("Accept", "")
        media = next((each for each in WRITERS if each in accepted), next(iter(WRITERS)))
        writer = WRITERS[media]()
        batches = merged(self._history, symbols, *span)
        if speed is not None:
            batches = paced(batches, span[0], speed, asyncio.get_running_loop().time)
        response = web.StreamResponse(headers={"Content-Type": media, "Cache-Control": "no-store"})
        self._running += 1
        try:
            first: list[Row] = await anext(batches, [])  # what goes wrong here is still an answer of its own
            await response.prepare(request)
            with suppress(ConnectionResetError):
                await response.write(writer.rows(first))
                async for batch in batches:
                    await response.write(writer.rows(batch))
                await response.write(writer.end())
                await response.write_eof()
        finally:
            self._running -= 1
        return response


def _order(row: Row) -> tuple[int, str, int]:
    return row["ts_event"], row["symbol"], row["ordinal"]
