"""Spans of a terminal's past as the questions it can answer: pure. Times are server time in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from producers.failures import TooMuchError
from producers.files.days import DAY_MS, Span, at_midnights
from producers.readings import Times

MINUTE_MS: Final = 60_000
_SECOND_MS: Final = 1_000
_MOST_BARS: Final = 20_000
"""Of a question, however many the terminal may have: a second's work for it."""


def chunks(start: int, end: int, bar_ms: int, maxbars: int) -> Iterator[Span]:
    """[start, end) in spans that begin at midnights, of no more bars than a terminal may give at once."""
    return at_midnights(start, end, max(1, min(maxbars, _MOST_BARS) * bar_ms // DAY_MS))


def in_parts(ask: Callable[[Span], NDArray[np.void]], span: Span) -> NDArray[np.void]:
    """The answer for ``span``, halved as long as it is too much at once. Raises what ``ask`` raises for a second."""
    try:
        return ask(span)
    except TooMuchError:
        start, end = span
        middle = (start + end) // 2 // _SECOND_MS * _SECOND_MS
        if not start < middle < end:
            raise
        return np.concatenate([in_parts(ask, (start, middle)), in_parts(ask, (middle, end))])


def unticked(bars: Times, ticks: Times) -> list[Span]:
    """Spans in which the terminal had minutes (their openings) of which it gives no tick any more.

    Minutes that nothing but such minutes, and minutes without a bar, lie between are one span.
    """
    with_ticks = np.unique(ticks // MINUTE_MS)
    minutes = bars // MINUTE_MS
    missing = np.unique(minutes[~np.isin(minutes, with_ticks)])
    if not len(missing):
        return []
    ticked_before = np.searchsorted(with_ticks, missing)
    breaks = np.flatnonzero(np.diff(ticked_before) > 0) + 1
    runs = np.split(missing, breaks)
    return [(int(run[0]) * MINUTE_MS, (int(run[-1]) + 1) * MINUTE_MS) for run in runs]
