"""Exchanges' calendars: what the library's own schedule says, minute for minute, and nothing of it afterwards."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from typing import Any

import numpy as np
import pandas_market_calendars
import pytest

from infra.market.calendar import HOLIDAY, MARKET_CLOSED, OPEN, Calendar
from infra.market.library import find_calendar, library_calendar
from infra.market.spans import open_spans
from schemas.errors import SettingsError

YEARS = (2024, 2026)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").timestamp() * 1_000)


def sessions(name: str) -> list[list[int]]:
    """The library's sessions of the years, without breaks and with touching ones joined, UTC milliseconds."""
    schedule: Any = pandas_market_calendars.get_calendar(name).schedule("2023-12-20", "2027-01-10")
    edges = ["market_open", "break_start", "break_end", "market_close"] if "break_start" in schedule else [
        "market_open", "market_close"
    ]  # fmt: skip
    times = np.stack(
        [schedule[edge].dt.tz_localize(None).to_numpy().astype("M8[ms]").astype(np.int64) for edge in edges]
    )
    joined: list[list[int]] = []
    for opens, closes in times.T.reshape(-1, 2).tolist():
        if joined and opens == joined[-1][1]:
            joined[-1][1] = closes
        elif opens < closes:
            joined.append([opens, closes])
    return joined


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    # Early closes; lunch; nights and a daily break; another closing hour since 2024; evening sessions on holidays.
    ["XNYS", "XLON", "XHKG", "CME Globex Equity", "CMES", "JPX", "NSE", "24/7"],
)
def test_it_is_open_when_the_library_says_so(name: str) -> None:
    calendar = Calendar.from_json(library_calendar(name, *YEARS).to_json())
    zone = calendar.zone
    start, end = zone.to_utc(np.array([ms("2024-01-01T00:00"), ms("2027-01-01T00:00")])).tolist()
    expected = [[max(a, start), min(b, end)] for a, b in sessions(name) if a < end and b > start]
    assert np.stack(open_spans(calendar, start, end), 1).tolist() == expected
    assert len(calendar.to_json()) < 7_000


def test_new_york_closes_early_and_on_its_holidays() -> None:
    calendar = library_calendar("XNYS", 2025, 2026)
    expected = {
        "2025-11-26T20:59": OPEN, "2025-11-27T15:00": HOLIDAY, "2025-11-28T17:59": OPEN, "2025-11-28T18:00": HOLIDAY,
        "2025-11-28T21:00": MARKET_CLOSED, "2025-11-29T15:00": MARKET_CLOSED, "2025-03-07T14:30": OPEN,
        "2025-03-10T13:30": OPEN, "2025-03-10T13:29": MARKET_CLOSED,
    }  # fmt: skip
    assert calendar.closed_reasons(np.array([ms(text) for text in expected])).tolist() == list(expected.values())
    assert (calendar.name, calendar.years, calendar.zone.name) == ("XNYS", (2025, 2026), "America/New_York")


def test_outside_its_years_it_keeps_the_weekly_hours() -> None:
    calendar = library_calendar("XNYS", 2025, 2025)
    assert calendar.is_open(ms("2026-12-25T15:00"))
    assert not calendar.is_open(ms("2026-12-26T15:00"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("XNYX", "no calendar is called 'XNYX'.*XNYS"),
        ("fxx", "no calendar is called 'fxx'.*hours such as"),
        ("XBEL", "cannot give XBEL for 2024 to 2026"),
    ],
)
def test_what_the_library_does_not_have_is_told(name: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        find_calendar(name, YEARS)


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas_market_calendars", None)
    with pytest.raises(SettingsError, match=r"not installed.*arbitrex\[calendars\]"):
        find_calendar("XNYS", (2019, 2019))


def test_presets_hours_and_json_need_no_library() -> None:
    program = (
        "import sys; from infra.market.library import find_calendar;"
        "[find_calendar(text, (2025, 2025)) for text in ('fx', ' 24/7', 'Mon 09:00-10:00 UTC', "
        """'{"zone":"UTC","open":["Mon 09:00-10:00"]}')];"""
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
