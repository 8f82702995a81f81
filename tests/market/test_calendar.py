from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.market.calendar import HOLIDAY, MARKET_CLOSED, OPEN, Calendar, default_calendar, parse_calendar
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


@settings(deadline=None)  # the first use of a zone reads its table
@given(st.integers(0, 4_000_000_000_000))
def test_fx_hours_are_what_zoneinfo_says(at: int) -> None:
    now = (EPOCH + timedelta(milliseconds=at)).astimezone(NEW_YORK)
    minute = (now.isoweekday() % 7 * 24 + now.hour) * 60 + now.minute
    assert parse_calendar("fx").is_open(at) is (17 * 60 <= minute < (5 * 24 + 17) * 60)


@settings(deadline=None)  # the first use of a zone reads its table
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
