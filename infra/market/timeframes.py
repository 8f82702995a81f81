"""MetaTrader's 21 timeframes: which bar a moment belongs to, for whole arrays.

Bars are aligned to midnight on the broker's clock, weeks begin on Sunday, months on the 1st. Where that clock is set
forward or back:

* up to H1 a bar has its length in real time: the hour that a clock shows twice is two H1 bars, each with M1 bars of
  its own. (A shift that is no multiple of the timeframe cuts the bar short at the change.)
* from H2 on a bar covers what the clock shows: D1 is 23 or 25 hours then, and the bar over the change an hour shorter
  or longer. A boundary is the first moment at which the clock shows it or something later.

So the bars of a timeframe always cover all time without overlap, and every bar is made of whole bars of each timeframe
that divides it.

Source of the alignment: https://www.mql5.com/en/docs/constants/chartconstants/enum_timeframes and observed bars
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from infra.market.zones import ServerZone, Times

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_WEEK: Final = 7 * _DAY
_TO_SUNDAY: Final = 4 * _DAY
"""1970-01-01 was a Thursday: so much after a Sunday."""

_LENGTHS: Final = (
    {f"M{n}": n * _MINUTE for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)}
    | {f"H{n}": n * _HOUR for n in (1, 2, 3, 4, 6, 8, 12)}
    | {"D1": _DAY, "W1": _WEEK}
)
_BY_LENGTH: Final = {length: name for name, length in _LENGTHS.items()}
_LONGEST_DAYS: Final = {"W1": 8, "MN1": 32}

TIMEFRAMES: Final[tuple[str, ...]] = (*_LENGTHS, "MN1")
"""All names, shortest first."""


def is_timeframe(name: str) -> bool:
    """Whether MetaTrader has a timeframe of this name."""
    return name in TIMEFRAMES


def bounds(timeframe: str, utc_ms: Times, zone: ServerZone) -> tuple[Times, Times]:
    """Opening (inclusive) and close (exclusive) of the bars that the moments belong to, all UTC milliseconds."""
    length = _LENGTHS.get(timeframe)
    if length is not None and length <= _HOUR:
        return _real_time(length, utc_ms, zone)
    shown = zone.to_server(utc_ms)
    first, last = _shown(timeframe, length, shown)
    opens, closes = zone.to_utc(first), zone.to_utc(last)
    passed = utc_ms >= closes  # set back over a boundary, the clock shows the last of the bar before once more
    if passed.any():
        first, last = _shown(timeframe, length, np.where(passed, last, shown))
        opens, closes = zone.to_utc(first), zone.to_utc(last)
    return opens, closes


def bars_within(timeframe: str, start: int, end: int, zone: ServerZone) -> tuple[Times, Times]:
    """Opening and close of every bar that has a moment of [start, end), by time, all UTC milliseconds."""
    length = min(_LENGTHS.get(timeframe, _HOUR), _HOUR)
    # A bar that is shorter than that begins or ends where the clock changes.
    changes = np.concatenate([zone.changes, zone.changes - 1])
    inside = changes[(changes >= start) & (changes < end)]
    moments = np.sort(np.concatenate([np.arange(start, end, length, dtype=np.int64), inside, [end - 1]]))
    opens, closes = bounds(timeframe, moments, zone)
    opens, first = np.unique(opens, return_index=True)
    return opens, closes[first]


def base_of(timeframes: Iterable[str]) -> str:
    """The longest timeframe whose bars make up those of all the given ones."""
    return _BY_LENGTH[math.gcd(*(min(_LENGTHS.get(name, _DAY), _DAY) for name in timeframes))]


def longest_ms(timeframe: str) -> int:
    """No bar of the timeframe is longer, whatever the clock does."""
    return _LONGEST_DAYS.get(timeframe, 2) * _DAY


def _real_time(length: int, utc_ms: Times, zone: ServerZone) -> tuple[Times, Times]:
    if zone.grain % length == 0:
        opens = utc_ms - utc_ms % length
        return opens, opens + length
    which = np.searchsorted(zone.changes, utc_ms, side="right")
    shown = utc_ms + zone.offsets[which]
    opens = utc_ms - shown % length
    closes = opens + length
    if len(zone.changes):
        opens = np.where(which > 0, np.maximum(opens, zone.changes[which - 1]), opens)
        ahead = np.minimum(which, len(zone.changes) - 1)
        closes = np.where(which < len(zone.changes), np.minimum(closes, zone.changes[ahead]), closes)
    return opens, closes


def _shown(timeframe: str, length: int | None, shown: Times) -> tuple[Times, Times]:
    """The bar's bounds as the clock shows them."""
    if length is None:
        months = shown.astype("datetime64[ms]").astype("datetime64[M]")
        return (
            months.astype("datetime64[ms]").astype(np.int64),
            (months + 1).astype("datetime64[ms]").astype(np.int64),
        )
    shift = _TO_SUNDAY if timeframe == "W1" else 0
    opens = shown - (shown + shift) % length
    return opens, opens + length
