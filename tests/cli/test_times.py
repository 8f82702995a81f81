"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.times import EARLIEST, LATEST, moment, span
from schemas.errors import UsageError

NOW = int(datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp() * 1_000)
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-02", "2026-11-02T00:00Z"),
        ("2026-11-02T14:30", "2026-11-02T14:30Z"),
        (" 2026-11-02 14:30:05.250Z ", "2026-11-02T14:30:05.250Z"),
        ("2026-11-02T14:30:00+02:00", "2026-11-02T12:30Z"),
        ("2026-11-02T14:30:00.000999Z", "2026-11-02T14:30Z"),
        ("now", "2026-11-02T12:00Z"),
        ("2h", "2026-11-02T10:00Z"),
        ("last 2 h", "2026-11-02T10:00Z"),
        ("2 Hours ago", "2026-11-02T10:00Z"),
        ("90min", "2026-11-02T10:30Z"),
        ("90m", "2026-11-02T10:30Z"),
        ("1.5 h", "2026-11-02T10:30Z"),
        ("1d12h", "2026-11-01T00:00Z"),
        ("1 w ago", "2026-10-26T12:00Z"),
        ("250ms", "2026-11-02T11:59:59.750Z"),
        ("1399465860000", "2014-05-07T12:31Z"),
    ],
)
def test_a_time_is_read(text: str, expected: str) -> None:
    assert moment(text, NOW) == round(datetime.fromisoformat(expected).timestamp() * 1_000)


@given(st.integers(EARLIEST, LATEST - 1), st.integers(0, 999), st.integers(-14 * 60, 14 * 60))
def test_every_time_is_read_in_any_zone(ms: int, us: int, minutes: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms, microseconds=us)
    assert moment(at.astimezone(timezone(timedelta(minutes=minutes))).isoformat(), NOW) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterdayish", "2x", "2 h 3", "h", "2026-13-01", "2026-11-02T25:00", "-2h", "2mon", "9" * 400 + "d"]
)
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a time: .*ISO 8601"):
        moment(text, NOW)


@pytest.mark.parametrize("text", ["1969-12-31", "2100-01-01", "9999w", "0001-01-01T00:00+14:00"])
def test_a_time_no_calendar_knows_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"1970"):
        moment(text, NOW)


def test_a_range_ends_now_unless_said() -> None:
    assert span("last 2 h", None, NOW) == (NOW - 2 * HOUR, NOW)
    assert span("3h", "1h", NOW) == (NOW - 3 * HOUR, NOW - HOUR)


@pytest.mark.parametrize(("from_", "to"), [("2h", "2h"), ("1h", "2h"), ("2026-11-03", None)])
def test_an_empty_range_is_refused(from_: str, to: str | None) -> None:
    with pytest.raises(UsageError, match="must come after"):
        span(from_, to, NOW)
