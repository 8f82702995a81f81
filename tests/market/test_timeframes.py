from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.timeframes import TIMEFRAMES, base_of, bounds, is_timeframe, longest_ms
from infra.market.zones import ServerZone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000
ODD_ZONES = ("New_York+7", "Europe/Athens", "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo")

moments = st.integers(0, 4_070_908_800_000)


def near(zone: str) -> st.SearchStrategy[int]:
    changes = ServerZone.parse(zone).changes.tolist() or [0]
    return st.one_of(moments, st.builds(int.__add__, st.sampled_from(changes), st.integers(-2 * HOUR, 2 * HOUR)))


def one(timeframe: str, ms: int, zone: str) -> tuple[int, int]:
    opens, closes = bounds(timeframe, np.array([ms], np.int64), ServerZone.parse(zone))
    return int(opens[0]), int(closes[0])


def utc(*at: int) -> int:
    return (datetime(*at, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)  # type: ignore[misc, arg-type]


def test_all_of_metatraders() -> None:
    assert len(TIMEFRAMES) == len(set(TIMEFRAMES)) == 21
    assert is_timeframe("MN1")
    assert not is_timeframe("M7")


@given(st.data(), st.sampled_from(TIMEFRAMES), st.sampled_from(ODD_ZONES))
def test_bars_cover_all_time_without_overlap(data: st.DataObject, timeframe: str, zone: str) -> None:
    ms = data.draw(near(zone))
    opens, closes = one(timeframe, ms, zone)
    assert opens <= ms < closes
    assert closes - opens <= longest_ms(timeframe)
    assert one(timeframe, opens, zone) == (opens, closes) == one(timeframe, closes - 1, zone)
    assert one(timeframe, closes, zone)[0] == closes
    assert one(timeframe, opens - 1, zone)[1] == opens


@given(st.data(), st.sets(st.sampled_from(TIMEFRAMES), min_size=1), st.sampled_from(ODD_ZONES))
def test_every_bar_is_made_of_whole_bars_of_the_base(data: st.DataObject, names: set[str], zone: str) -> None:
    ms = data.draw(near(zone))
    opens, closes = one(base_of(names), ms, zone)
    for name in names:
        assert one(name, opens, zone) == one(name, closes - 1, zone) == one(name, ms, zone)


@given(st.data(), st.sampled_from(["H2", "H4", "H12", "D1", "W1", "MN1"]))
def test_long_bars_are_what_the_clock_shows(data: st.DataObject, timeframe: str) -> None:
    ms, zone = data.draw(near("Europe/Athens")), ZoneInfo("Europe/Athens")
    now = (EPOCH + timedelta(milliseconds=ms)).astimezone(zone).replace(tzinfo=None)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if timeframe[0] == "H":
        start, length = start + timedelta(hours=now.hour // int(timeframe[1:]) * int(timeframe[1:])), timeframe[1:]
        end = start + timedelta(hours=int(length))
    elif timeframe == "D1":
        end = start + timedelta(days=1)
    elif timeframe == "W1":
        start -= timedelta(days=start.isoweekday() % 7)
        end = start + timedelta(days=7)
    else:
        start = start.replace(day=1)
        end = (start + timedelta(days=32)).replace(day=1)
    expected = tuple(
        (edge.replace(tzinfo=zone).astimezone(UTC) - EPOCH) // timedelta(milliseconds=1) for edge in (start, end)
    )
    if any(edge.hour == 3 for edge in (start, end)):
        return  # Athens changes at 3 and 4: skipped or shown twice; the covering test has those
    assert one(timeframe, ms, "Europe/Athens") == expected


def test_days_of_a_change_are_an_hour_shorter_and_longer() -> None:
    spring, autumn = one("D1", utc(2025, 3, 9, 12), "New_York+7"), one("D1", utc(2025, 11, 2, 12), "New_York+7")
    assert spring == (utc(2025, 3, 8, 22), utc(2025, 3, 9, 21))
    assert autumn == (utc(2025, 11, 1, 21), utc(2025, 11, 2, 22))


def test_the_hour_shown_twice_is_two_bars_up_to_h1_and_one_above() -> None:
    first, second = utc(2025, 11, 2, 5, 30), utc(2025, 11, 2, 6, 30)  # 8:30 on the server's clock, both
    assert one("H1", first, "New_York+7")[1] == one("H1", second, "New_York+7")[0] == utc(2025, 11, 2, 6)
    assert one("H4", first, "New_York+7") == one("H4", second, "New_York+7")
    assert one("H4", first, "New_York+7") == (utc(2025, 11, 2, 5), utc(2025, 11, 2, 10))


def test_weeks_begin_on_sunday_and_months_on_the_first() -> None:
    assert one("W1", utc(2025, 9, 17), "UTC") == (utc(2025, 9, 14), utc(2025, 9, 21))
    assert one("MN1", utc(2024, 2, 29, 23, 59), "UTC") == (utc(2024, 2, 1), utc(2024, 3, 1))


@pytest.mark.parametrize(
    ("names", "base"),
    [(["M1", "H1"], "M1"), (["M4", "M6"], "M2"), (["M10", "M15"], "M5"), (["H2", "H3"], "H1"), (["W1", "MN1"], "D1")],
)
def test_base(names: list[str], base: str) -> None:
    assert base_of(names) == base
