from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.timeframes import TIMEFRAMES, bounds
from infra.market.zones import ServerZone
from producers.history.rates import TERMINAL_TIMEFRAMES, Stood, bars, unpublished
from producers.terminal import RATES_DTYPE, Rates
from schemas.records import Bar, BarStatus

FOREVER = 2**62


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def rates(*shown: int) -> Rates:
    return np.array([(second, 1.1, 1.3, 1.0, 1.2, 17, 8, 0) for second in shown], RATES_DTYPE)


def made(answer: Rates, timeframe: str, zone: str, closed_by: int = FOREVER) -> list[Bar]:
    return bars(answer, symbol="S", feed="f", timeframe=timeframe, zone=ServerZone.parse(zone), closed_by=closed_by)


def test_the_terminals_numbers_of_all_timeframes() -> None:
    assert tuple(TERMINAL_TIMEFRAMES) == TIMEFRAMES
    some = {"M1": 1, "M30": 30, "H1": 16385, "H4": 16388, "D1": 16408, "W1": 32769, "MN1": 49153}
    assert {name: TERMINAL_TIMEFRAMES[name] for name in some} == some


def test_a_bar_says_what_the_terminal_says_and_nothing_else() -> None:
    (bar,) = made(rates(at("2025-06-02T03:00")), "H1", "New_York+7")
    assert bar.key == f"S|H1|{at('2025-06-02T00:00') * 1_000}"
    assert (bar.open, bar.high, bar.low, bar.close) == (1.1, 1.3, 1.0, 1.2)
    assert (bar.tick_volume, bar.spread, bar.real_volume, bar.status) == (17, 8, 0.0, BarStatus.FINAL)
    assert (bar.tick_count, bar.ask_open, bar.rules) == (0, 0.0, "")
    assert bar.ts_close - bar.ts_open == 3_600_000


def test_a_bar_that_has_not_ended_is_left_out() -> None:
    hour = at("2025-06-02T03:00")
    answer = rates(hour, hour + 3_600)
    assert len(made(answer, "H1", "UTC", closed_by=(hour + 7_200) * 1_000)) == 2
    assert len(made(answer, "H1", "UTC", closed_by=(hour + 7_200) * 1_000 - 1)) == 1


@pytest.mark.parametrize(
    ("zone", "before", "after", "moved"),
    [
        ("New_York+7", "2025-03-07T22:00", "2025-03-10T00:00", -1),
        ("New_York+7", "2025-10-31T22:00", "2025-11-03T00:00", 1),
        ("Europe/Athens", "2025-03-28T22:00", "2025-03-31T00:00", -1),
        ("Europe/Athens", "2025-10-24T22:00", "2025-10-27T00:00", 1),
    ],
)
def test_bars_around_the_daylight_saving_weekends(zone: str, before: str, after: str, moved: int) -> None:
    """By the clock as many hours apart as ever; in UTC one fewer in spring, one more in autumn."""
    first, second = made(rates(at(before), at(after)), "H1", zone)
    apart = (at(after) - at(before)) * 1_000
    assert second.ts_open - first.ts_open == apart + moved * 3_600_000


def test_the_hour_that_a_clock_shows_twice_is_two_bars_of_a_symbol_that_never_closes() -> None:
    hours = [at(f"2025-10-26T{hour:02}:00") for hour in (2, 3, 3, 4)]  # Athens sets back at 04:00
    opens = [bar.ts_open // 1_000 for bar in made(rates(*hours), "H1", "Europe/Athens")]
    assert opens == [at("2025-10-25T23:00") + 3_600 * n for n in range(4)]


@given(
    st.sampled_from(TIMEFRAMES),
    st.sampled_from(["UTC", "New_York+7", "Europe/Athens", "UTC+5:30"]),
    st.integers(at("2024-01-01"), at("2026-01-01")).map(lambda second: second * 1_000),
)
def test_keys_are_those_of_bars_made_of_ticks(timeframe: str, zone: str, moment: int) -> None:
    """Outside the hours that a clock skips or repeats."""
    clock = ServerZone.parse(zone)
    opens, closes = bounds(timeframe, np.array([moment]), clock)
    shown = clock.to_server(opens)
    if clock.to_utc(shown)[0] != opens[0] or shown[0] % 1_000:
        return
    (bar,) = made(rates(int(shown[0]) // 1_000), timeframe, zone)
    assert (bar.ts_open, bar.ts_close) == (opens[0], closes[0])


def test_only_what_does_not_stand_is_published_and_a_changed_bar_is_a_revision() -> None:
    found = made(rates(0, 60, 120), "M1", "UTC")
    standing = {found[0].key: Stood.of(found[0]), found[1].key: Stood.of(replace(found[1], close=9.9))}
    revised = replace(found[1], status=BarStatus.REVISED, revision=1)
    assert list(unpublished(found, standing)) == [revised, found[2]]
    assert not list(unpublished(found, {bar.key: Stood.of(bar) for bar in [found[0], revised, found[2]]}))
