from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.market.calendar import (
    HOLIDAY,
    MARKET_CLOSED,
    OPEN,
    Calendar,
    LocalSpan,
    default_calendar,
    parse_calendar,
)
from infra.market.spans import market_spans
from schemas.errors import SettingsError

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def local(*at: int, zone: ZoneInfo = NEW_YORK) -> int:
    return ms(datetime(*at, tzinfo=zone))  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("sunday", [(2025, 3, 2), (2025, 3, 9), (2025, 10, 26), (2025, 11, 2), (2014, 5, 4)])
def test_the_fx_week_is_new_yorks_on_both_sides_of_the_change(sunday: tuple[int, int, int]) -> None:
    fx = parse_calendar("fx")
    opens = local(*sunday, 17)
    friday = datetime(*sunday, 17, tzinfo=NEW_YORK) + timedelta(days=5)
    assert [fx.is_open(opens - 1), fx.is_open(opens), fx.is_open(ms(friday) - 1), fx.is_open(ms(friday))] == [
        *(False, True, True, False)
    ]


def test_metals_break_for_an_hour_a_day() -> None:
    metals = parse_calendar("metals")
    for hour, is_open in ((16, True), (17, False), (18, True)):
        assert metals.is_open(local(2025, 9, 16, hour)) is is_open
    assert not metals.is_open(local(2025, 9, 19, 18))
    assert not metals.is_open(local(2025, 9, 14, 17, 59))


@given(st.integers(0, 4_000_000_000_000))
def test_fx_hours_are_what_zoneinfo_says(at: int) -> None:
    now = (EPOCH + timedelta(milliseconds=at)).astimezone(NEW_YORK)
    minute = (now.isoweekday() % 7 * 24 + now.hour) * 60 + now.minute
    assert parse_calendar("fx").is_open(at) is (17 * 60 <= minute < (5 * 24 + 17) * 60)


@given(st.lists(st.integers(0, 4_000_000_000_000), max_size=20))
def test_one_and_many_agree(times: list[int]) -> None:
    calendar = Calendar.from_json(
        '{"zone":"Europe/Athens","open":["Mon 10:00-Tue 09:00"],'
        '"holidays":["2025-12-25","2025-12-24 13:00/2025-12-26 09:00"]}'
    )
    assert calendar.closed_reasons(np.array(times, np.int64)).tolist() == [calendar.closed_reason(at) for at in times]


def test_holidays_close_what_would_be_open() -> None:
    calendar = parse_calendar(
        '{"zone":"America/New_York","open":["Sun 17:00-Fri 17:00"],'
        '"holidays":["2025-12-25","2025-12-24 13:00/2025-12-24 17:00"]}'
    )
    expected = {(24, 12, 59): OPEN, (24, 13): HOLIDAY, (24, 17): OPEN, (25, 0): HOLIDAY, (25, 23, 59): HOLIDAY,
                (26, 0): OPEN, (26, 17): MARKET_CLOSED}  # fmt: skip
    times = np.array([local(2025, 12, *at) for at in expected], np.int64)
    assert calendar.closed_reasons(times).tolist() == list(expected.values())


def test_extra_hours_are_open_whatever_else_is_said() -> None:
    calendar = parse_calendar(
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"holidays":["2025-02-03"],'
        '"extra":["2025-02-03 09:30/11:00","2025-02-08 00:00/2025-02-09 06:00"]}'
    )
    expected = {(3, 9): HOLIDAY, (3, 9, 30): OPEN, (3, 10, 59): OPEN, (3, 11): MARKET_CLOSED, (8, 0): OPEN,
                (9, 5, 59): OPEN, (9, 6): MARKET_CLOSED, (10, 9): OPEN}  # fmt: skip
    times = [ms(datetime(2025, 2, *at, tzinfo=UTC)) for at in expected]  # type: ignore[misc, arg-type]
    assert calendar.closed_reasons(np.array(times, np.int64)).tolist() == list(expected.values())


def test_the_whole_definition_is_in_the_json_and_short() -> None:
    text = (
        '{"name":"X","zone":"UTC","open":["Mon 09:00-Mon 10:00"],"holidays":["2025-02-03","2025-02-10 09:30/10:00",'
        '"2025-02-17 00:00/2025-02-20 00:00"],"extra":["2025-02-08 23:00/2025-02-09 00:00"],"years":[2025,2026]}'
    )
    assert parse_calendar(text).to_json() == text
    more = parse_calendar(text).besides([LocalSpan.parse("2025-02-24")], [])
    assert more.to_json() == text.replace('"],"extra"', '","2025-02-24"],"extra"')


@pytest.mark.parametrize(
    ("sunday", "hour"),
    [("2025-03-02", 22), ("2025-03-09", 21), ("2025-03-30", 21), ("2025-10-26", 21), ("2025-11-02", 22)],
)
def test_the_fx_week_keeps_new_yorks_clock_whatever_europe_does(sunday: str, hour: int) -> None:
    start = ms(datetime.fromisoformat(f"{sunday}T00:00Z"))
    first, second = market_spans(parse_calendar("fx"), start, start + 24 * 3_600_000)
    assert (first.to - start, second.reason) == (hour * 3_600_000, OPEN)


@pytest.mark.parametrize(
    ("monday", "opens", "closes"),
    [
        *(("2025-03-24", 8, 16.5), ("2025-03-31", 7, 15.5), ("2025-10-20", 7, 15.5), ("2025-10-27", 8, 16.5)),
        *(("2025-03-10", 8, 16.5), ("2025-11-03", 8, 16.5)),  # New York's changes are not London's
    ],
)
def test_londons_hours_keep_londons_clock(monday: str, opens: float, closes: float) -> None:
    start = ms(datetime.fromisoformat(f"{monday}T00:00Z"))
    calendar = parse_calendar("Mon-Fri 08:00-16:30 Europe/London")
    spans = [span for span in market_spans(calendar, start, start + 24 * 3_600_000) if span.reason == OPEN]
    assert [((span.from_ - start) / 3_600_000, (span.to - start) / 3_600_000) for span in spans] == [(opens, closes)]


AROUND_CHANGES = [ms(datetime(2025, *day, tzinfo=UTC)) for day in ((3, 9), (3, 30), (4, 6), (10, 5), (10, 26), (11, 2))]


@settings(max_examples=50)
@given(
    st.sampled_from(("America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC")),
    st.lists(st.tuples(st.integers(0, 7 * 1_440 - 1), st.integers(1, 3_000)), min_size=1, max_size=4),
    st.lists(st.tuples(st.booleans(), st.integers(-3_000, 3_000), st.integers(1, 3_000)), max_size=4),
    st.sampled_from(AROUND_CHANGES),
    st.integers(-3 * 86_400_000, 0),
)
def test_spans_are_what_every_minute_says(
    zone: str,
    hours: list[tuple[int, int]],
    exceptions: list[tuple[bool, int, int]],
    around: int,
    before: int,
) -> None:
    local_spans: dict[bool, list[LocalSpan]] = {True: [], False: []}
    for is_open, from_, length in exceptions:
        local_spans[is_open].append(LocalSpan(around + from_ * 60_000, around + (from_ + length) * 60_000))
    calendar = Calendar(zone, [(a, a + length) for a, length in hours], local_spans[False], local_spans[True])
    start, end = around + before, around + 3 * 86_400_000
    found = market_spans(calendar, start, end)
    assert (found[0].from_, found[-1].to) == (start, end)
    assert all(a.to == b.from_ and a.reason != b.reason for a, b in pairwise(found))
    minutes = np.arange(start, end, 60_000)
    at = np.searchsorted([span.from_ for span in found], minutes, side="right") - 1
    reasons = np.array([span.reason for span in found])[at]
    assert (reasons == calendar.closed_reasons(minutes)).all()


def test_a_holiday_within_a_longer_one_does_not_end_it() -> None:
    text = '{"zone":"UTC","open":["Sun 00:00-Sat 24:00"],"holidays":["2025-01-01/2025-01-10","2025-01-02"]}'
    assert parse_calendar(text).closed_reason(ms(datetime(2025, 1, 5, tzinfo=UTC))) == HOLIDAY


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("Sun 17:00-Fri 17:15 America/New_York", ["Sun 17:00-Fri 17:15"]),
        ("Mon-Tue 09:30-16:00 America/New_York", ["Mon 09:30-Mon 16:00", "Tue 09:30-Tue 16:00"]),
        ("mon 09:00-12:00, Mon 13:00-24:00 UTC", ["Mon 09:00-Mon 12:00", "Mon 13:00-Mon 24:00"]),
        ("Fri-Sat 22:00-02:00; Mon 09:00-10:00 UTC+3", ["Sun 00:00-Sun 02:00", "Mon 09:00-Mon 10:00",
                                                        "Fri 22:00-Sat 02:00", "Sat 22:00-Sat 24:00"]),
        ("24/7", ["Sun 00:00-Sat 24:00"]),
        ("Mon 09:00-12:00, Mon 11:00-14:00 UTC", ["Mon 09:00-Mon 14:00"]),
    ],
)  # fmt: skip
def test_hours_as_people_write_them(text: str, hours: list[str]) -> None:
    calendar = parse_calendar(text)
    assert Calendar.from_json(calendar.to_json()) == calendar
    assert [f'"{hour}"' for hour in hours] == calendar.to_json().split('"open":[')[1].rstrip("]}").split(",")


@pytest.mark.parametrize(
    "text",
    [
        *("", "fxx", "Mon 25:00-26:00 UTC", "Mon-Fri 09:30-16:00", "Mon 09:00-10:00 Mars/X", "{", "[]", "{}"),
        *("Mon 24:30-25:00 UTC", '{"zone":"UTC"}', '{"zone":"UTC","open":[]}', '{"zone":1,"open":["Mon 09:00-10:00"]}'),
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"holidays":["2025-02-30"]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"holidays":["2025-02-03/2025-02-02"]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"holidays":["2025-02-03T00:00+01:00"]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"holidays":["2025-02-03 13:00/24:00"]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"extra":["2025-02-03 13:00/12:00"]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"extra":"2025-02-03"}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"years":[2025]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"years":[2026,2025]}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"name":1}',
        '{"zone":"UTC","open":["Mon 09:00-10:00"],"holiday":[]}',
        "Mon 09:00-10:00 UTC, Tue 09:00-10:00 Europe/Athens",
    ],
)
def test_what_is_not_a_calendar_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_calendar(text)


@pytest.mark.parametrize(
    ("symbol", "preset"), [("EURUSD", "fx"), ("XAUUSD.icm", "metals"), ("btcusd", "24/7"), ("XRPUSD", "24/7")]
)
def test_defaults(symbol: str, preset: str) -> None:
    assert default_calendar(symbol) == parse_calendar(preset)
