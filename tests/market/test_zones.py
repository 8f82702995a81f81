from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.zones import ServerZone
from schemas.errors import SettingsError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
NAMES = (
    *("America/New_York", "Europe/Athens", "Europe/London", "America/Sao_Paulo", "Asia/Kathmandu"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Tehran", "UTC"),
)
moments = st.integers(0, 4_102_444_799_999)


def around_changes(name: str) -> st.SearchStrategy[int]:
    changes = ServerZone.parse(name).changes.tolist() or [0]
    return st.one_of(moments, st.builds(int.__add__, st.sampled_from(changes), st.integers(-90_000_000, 90_000_000)))


def reading(ms: int, zone: ZoneInfo) -> int:
    return ((EPOCH + ms * MS).astimezone(zone).replace(tzinfo=UTC) - EPOCH) // MS


def array(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@given(st.data(), st.sampled_from(NAMES))
def test_server_time_is_zoneinfos(data: st.DataObject, name: str) -> None:
    times = data.draw(st.lists(around_changes(name), min_size=1, max_size=20))
    shown = ServerZone.parse(name).to_server(np.array(times))
    assert shown.tolist() == [reading(ms, ZoneInfo(name)) for ms in times]


@given(st.data(), st.sampled_from(NAMES))
def test_a_reading_is_its_first_moment_or_its_last_or_the_change_that_skips_it(data: st.DataObject, name: str) -> None:
    zone, info = ServerZone.parse(name), ZoneInfo(name)
    shown = data.draw(around_changes(name))
    first, last = int(zone.to_utc(array(shown))[0]), int(zone.to_utc(array(shown), later=True)[0])
    if reading(first, info) == shown:
        assert reading(last, info) == shown
        naive = (EPOCH + shown * MS).replace(tzinfo=info)
        assert [first, last] == [(naive.replace(fold=fold).astimezone(UTC) - EPOCH) // MS for fold in (0, 1)]
    else:
        assert first == last
        assert reading(first - 1, info) < shown < reading(first, info)


@given(st.data(), st.sampled_from(NAMES))
def test_a_later_reading_is_never_an_earlier_moment(data: st.DataObject, name: str) -> None:
    times = np.sort(np.array(data.draw(st.lists(around_changes(name), min_size=2, max_size=30))))
    for later in (False, True):
        assert (np.diff(ServerZone.parse(name).to_utc(times, later=later)) >= 0).all()


@given(moments)
def test_new_york_plus_seven_is_new_yorks_clock_seven_hours_on(ms: int) -> None:
    shown = int(ServerZone.parse("New_York+7").to_server(array(ms))[0])
    assert shown == reading(ms, ZoneInfo("America/New_York")) + 7 * 3_600_000


def test_midnight_is_five_in_the_afternoon_in_new_york_on_both_sides_of_both_changes() -> None:
    zone, info = ServerZone.parse("New_York+7"), ZoneInfo("America/New_York")
    for day in ((2025, 3, 7), (2025, 3, 10), (2025, 3, 28), (2025, 10, 27), (2025, 10, 31), (2025, 11, 3)):
        closing = (datetime(*day, 17, tzinfo=info) - EPOCH) // MS
        assert int(zone.to_server(array(closing))[0]) % 86_400_000 == 0


@pytest.mark.parametrize(("name", "hours"), [("UTC", 0), ("UTC+3", 3), ("UTC-5", -5), ("UTC+5:45", 5.75)])
def test_fixed_offsets(name: str, hours: float) -> None:
    zone = ServerZone.parse(name)
    assert zone.to_server(array(0)).tolist() == [hours * 3_600_000]
    assert zone.to_utc(zone.to_server(array(5))).tolist() == [5]


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "UTC+15", "utc 3", "New_York", "../etc/passwd", "America", "x\0y"]
)
def test_an_unknown_zone_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match="no time zone"):
        ServerZone.parse(name)


def test_nothing_in_gives_nothing_out() -> None:
    zone = ServerZone.parse("New_York+7")
    assert zone.to_server(array()).size == zone.to_utc(array()).size == 0
