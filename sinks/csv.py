"""CSV: rows as text that spreadsheets and people read.

Ticks: ``time, symbol, bid, ask, last, volume, flags, ordinal, feed, server_time, received, correction``; bars:
``time, symbol, timeframe, open, high, low, close, tick_volume, spread, real_volume, close_time`` and the rest of the
record; then ``partition, offset`` in the topic. Times are ISO 8601 in UTC with milliseconds (``received``: with
microseconds); ``server_time`` is the broker's own clock, without a zone. Numbers read back exactly.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from infra.lake.layout import PARTITIONED_BY, Table
from sinks.files import Form

_HEADERS: Final = {
    "ts_event": "time",
    "ts_open": "time",
    "ts_close": "close_time",
    "ts_recv": "received",
    "first_tick_ts": "first_tick_time",
    "last_tick_ts": "last_tick_time",
    "source_partition": "partition",
    "source_offset": "offset",
}
_FIRST: Final = {
    "Tick": ("ts_event", "symbol", "bid", "ask", "last", "volume", "flags", "ordinal", "feed"),
    "Bar": (
        *("ts_open", "symbol", "timeframe", "open", "high", "low", "close"),
        *("tick_volume", "spread", "real_volume", "ts_close"),
    ),
}


def text(table: Table, rows: pl.DataFrame) -> bytes:
    """The rows of one table as a file's content, with a line of names."""
    first = _FIRST[table.record]
    last = [name for name in table.schema if name not in (*first, *PARTITIONED_BY)]
    return (
        rows.select(table.readable(name).alias(_HEADERS.get(name, name)) for name in (*first, *last))
        .write_csv()
        .encode()
    )


CSV: Final = Form("csv", text)
