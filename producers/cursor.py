"""Where a series goes on: the pure core of the poll loop.

A terminal can only be asked from a whole second on, so every answer repeats ticks that were already taken. What was
taken is known by the last millisecond and the multiset of the ticks at that millisecond (several ticks share one,
identical ones too). Times are UTC milliseconds for a terminal, the feed's own clock for files: the rule is the same.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from producers.terminal import Ticks
from schemas import records

PAGE: Final = 10_000
"""Ticks asked for at once."""

_KEY: Final = struct.Struct("<4d")
"""bid, ask, last, volume_real as bits, so that even NaN equals itself."""

Times = NDArray[np.int64]

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

    @property
    def after(self) -> int:
        """The first millisecond of which nothing is taken."""
        return self.last_msc + 1 if self.seen else self.last_msc

    def ordinal_at(self, time: int) -> int:
        """The ordinal of the next tick, if it is of ``time``."""
        return self.taken if time == self.last_msc else 0


@dataclass(frozen=True, slots=True)
class Page:
    """The next question to the terminal: ``count`` ticks from ``second`` on, by the cursor's clock."""

    second: int
    count: int


def first_page(cursor: Cursor, count: int = PAGE) -> Page:
    """Where to ask on from ``cursor``."""
    return Page(cursor.last_msc // 1000, count)


def next_page(page: Page, answer: Ticks, cursor: Cursor, count: int = PAGE) -> Page | None:
    """What to ask after ``answer`` to ``page`` has been taken up to ``cursor``; None when the series is drained.

    An answer that is full and does not get past its first second never will, so the same second is asked for twice as
    many.
    """
    if len(answer) < page.count:
        return None
    following = first_page(cursor, count)
    return following if following.second > page.second else Page(page.second, page.count * 2)


def take(cursor: Cursor, answer: Ticks, times: Times) -> tuple[NDArray[np.intp], Cursor]:
    """Which rows of ``answer``, whose ``times`` rise, are new since ``cursor``, and the cursor after them."""
    start, at_end = np.searchsorted(times, [cursor.last_msc, cursor.last_msc + 1])
    rows = np.arange(start, len(answer))
    if start < at_end and cursor.seen:
        left = Counter(cursor.seen)
        keep = np.ones(len(rows), np.bool_)
        for index, key in enumerate(_keys(answer[start:at_end])):
            if left[key] > 0:
                left[key] -= 1
                keep[index] = False
        rows = rows[keep]
    return rows, advance(cursor, answer[rows], times[rows])


def advance(cursor: Cursor, fresh: Ticks, times: Times) -> Cursor:
    """The cursor after new ticks that follow it in order."""
    if not len(fresh):
        return cursor
    last = int(times[-1])
    seen = Counter(_keys(fresh[np.searchsorted(times, last) :]))
    return Cursor(last, Counter(cursor.seen) + seen if last == cursor.last_msc else seen)


def to_record(cursor: Cursor, *, last_msc: int, feed: str, shard: str, symbol: str) -> records.Cursor:
    """The cursor as it is kept in ``producers.cursors``; ``last_msc`` is its time as the server's clock showed it.

    The clock can show a time twice, so the moment itself is the record's timestamp.
    """
    seen = tuple(
        records.Seen(n=n, **dict(zip(_KEY_FIELDS, _KEY.unpack(key), strict=True)))
        for key, n in sorted(cursor.seen.items())
    )
    return records.Cursor(feed=feed, shard=shard, symbol=symbol, last_msc=last_msc, seen=seen)


def from_record(record: records.Cursor, time: int) -> Cursor:
    """The cursor that `to_record` kept; ``time``: the record's timestamp, UTC."""
    return Cursor(time, {_KEY.pack(seen.bid, seen.ask, seen.last, seen.volume_real): seen.n for seen in record.seen})


def _keys(ticks: Ticks) -> list[bytes]:
    return [_KEY.pack(*row) for row in ticks[_KEY_FIELDS].tolist()]
