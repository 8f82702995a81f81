"""Why there is no bar, against one moment at a time."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.calendar import Calendar, parse_calendar
from infra.market.missing import Absence, Missing, Series, missing_bars
from infra.market.timeframes import TIMEFRAMES, bars_within, bounds
from infra.market.zones import ServerZone

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
FX = parse_calendar("fx")
SERVER = ServerZone.parse("New_York+7")
CALENDARS = (FX, parse_calendar("metals"), parse_calendar("24/7"), parse_calendar("Mon-Fri 08:00-16:30 Europe/London"))
ZONES = tuple(map(ServerZone.parse, ("UTC", "New_York+7", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu")))
CHANGES = tuple(
    1_000 * int(datetime.fromisoformat(f"{day}T00:00Z").timestamp())
    for day in ("2025-03-09", "2025-03-30", "2025-04-06", "2025-10-05", "2025-10-26", "2025-11-02")
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").timestamp() * 1_000)


def span(from_: str, to: str, reason: Absence, bars: int) -> Missing:
    return Missing(at(from_), at(to), reason, bars)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, int, int, ServerZone]:
    timeframe = draw(st.sampled_from(TIMEFRAMES))
    length = {"M": MINUTE, "H": HOUR, "D": DAY, "W": 7 * DAY}[timeframe[0]] if timeframe != "MN1" else 30 * DAY
    start = draw(st.sampled_from(CHANGES)) + draw(st.integers(-3 * DAY, 3 * DAY))
    return timeframe, start, start + draw(st.integers(1, 40 * length)), draw(st.sampled_from(ZONES))


@given(ranges())
def test_bars_within_a_range_are_all_there_are(case: tuple[str, int, int, ServerZone]) -> None:
    timeframe, start, end, zone = case
    opens, closes = bars_within(timeframe, start, end, zone)
    assert opens[0] <= start < closes[0]
    assert opens[-1] < end <= closes[-1]
    assert (closes[:-1] == opens[1:]).all()
    again = bounds(timeframe, opens, zone)
    assert (opens == again[0]).all()
    assert (closes == again[1]).all()


spans = st.lists(st.tuples(st.integers(-2 * DAY, 9 * DAY), st.integers(1, 2 * DAY)), max_size=5)


@given(ranges(), st.sampled_from(CALENDARS), spans, st.integers(-DAY, 5 * DAY) | st.none(), st.randoms())
def test_what_is_missing_and_what_is_present_are_the_whole_range(
    case: tuple[str, int, int, ServerZone],
    calendar: Calendar,
    lost: list[tuple[int, int]],
    covered: int | None,
    pick: object,
) -> None:
    timeframe, start, end, zone = case
    gaps = tuple((start + from_, start + from_ + length) for from_, length in lost)
    series = Series(
        calendar=calendar, zone=zone, gaps=gaps, coverage_from=None if covered is None else start + covered
    )  # fmt: skip
    slots = list(zip(*(edges.tolist() for edges in bars_within(timeframe, start, end, zone)), strict=True))
    present = [slot for slot in slots if pick.random() < 0.4]  # type: ignore[attr-defined]
    found = missing_bars(series, timeframe, present, start, end)
    tiles = sorted([(each.from_, each.to) for each in found] + [(max(a, start), min(b, end)) for a, b in present])
    assert all(from_ < to for from_, to in tiles)
    assert all(before[1] == after[0] for before, after in pairwise(tiles))
    assert (tiles[0][0], tiles[-1][1]) == (start, end)
    assert sum(each.bars for each in found) == len(slots) - len(present)
    for one, other in pairwise(found):
        assert one.to < other.from_ or one.reason != other.reason, "neighbours with one reason are one"
    for slot in slots:
        if slot not in present:
            (reason,) = {each.reason for each in found if each.from_ < slot[1] and slot[0] < each.to}
            assert reason == slowly(series, *slot)


def slowly(series: Series, opens: int, closes: int) -> Absence:
    """By the minute, which is as fine as these calendars are; what begins within one counts from its first moment."""
    edges = {opens, *range(opens // MINUTE * MINUTE + MINUTE, closes, MINUTE)}
    edges |= {edge for gap in series.gaps for edge in gap if opens <= edge < closes}
    if series.coverage_from is not None and opens <= series.coverage_from < closes:
        edges.add(series.coverage_from)
    moments = np.array(sorted(edges), np.int64)
    is_open = series.calendar.closed_reasons(moments) == 0
    lost = np.full(len(moments), series.coverage_from is None)
    if series.coverage_from is not None:
        lost |= moments < series.coverage_from
    for from_, to in series.gaps:
        lost |= (moments >= from_) & (moments < to)
    if not is_open.any():
        return Absence.MARKET_CLOSED
    return Absence.FEED_GAP if (is_open & lost).any() else Absence.QUIET


def test_a_week_end_a_gap_and_a_quiet_minute() -> None:
    gaps = ((at("2025-03-07T21:30"), at("2025-03-07T21:32")), (at("2025-03-08T10:00"), at("2025-03-08T11:00")))
    series = Series(calendar=FX, zone=SERVER, coverage_from=at("2025-03-01T00:00"), gaps=gaps)
    present = [(t, t + MINUTE) for t in range(at("2025-03-07T21:00"), at("2025-03-07T22:00"), MINUTE)]
    del present[30:32], present[10]
    late = [(t, t + MINUTE) for t in range(at("2025-03-09T21:01"), at("2025-03-09T22:00"), MINUTE)]
    found = missing_bars(series, "M1", present + late, at("2025-03-07T21:00"), at("2025-03-09T22:00"))
    assert found == [
        span("2025-03-07T21:10", "2025-03-07T21:11", Absence.QUIET, 1),
        span("2025-03-07T21:30", "2025-03-07T21:32", Absence.FEED_GAP, 2),
        span("2025-03-07T22:00", "2025-03-09T21:00", Absence.MARKET_CLOSED, 47 * 60),  # New York's clock went on
        span("2025-03-09T21:00", "2025-03-09T21:01", Absence.QUIET, 1),
    ]


def test_before_coverage_is_a_gap_where_the_market_was_open() -> None:
    series = Series(calendar=FX, zone=SERVER, coverage_from=at("2025-03-10T00:30"))
    found = missing_bars(series, "H1", [], at("2025-03-08T00:00"), at("2025-03-10T03:00"))
    assert found == [
        span("2025-03-08T00:00", "2025-03-09T21:00", Absence.MARKET_CLOSED, 45),
        span("2025-03-09T21:00", "2025-03-10T01:00", Absence.FEED_GAP, 4),
        span("2025-03-10T01:00", "2025-03-10T03:00", Absence.QUIET, 2),
    ]
    never = Series(calendar=FX, zone=SERVER, coverage_from=None)
    assert {each.reason for each in missing_bars(never, "H1", [], at("2025-03-10T00:00"), at("2025-03-10T03:00"))} == {
        Absence.FEED_GAP
    }


def test_bars_of_another_alignment_still_count_as_there() -> None:
    """The broker moved its clock: the old H4 bars do not lie where today's zone has them."""
    series = Series(calendar=parse_calendar("24/7"), zone=ServerZone.parse("UTC"), coverage_from=0)
    old = [(at("2025-03-10T02:00"), at("2025-03-10T06:00"))]
    found = missing_bars(series, "H4", old, at("2025-03-10T00:00"), at("2025-03-10T08:00"))
    assert [(each.from_, each.to) for each in found] == [
        (at("2025-03-10T00:00"), at("2025-03-10T02:00")), (at("2025-03-10T06:00"), at("2025-03-10T08:00"))
    ]  # fmt: skip


@pytest.mark.parametrize("end", [0, -1])
def test_an_empty_range_misses_nothing(end: int) -> None:
    assert missing_bars(Series(calendar=FX, zone=SERVER, coverage_from=None), "M1", [], 0, end) == []
