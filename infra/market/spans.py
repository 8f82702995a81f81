"""A calendar as spans of time: open, or closed and why, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from infra.market.calendar import OPEN, Calendar
from infra.market.zones import Times


@dataclass(frozen=True, slots=True)
class MarketSpan:
    """[from_, to) in UTC milliseconds, and `calendar`'s reason that holds all of it."""

    from_: int
    to: int
    reason: int


def market_spans(calendar: Calendar, start: int, end: int) -> list[MarketSpan]:
    """All of [start, end) in order, neighbours with different reasons."""
    if start >= end:
        return []
    moments = np.concatenate([[start], calendar.edges(start, end)])
    reasons = calendar.closed_reasons(moments)
    changed = np.flatnonzero(np.concatenate([[True], reasons[1:] != reasons[:-1]]))
    begins = moments[changed].tolist()
    return [
        MarketSpan(from_, to, reason)
        for from_, to, reason in zip(begins, [*begins[1:], end], reasons[changed].tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class MarketMoment:
    """A moment, and when the market turns around it; none: not within reach. UTC milliseconds."""

    at: int
    reason: int
    """`calendar`'s."""
    since: int | None
    """When it last opened, if it is open, or closed."""
    next_open: int | None
    next_close: int | None


def market_moment(calendar: Calendar, at: int, reach: int) -> MarketMoment:
    """Whether the market is open, and its turns within ``reach`` milliseconds before and after."""
    spans = market_spans(calendar, at - reach, at + reach)
    turns = [(b.from_, b.reason == OPEN) for a, b in pairwise(spans) if (a.reason == OPEN) != (b.reason == OPEN)]
    return MarketMoment(
        at,
        calendar.closed_reason(at),
        max((turn for turn, _ in turns if turn <= at), default=None),
        min((turn for turn, opens in turns if turn > at and opens), default=None),
        min((turn for turn, opens in turns if turn > at and not opens), default=None),
    )


def open_spans(calendar: Calendar, start: int, end: int) -> tuple[Times, Times]:
    """When the market is open in [start, end): openings and closes, UTC milliseconds."""
    found = [(span.from_, span.to) for span in market_spans(calendar, start, end) if span.reason == OPEN]
    opens, closes = np.array(found, np.int64).reshape(-1, 2).T
    return opens, closes
