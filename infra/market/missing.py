"""Why there is no bar: every moment of a range that no bar covers, with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.market.calendar import Calendar
from infra.market.spans import open_spans
from infra.market.timeframes import bars_within
from infra.market.zones import ServerZone, Times

Span = tuple[int, int]
"""From (inclusive) and to (exclusive), UTC milliseconds."""


class Absence(StrEnum):
    """Why a bar does not exist."""

    MARKET_CLOSED = "market_closed"
    """The market is closed for all of its time."""
    FEED_GAP = "feed_gap"
    """The market is open for some of its time, and the log has a gap there or begins later."""
    QUIET = "quiet"
    """The log holds every tick of its time, and there was none that made a bar."""


_ABSENCES: Final = tuple(Absence)


@dataclass(frozen=True, slots=True)
class Missing:
    """Neighbouring bars that do not exist, for one reason, over [from_, to) in UTC milliseconds."""

    from_: int
    to: int
    reason: Absence
    bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What calendar and log say of a series."""

    calendar: Calendar
    zone: ServerZone
    coverage_from: int | None
    """Since when the log holds every tick but for the gaps; none: it never did."""
    gaps: tuple[Span, ...] = ()


def missing_bars(series: Series, timeframe: str, present: Iterable[Span], start: int, end: int) -> list[Missing]:
    """What of [start, end) no present bar covers, by time.

    A bar that lies in the range in part has the reason that all of it has. Moments are UTC milliseconds.
    """
    if start >= end:
        return []
    opens, closes = bars_within(timeframe, start, end, series.zone)
    reasons = _reasons(series, opens, closes)
    found: list[Missing] = []
    for from_, to in _uncovered(present, start, end):
        first, last = np.searchsorted(closes, from_, side="right"), np.searchsorted(opens, to, side="left")
        changes = np.flatnonzero(np.diff(reasons[first:last])) + 1
        begins = [first, *(first + changes).tolist()]
        for begin, stop in zip(begins, [*begins[1:], last], strict=True):
            span = max(from_, int(opens[begin])), min(to, int(closes[stop - 1]))
            found.append(Missing(*span, _ABSENCES[reasons[begin]], int(stop - begin)))
    return found


def _reasons(series: Series, opens: Times, closes: Times) -> NDArray[np.int64]:
    """For each bar the position of its `Absence`."""
    first, last = int(opens[0]), int(closes[-1])
    is_open = open_spans(series.calendar, first, last)
    begin = last if series.coverage_from is None else series.coverage_from
    lost = _joined([(first, begin), *series.gaps], first, last)
    nobody_knows = _both(is_open, lost)
    reasons = np.full(len(opens), _ABSENCES.index(Absence.QUIET))
    reasons[_shared(nobody_knows, opens, closes) > 0] = _ABSENCES.index(Absence.FEED_GAP)
    reasons[_shared(is_open, opens, closes) == 0] = _ABSENCES.index(Absence.MARKET_CLOSED)
    return reasons


def _uncovered(present: Iterable[Span], start: int, end: int) -> list[Span]:
    from_, to = _joined(present, start, end)
    edges = zip([start, *to.tolist()], [*from_.tolist(), end], strict=True)
    return [(first, last) for first, last in edges if first < last]


def _joined(spans: Iterable[Span], start: int, end: int) -> tuple[Times, Times]:
    """The spans as far as they lie in [start, end), in order, those that touch made one."""
    joined: list[list[int]] = []
    for from_, to in sorted((max(from_, start), min(to, end)) for from_, to in spans):
        if from_ >= to:
            continue
        if joined and from_ <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], to)
        else:
            joined.append([from_, to])
    edges = np.array(joined, np.int64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]


def _both(one: tuple[Times, Times], other: tuple[Times, Times]) -> tuple[Times, Times]:
    """What lies in spans of both."""
    edges = np.unique(np.concatenate([*one, *other]))
    if len(edges) < 2:  # noqa: PLR2004 - no span without two edges
        return edges[:0], edges[:0]
    from_, to = edges[:-1], edges[1:]
    inside = _holds(one, from_) & _holds(other, from_)
    return from_[inside], to[inside]


def _holds(spans: tuple[Times, Times], moments: Times) -> NDArray[np.bool_]:
    from_, to = spans
    holds: NDArray[np.bool_] = np.searchsorted(from_, moments, side="right") > np.searchsorted(
        to, moments, side="right"
    )
    return holds


def _shared(spans: tuple[Times, Times], opens: Times, closes: Times) -> Times:
    """Milliseconds that each bar shares with the spans, which are in order and apart or touch."""
    return _until(spans, closes) - _until(spans, opens)


def _until(spans: tuple[Times, Times], moments: Times) -> Times:
    """Milliseconds of the spans that lie before each moment."""
    from_, to = spans
    if not len(from_):
        return np.zeros_like(moments)
    done = np.concatenate([[0], np.cumsum(to - from_)])
    begun = np.searchsorted(from_, moments, side="right")
    last = np.maximum(begun - 1, 0)
    running = np.where(begun > 0, np.clip(moments - from_[last], 0, to[last] - from_[last]), 0)
    until: Times = done[last] + running
    return until
