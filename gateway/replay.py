"""The past once more, as a stream: the ticks of several symbols in the order of their time, at any pace."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import orjson
import polars as pl
import pyarrow as pa
from aiohttp import web

from gateway.clock import Clock
from gateway.endpoints import STREAMS
from gateway.history import History, Series
from gateway.hub import Hub
from gateway.market import Row
from gateway.past import Past, stretch, time_of
from gateway.place import Place, Position
from gateway.problems import BusyError
from gateway.protocol import BARS, TICKS
from schemas.columns import dtypes

MOST_ROWS: Final = 2_000
"""Of one message."""
_GATHER_MS: Final = 20
"""What is due within this time is sent together."""


class Slots:
    """How many replays may run at once, over HTTP and on sockets."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: set[object] = set()

    def take(self, holder: object) -> None:
        """One more replay. Raises BusyError when there are as many as may be."""
        if len(self._held) >= self._most:
            raise BusyError(f"{self._most} replays run already (ARBITREX_GATEWAY__MAX_REPLAYS); try again in a moment")
        self._held.add(holder)

    def free(self, holder: object) -> None:
        """It is over; that may be said more than once."""
        self._held.discard(holder)


def due(rows: Sequence[Row], first: int, speed: float | None, most: int = MOST_ROWS) -> int:
    """Up to where rows are told together once the first of them is due."""
    stop = min(first + most, len(rows))
    if speed is None:
        return stop
    last = time_of(rows[first]) + _GATHER_MS * speed
    return next((place for place in range(first, stop) if time_of(rows[place]) > last), stop)


async def paced(past: Past, clock: Clock) -> AsyncIterator[list[Row]]:
    """The rows of the past when they are due."""
    clock.run(running=True)
    while (batch := await past.more()) is not None:
        place = 0
        while place < len(batch):
            stop = due(batch, place, clock.speed)
            await asyncio.sleep(max(clock.delay(time_of(batch[place])), 0.0))
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


WRITERS: Final[dict[str, Callable[[], Writer]]] = dict(zip(STREAMS, (Lines, Arrow), strict=True))


class Replays:
    """Makes replays of the world's past, and streams them over HTTP."""

    def __init__(self, history: History, hub: Hub, slots: Slots) -> None:
        self.history = history
        self._hub = hub
        self.slots = slots

    def here(self) -> Position:
        """Where the logs stand."""
        return Position(self._hub.cursors[TICKS], self._hub.cursors[BARS])

    def past(self, series: Series, span: tuple[int, int], place: Place) -> Past:
        """What there is of a stretch of the logs beyond what was told."""
        return Past(self.history, series, span, stretch(place.start, place.end), place.told)

    async def stream(
        self, request: web.Request, symbols: Sequence[str], span: tuple[int, int], speed: float | None
    ) -> web.StreamResponse:
        """Stream the ticks of [start, end); ``speed`` None: as fast as the client takes them. Raises BusyError."""
        accepted = request.headers.get("Accept", "")
        media = next((each for each in WRITERS if each in accepted), next(iter(WRITERS)))
        writer = WRITERS[media]()
        clock = Clock(span[0], speed, asyncio.get_running_loop().time)
        batches = paced(self.past((symbols, ()), span, Place(None, self.here(), span[0])), clock)
        response = web.StreamResponse(headers={"Content-Type": media, "Cache-Control": "no-store"})
        self.slots.take(response)
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
            self.slots.free(response)
        return response
