"""A calendar as spans of time: open, or closed and why, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

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


def open_spans(calendar: Calendar, start: int, end: int) -> tuple[Times, Times]:
    """When the market is open in [start, end): openings and closes, UTC milliseconds."""
    found = [(span.from_, span.to) for span in market_spans(calendar, start, end) if span.reason == OPEN]
    opens, closes = np.array(found, np.int64).reshape(-1, 2).T
    return opens, closes
