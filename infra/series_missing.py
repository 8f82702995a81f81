"""Which bars of a series do not exist, and why, by what the log says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.market.calendar import Calendar, default_calendar, parse_calendar
from infra.market.counts import is_count
from infra.market.missing import Missing, Series, Span, missing_bars
from infra.market.timeframes import TIMEFRAMES, bars_within
from infra.market.zones import ServerZone
from infra.series_log import SeriesLog, Standing
from schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class MissingBars:
    """What is missing of the part of a range that has closed; times in UTC milliseconds."""

    standing: Standing
    calendar: Calendar
    taken: Span
    """Of the range asked for, the bars that could exist."""
    found: Sequence[Missing]


def check(symbol: str, timeframe: str) -> None:
    """Raises UsageError for a timeframe whose bars cannot be missing."""
    if is_count(timeframe):
        raise UsageError(
            f"{timeframe} bars have no intervals that could lack one: ask with a timeframe such as M1 where ticks "
            f"are missing, with arbitrex explain {symbol} {timeframe} TIME why a moment has no bar, and with verify "
            "whether any is gone"
        )
    if timeframe not in TIMEFRAMES:
        raise UsageError(f"{timeframe} is no timeframe; choose from {' '.join(TIMEFRAMES)}")


def missing_of(log: SeriesLog, world: str, symbol: str, timeframe: str, asked: Span, *, most: int) -> MissingBars:
    """What is missing in a range, UTC milliseconds. Raises BrokerError; UsageError for what cannot be answered."""
    check(symbol, timeframe)
    standing = log.standing(symbol)
    zone = ServerZone.parse(standing.spec.zone)
    if timeframe not in standing.timeframes:
        raise UsageError(
            f"world {world} has no {timeframe} bars of {symbol}: it makes {' '.join(standing.timeframes)} "
            "(ARBITREX_BARS__TIMEFRAMES)"
        )
    asked = asked[0], max(asked[0] + 1, min(asked[1], standing.processed_to))
    opens, closes = bars_within(timeframe, asked[0], asked[0] + 1, zone)
    if (asked[1] - asked[0]) // int(closes[0] - opens[0]) > most:
        raise UsageError(f"more than {most:,} bars of {timeframe} are asked for; give a shorter range")
    opens, closes = bars_within(timeframe, *asked, zone)
    whole = (opens >= standing.timeframes[timeframe]) & (closes <= standing.processed_to)
    start, end = taken = (int(opens[whole][0]), int(closes[whole][-1])) if whole.any() else (asked[0], asked[0])
    spec = standing.spec
    calendar = parse_calendar(spec.calendar) if spec.calendar else default_calendar(symbol)
    series = Series(calendar=calendar, zone=zone, coverage_from=standing.coverage_from, gaps=standing.gaps)
    found = missing_bars(series, timeframe, log.bars(symbol, timeframe, start, end), start, end) if start < end else []
    return MissingBars(standing, calendar, taken, found)
