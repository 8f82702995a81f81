from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.encoding import TickColumns, encode_ticks, ordinals
from schemas.codec import Codec
from schemas.definitions import Schema
from schemas.records import Tick


class Store:
    def id_of(self, name: str) -> int:
        return len(name)

    def schema_of(self, schema_id: int) -> Schema:
        raise NotImplementedError


LONG = st.integers(-(2**62), 2**62) | st.integers(0, 300)
INT = st.integers(0, 2**31 - 1) | st.integers(0, 130)
FLOAT = st.floats(allow_nan=False)
ROW = st.tuples(LONG, INT, FLOAT, FLOAT, FLOAT, FLOAT, INT, LONG, LONG)


@given(st.lists(ROW, max_size=30), st.text(min_size=1, max_size=70), st.text(min_size=1, max_size=5))
def test_a_batch_is_what_the_codec_makes_of_each_tick(rows: list[tuple[float, ...]], symbol: str, feed: str) -> None:
    names = TickColumns.__slots__
    columns: dict[str, Any] = {
        name: np.array([row[at] for row in rows], np.float64 if name in {"bid", "ask", "last", "volume"} else np.int64)
        for at, name in enumerate(names)
    }
    codec = Codec(Store())
    expected = [
        codec.encode(Tick(symbol=symbol, feed=feed, **dict(zip(names, row, strict=True))))  # type: ignore[arg-type]
        for row in rows
    ]
    header = codec.headers["Tick"]
    assert encode_ticks(TickColumns(**columns), header=header, symbol=symbol, feed=feed) == expected


@given(st.lists(st.integers(0, 5), max_size=30).map(sorted), st.integers(0, 3))
def test_ordinals_count_within_a_millisecond(times: list[int], first: int) -> None:
    expected, counts = [], {times[0]: first} if times else {}
    for time in times:
        expected.append(counts.get(time, 0))
        counts[time] = counts.get(time, 0) + 1
    assert ordinals(np.array(times, np.int64), first).tolist() == expected
