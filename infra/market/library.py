"""Exchanges' calendars from the package pandas_market_calendars, as calendars of ours.

Some years of its schedule are read at once: the hours of most weeks become the weekly hours, and every week that
differs gives holidays (early closes, too) and extra hours. What comes out is the whole definition, so that nothing that
reads it needs the package, and a later version of the package changes nothing that is in the log.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.market.calendar import PRESETS, Calendar, LocalSpan, parse_calendar
from infra.market.hours import DAY, WEEK
from schemas.errors import SettingsError

_MINUTE: Final = 60_000
_TO_SUNDAY: Final = 4 * DAY
"""1970-01-01 was a Thursday: so many minutes after a Sunday."""
_EPOCH: Final = date(1970, 1, 1)
_AROUND: Final = timedelta(days=8)
"""Read before and after the years: sessions run over midnight, and weeks over the new year."""

Minutes = NDArray[np.bool_]
"""For every minute of some local weeks, from a Sunday 00:00 on, whether something holds."""


def find_calendar(text: str, years: tuple[int, int]) -> Calendar:
    """What `parse_calendar` reads, or a library's calendar by its name (``XNYS``) for the years from first to last.

    Raises SettingsError.
    """
    return library_calendar(text.strip(), *years) if is_library_name(text) else parse_calendar(text)


def is_library_name(text: str) -> bool:
    """Whether the text is no preset, JSON or hours, all of which say themselves what they are."""
    return text.strip() not in PRESETS and ":" not in text


@lru_cache(maxsize=256)
def library_calendar(name: str, first: int, last: int) -> Calendar:
    """The library's calendar for the local years from first to last.

    Outside these years it keeps the weekly hours and has no holidays. Raises SettingsError for a name that the library
    does not have, or when it is not installed.
    """
    spans, zone = _schedule(name, first, last)
    begin, end = (_minutes(date(year, 1, 1)) for year in (first, last + 1))
    start = (begin + _TO_SUNDAY) // WEEK * WEEK - _TO_SUNDAY  # a Sunday
    weeks = -((start - end) // WEEK)
    is_open = np.zeros(weeks * WEEK, bool)
    for opens, closes in (spans - start).tolist():
        is_open[max(opens, 0) : max(closes, 0)] = True
    inside = np.zeros_like(is_open)
    inside[begin - start : end - start] = True
    weekly = _usual(is_open, inside)
    usual = np.tile(weekly, weeks)
    closed, more = usual & ~is_open & inside, is_open & ~usual & inside
    return Calendar(
        zone,
        _runs(weekly),
        _local(start, [*_runs(_whole_days(closed, is_open))]),
        _local(start, [*_runs(more)]),
        name=name,
        years=(first, last),
    )


def _schedule(name: str, first: int, last: int) -> tuple[NDArray[np.int64], str]:
    """When the market is open, as local minutes from and to, and the name of its zone."""
    try:
        import pandas_market_calendars as library  # noqa: PLC0415 - slow, and an extra of the installation
    except ImportError as error:
        raise SettingsError(
            f"the calendar {name} comes from the package pandas_market_calendars, which is not installed: install it "
            "with pip install 'arbitrex[calendars]', or write the hours, such as Mon-Fri 09:30-16:00 America/New_York"
        ) from error
    names = library.get_calendar_names()
    if name not in names:
        near = difflib.get_close_matches(name.upper(), names, n=5) or difflib.get_close_matches(name, names, n=5)
        raise SettingsError(
            f"no calendar is called {name!r}; give fx, metals, 24/7, hours such as Mon-Fri 09:30-16:00 "
            "America/New_York, or a name that pandas_market_calendars knows"
            + (f": {', '.join(near)}" if near else ", such as XNYS, XLON or CME Globex Equity")
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own use of pandas deserves
        try:
            found = library.get_calendar(name)
            schedule = found.schedule(date(first, 1, 1) - _AROUND, date(last, 12, 31) + _AROUND)
            zone = str(found.tz)
            times = [schedule[column].fillna(schedule["market_close"]) for column in _columns(schedule)]
            edges = [_local_minutes(column, zone) for column in times]
        except Exception as error:  # whatever the library or pandas raises
            raise SettingsError(f"pandas_market_calendars cannot give {name} for {first} to {last}: {error}") from error
    if not len(schedule):
        raise SettingsError(f"pandas_market_calendars knows no session of {name} from {first} to {last}")
    return np.concatenate([np.stack(edges[at : at + 2], 1) for at in range(0, len(edges), 2)]), zone


def _columns(schedule: Any) -> list[str]:
    breaks = ["break_start", "break_end"] if "break_start" in schedule else []
    return ["market_open", *breaks, "market_close"]


def _local_minutes(times: Any, zone: str) -> NDArray[np.int64]:
    naive = times.dt.tz_convert(zone).dt.tz_localize(None).to_numpy()
    minutes: NDArray[np.int64] = naive.astype("datetime64[m]").astype(np.int64)
    return minutes


def _minutes(day: date) -> int:
    return (day - _EPOCH).days * DAY


def _usual(is_open: Minutes, inside: Minutes) -> Minutes:
    """The minutes of a week at which the market is open in most weeks that lie inside."""
    counted = inside.reshape(-1, WEEK).sum(0)
    opened = (is_open & inside).reshape(-1, WEEK).sum(0)
    usual: Minutes = 2 * opened > counted
    return usual


def _whole_days(closed: Minutes, is_open: Minutes) -> Minutes:
    """The closed minutes, grown to whole days where the market does not open at all on a day when it usually does."""
    by_day = closed.reshape(-1, DAY)
    whole: Minutes = np.any(by_day, 1) & ~np.any(is_open.reshape(-1, DAY), 1)
    grown: Minutes = (by_day | whole.reshape(-1, 1)).ravel()
    return grown


def _runs(minutes: Minutes) -> Iterator[tuple[int, int]]:
    """From and to of each run of true ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], minutes, [False]]).astype(np.int8)))
    yield from ((int(from_), int(to)) for from_, to in edges.reshape(-1, 2))


def _local(start: int, runs: list[tuple[int, int]]) -> Iterator[LocalSpan]:
    for from_, to in runs:
        yield LocalSpan((start + from_) * _MINUTE, (start + to) * _MINUTE)
