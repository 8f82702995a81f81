"""A series' ticks as columns, and those columns as messages: the Avro encoder for whole batches.

The bytes are those of `schemas.codec.Codec.encode` for each tick (a test holds it to that), made column by column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.terminal import FLAGS_KNOWN, Ticks
from schemas.layout import Ints, doubles, joined, messages, same, texts, varints

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TickColumns:
    """Ticks of one series in order; one row a tick. Times as in `schemas.records.Tick`."""

    ts_event: Ints
    ordinal: Ints
    bid: Floats
    ask: Floats
    last: Floats
    volume: Floats
    flags: Ints
    server_time: Ints
    ts_recv: Ints

    def __len__(self) -> int:
        return len(self.ts_event)

    def rows(self, rows: slice | NDArray[np.bool_]) -> TickColumns:
        """Some of the rows, by slice or mask."""
        return TickColumns(**{name: getattr(self, name)[rows] for name in self.__slots__})


def ordinals(ts: Ints, first: int = 0) -> Ints:
    """The position of each tick among the equal, adjacent times of ``ts``; the first run begins with ``first``."""
    if not len(ts):
        return np.zeros(0, np.int64)
    index = np.arange(len(ts))
    starts = np.concatenate(([True], ts[1:] != ts[:-1]))
    position = index - np.maximum.accumulate(np.where(starts, index, 0))
    position[: np.argmin(ts == ts[0]) or len(ts)] += first
    return position.astype(np.int64)


def columns(
    fresh: Ticks, ts_event: Ints, first: int, received_us: int | None = None, places: Ints | None = None
) -> TickColumns:
    """Ticks as they are published. Received when they happened unless said.

    ``first``: the first one's ordinal; or ``places``: each one's.
    """
    return TickColumns(
        ts_event=ts_event,
        ordinal=ordinals(ts_event, first) if places is None else places,
        bid=fresh["bid"].astype(np.float64),
        ask=fresh["ask"].astype(np.float64),
        last=fresh["last"].astype(np.float64),
        volume=fresh["volume_real"].astype(np.float64),
        flags=(fresh["flags"] & FLAGS_KNOWN).astype(np.int64),
        server_time=fresh["time_msc"].astype(np.int64),
        ts_recv=ts_event * 1_000 if received_us is None else np.full(len(fresh), received_us, np.int64),
    )


def encode_ticks(ticks: TickColumns, *, header: bytes, symbol: str, feed: str, correction: bool = False) -> list[bytes]:
    """Each tick as it stands in ``ticks.raw``; ``header`` is the codec's for a Tick."""
    count = len(ticks)
    if not count:
        return []
    columns = [
        same(header + _string(symbol), count),
        *varints(ticks.ts_event),
        *varints(ticks.ordinal),
        *map(doubles, (ticks.bid, ticks.ask, ticks.last, ticks.volume)),
        *varints(ticks.flags),
        same(_string(feed), count),
        *varints(ticks.server_time),
        *varints(ticks.ts_recv),
        same(bytes([correction]), count),
    ]
    return messages(columns, count)


def _string(text: str) -> bytes:
    return joined(texts([text.encode()]), 1).tobytes()
