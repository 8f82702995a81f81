"""Tick, volume and value bars, count bars for short, one tick after the other.

They are counted anew from each server midnight on. A bar closes with the tick that fills it, or at midnight as a
timeframe's bar does: until it is full, midnight is its end. It opens where the one before ended, so a day's bars leave
no time out, and a gap is in one of them.
"""

from __future__ import annotations

from infra.market.counts import Measure
from processors.core.making import Addition, join, opened
from processors.core.series import Count, Series
from processors.core.work import Work


def has_ended(series: Series, name: str, ts: int, moment: int) -> bool:
    """Whether the day of ``ts`` has closed for these bars, when ``moment`` has been reached."""
    count = series.counts.get(name)
    if count is None or ts >= count.to:
        return series.day(ts)[1] <= moment
    return ts < count.day or (name not in series.bars and count.to <= moment)


def add(work: Work, series: Series, measure: Measure, more: Addition, position: int) -> None:
    """Into the open bar, or a new one, of a day that has not closed; close it when it is full."""
    name, ts = measure.name, more.identity[0]
    count = series.counts.get(name)
    if count is None or ts >= count.to:
        day, to = series.day(ts)
        count = series.counts[name] = Count(day, to, since=day)
    bar = series.bars.get(name)
    if bar is None:
        bar = series.bars[name] = opened((min(count.since, ts), count.to), more)
        bar.day, bar.number = count.day, count.number
    else:
        join(bar, more)
    count.sum += more.weight(measure.counted)
    if count.sum >= measure.size:
        bar.ts_close = ts + 1
        count.next(bar.ts_close)
        work.close(series, name, series.bars.pop(name), position)
