"""A terminal's own bars as records of ``rates``: pure.

They are keyed and timed as those of ``bars``. A terminal knows neither asks nor ticks: these fields are 0, and
``rules`` is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from producers.readings import moments
from producers.terminal import Rates
from schemas.records import Bar, BarStatus

_HOUR: Final = 0x4000
_WEEK: Final = 0x8000
_MONTH: Final = 0xC000

TERMINAL_TIMEFRAMES: Final[Mapping[str, int]] = (
    {f"M{n}": n for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)}
    | {f"H{n}": n | _HOUR for n in (1, 2, 3, 4, 6, 8, 12)}
    | {"D1": 24 | _HOUR, "W1": 1 | _WEEK, "MN1": 1 | _MONTH}
)
"""The terminal's number of each timeframe."""


def bars(rates: Rates, *, symbol: str, feed: str, timeframe: str, zone: ServerZone, closed_by: int) -> list[Bar]:
    """The bars of an answer of the terminal that had ended at ``closed_by`` (UTC ms), in its order."""
    if not len(rates):
        return []
    shown = rates["time"] * 1_000
    opens, closes = bounds(timeframe, moments(shown, zone, asked=int(shown[0]), once_each=True), zone)
    return [
        Bar(
            symbol=symbol,
            feed=feed,
            timeframe=timeframe,
            ts_open=ts_open,
            ts_close=ts_close,
            open=open_,
            high=high,
            low=low,
            close=close,
            ask_open=0.0,
            ask_high=0.0,
            ask_low=0.0,
            ask_close=0.0,
            tick_volume=tick_volume,
            real_volume=float(real_volume),
            spread=spread,
            status=BarStatus.FINAL,
            tick_count=0,
            first_tick_ts=0,
            first_tick_ordinal=0,
            last_tick_ts=0,
            last_tick_ordinal=0,
            rules="",
        )
        for ts_open, ts_close, (_, open_, high, low, close, tick_volume, spread, real_volume) in zip(
            opens.tolist(), closes.tolist(), rates.tolist(), strict=True
        )
        if ts_close <= closed_by
    ]


class Stood(NamedTuple):
    """A bar that stands in ``rates`` already."""

    revision: int
    fingerprint: int
    """Of what the terminal said of it."""

    @classmethod
    def of(cls, bar: Bar) -> Stood:
        """What is remembered of a bar, which may be one of millions."""
        said = (bar.ts_close, bar.open, bar.high, bar.low, bar.close, bar.tick_volume, bar.real_volume, bar.spread)
        return cls(bar.revision, hash(said))


def unpublished(found: list[Bar], standing: Mapping[str, Stood]) -> Iterator[Bar]:
    """Those of ``found`` that do not stand as they are; one that the broker has changed is the next revision."""
    for bar in found:
        known = standing.get(bar.key)
        if known is None:
            yield bar
        elif known.fingerprint != Stood.of(bar).fingerprint:
            yield replace(bar, status=BarStatus.REVISED, revision=known.revision + 1)
