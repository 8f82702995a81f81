"""Where a series goes on: the pure core of the poll loop.

A terminal can only be asked from a whole second on, so every answer repeats ticks that were already taken. What was
taken is known by the last millisecond and the multiset of the ticks at that millisecond (several ticks share one,
identical ones too). Times here are the server's.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from producers.terminal import Ticks
from schemas import records

PAGE: Final = 10_000
"""Ticks asked for at once."""

_KEY: Final = struct.Struct("<4d")
"""bid, ask, last, volume_real as bits, so that even NaN equals itself."""

_KEY_FIELDS: Final = ["bid", "ask", "last", "volume_real"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything before ``last_msc`` is taken, and at ``last_msc`` the ticks in ``seen``."""

    last_msc: int
    seen: Mapping[bytes, int] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How many ticks at ``last_msc`` are taken: the next one's ordinal."""
        return sum(self.seen.values())


@dataclass(frozen=True, slots=True)
class Page:
    """The next question to the terminal: ``count`` ticks from ``second`` on."""

    second: int
    count: int


def first_page(cursor: Cursor, count: int = PAGE) -> Page:
    """Where to ask on from ``cursor``."""
    return Page(cursor.last_msc // 1000, count)


def next_page(page: Page, answer: Ticks, cursor: Cursor, count: int = PAGE) -> Page | None:
    """What to ask after ``answer`` to ``page`` has been taken up to ``cursor``; None when the series is drained.

    An answer that is full within its first second can never get past it, so the same second is asked for twice as
    many.
    """
    if len(answer) < page.count:
        return None
    if int(answer["time"][-1]) <= page.second:
        return Page(page.second, page.count * 2)
    return first_page(cursor, count)


def take(cursor: Cursor, answer: Ticks) -> tuple[Ticks, Cursor]:
    """The ticks of ``answer`` that are new since ``cursor``, in order, and the cursor after them."""
    times = answer["time_msc"]
    start, at_end = np.searchsorted(times, [cursor.last_msc, cursor.last_msc + 1])
    fresh = answer[start:]
    if start < at_end and cursor.seen:
        left = Counter(cursor.seen)
        keep = np.ones(len(fresh), np.bool_)
        for index, key in enumerate(_keys(fresh[: at_end - start])):
            if left[key] > 0:
                left[key] -= 1
                keep[index] = False
        fresh = fresh[keep]
    return fresh, advance(cursor, fresh)


def advance(cursor: Cursor, fresh: Ticks) -> Cursor:
    """The cursor after new ticks that follow it in order."""
    if not len(fresh):
        return cursor
    last = int(fresh["time_msc"][-1])
    tail = fresh[np.searchsorted(fresh["time_msc"], last) :]
    seen = Counter(_keys(tail))
    return replace(cursor, seen=Counter(cursor.seen) + seen) if last == cursor.last_msc else Cursor(last, seen)


def to_record(cursor: Cursor, *, feed: str, shard: str, symbol: str) -> records.Cursor:
    """The cursor as it is kept in ``producers.cursors``."""
    seen = tuple(
        records.Seen(n=n, **dict(zip(_KEY_FIELDS, _KEY.unpack(key), strict=True)))
        for key, n in sorted(cursor.seen.items())
    )
    return records.Cursor(feed=feed, shard=shard, symbol=symbol, last_msc=cursor.last_msc, seen=seen)


def from_record(record: records.Cursor) -> Cursor:
    """The cursor that `to_record` kept."""
    return Cursor(
        record.last_msc, {_KEY.pack(seen.bid, seen.ask, seen.last, seen.volume_real): seen.n for seen in record.seen}
    )


def _keys(ticks: Ticks) -> list[bytes]:
    return [_KEY.pack(*row) for row in ticks[_KEY_FIELDS].tolist()]
