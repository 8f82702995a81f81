"""Ticks by day and symbol, from whatever source: what every reader gives and the importer takes.

Times are the source's own clock, written as if it were UTC, in milliseconds, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.market.zones import ServerZone
from producers.readings import Times, moments
from producers.terminal import FLAG_ASK, FLAG_BID, TICK_DTYPE, Ticks
from schemas.errors import UsageError

DAY_MS: Final = 86_400_000

_MOST_DIGITS: Final = 8
_EPOCH: Final = date(1970, 1, 1)

Span = tuple[int, int]
"""From (inclusive) and to (exclusive)."""


class StoppedError(Exception):
    """Asked to stop before a day was read."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line, or a row of a file without lines, that is no tick."""

    path: Path
    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}: {self.text!r}"


@dataclass(frozen=True, slots=True)
class Day:
    """A day's ticks in the order in which they stood there."""

    ticks: Ticks
    malformed: Sequence[Malformed] = ()
    missing: Sequence[Span] = ()
    """What was there once and cannot be had any more."""


@dataclass(frozen=True, slots=True)
class TickDay:
    """One day of one symbol, not read yet."""

    path: Path
    symbol: str
    day: date
    load: Callable[[], Day] = field(compare=False, repr=False)
    """Raises SourceError when it cannot be read at all, StoppedError when asked to stop meanwhile."""
    broker_name: str = field(default="", compare=False)
    """What the source calls the symbol."""
    spans: tuple[Span, ...] = ()
    """What of the day the source has, in order; none: all of it."""

    @property
    def midnight(self) -> int:
        """Its first moment."""
        return midnight(self.day)

    @property
    def start(self) -> int:
        """From when on the source has it."""
        return self.spans[0][0] if self.spans else self.midnight

    @property
    def end(self) -> int:
        """Up to when the source has it."""
        return self.spans[-1][1] if self.spans else self.midnight + DAY_MS


def midnight(day: date) -> int:
    """The day's first moment."""
    return (day - _EPOCH).days * DAY_MS


def day_of(time: int) -> date:
    """The day that a moment belongs to."""
    return _EPOCH + timedelta(days=time // DAY_MS)


def in_order(ticks: Ticks, zone: ServerZone) -> tuple[Ticks, Times, int]:
    """Ticks by the moment (UTC) that ``zone`` gives them, those moments, and how many stood behind a later one.

    In an hour that the clock shows twice, a reading below the one before it begins the second showing.
    """
    if not len(ticks):
        return ticks, np.zeros(0, np.int64), 0
    shown = ticks["time_msc"].astype(np.int64)
    times = moments(shown, zone, asked=int(shown[0]))
    behind = int((times < np.maximum.accumulate(times)).sum())
    if not behind:
        return ticks, times, 0
    order = np.argsort(times, kind="stable")
    return ticks[order], times[order], behind


def quotes(times: Times, bid: NDArray[np.float64], ask: NDArray[np.float64]) -> Ticks:
    """Ticks that change both sides."""
    ticks = np.zeros(len(times), TICK_DTYPE)
    ticks["time_msc"], ticks["time"] = times, times // 1_000
    ticks["bid"], ticks["ask"], ticks["flags"] = bid, ask, FLAG_BID | FLAG_ASK
    return ticks


def digits(prices: NDArray[np.float64]) -> int:
    """With how many decimals the prices were written."""
    for places in range(_MOST_DIGITS):
        scale = 10.0**places
        if np.array_equal(np.round(prices * scale) / scale, prices):
            return places
    return _MOST_DIGITS


def at_midnights(start: int, end: int, days: int = 1) -> Iterator[Span]:
    """[start, end) cut at midnights, into spans of so many days."""
    while start < end:
        until = min(end, (start // DAY_MS + days) * DAY_MS)
        yield start, until
        start = until


def holes(days: Sequence[TickDay], since: int) -> Iterator[tuple[TickDay, Span]]:
    """What the sources of one symbol do not have after ``since``, cut at midnights, each with the day after it."""
    reached = since
    for day in days:
        for start, end in day.spans or ((day.midnight, day.midnight + DAY_MS),):
            for span in at_midnights(reached, start):
                yield day, span
            reached = max(reached, end)


def by_symbol(days: Iterable[TickDay]) -> list[TickDay]:
    """By symbol, then by day. Raises UsageError when a day of a symbol is there twice."""
    ordered = sorted(days, key=lambda day: (day.symbol, day.day, str(day.path)))
    for first, second in pairwise(ordered):
        if (first.symbol, first.day) == (second.symbol, second.day):
            raise UsageError(f"{first.path} and {second.path} are the same day of {first.symbol}: import one of them")
    return ordered


def joined(days: Iterable[TickDay]) -> list[TickDay]:
    """Days of which several sources have a part each, as one. Raises UsageError when two have the same part."""
    key: Callable[[TickDay], tuple[str, date]] = lambda day: (day.symbol, day.day)  # noqa: E731 - used twice
    return [_join(list(parts)) for _, parts in groupby(sorted(days, key=lambda day: (*key(day), day.start)), key)]


def _join(parts: Sequence[TickDay]) -> TickDay:
    first = parts[0]
    if len(parts) == 1:
        return first
    for before, after in pairwise(parts):
        if after.start < before.end:
            moment = datetime.fromtimestamp(after.start / 1_000, UTC)
            raise UsageError(
                f"{before.path} and {after.path} both have {first.symbol} at {moment:%Y-%m-%d %H:%M:%S}: import one of "
                "them, or take the other's lines out"
            )

    def load() -> Day:
        loaded = [part.load() for part in parts]
        return Day(np.concatenate([day.ticks for day in loaded]), [line for day in loaded for line in day.malformed])

    spans = tuple(span for part in parts for span in part.spans)
    return TickDay(first.path, first.symbol, first.day, load, first.broker_name, spans)
