"""What a partition's processor knows, and how it stands in ``bars.live`` and ``processors.progress``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from processors.core.series import Series, series_of
from processors.core.types import Rules
from schemas.records import LiveBars, Progress, Watermark


@dataclass(frozen=True, slots=True)
class State:
    """The state of one partition. A step makes a new one and leaves this as it is."""

    series: Mapping[str, Series] = field(default_factory=dict)
    """By canonical symbol."""
    watermarks: Mapping[str, int] = field(default_factory=dict)
    """By ``feed/shard``: every tick up to and including this time is published."""


def restore(live: Iterable[LiveBars], progress: Progress | None, rules: Rules) -> State:
    """The state of a partition from its latest records. Raises DecodeError as `processors.core.series.series_of`."""
    marks = {mark.shard: mark.time for mark in progress.watermarks} if progress else {}
    return State({record.symbol: series_of(record, rules) for record in live}, marks)


def lose(state: State, rules: Rules) -> tuple[State, list[LiveBars]]:
    """The state when the next records were lost before they were processed, and the live bars that hold the news.

    Every series has a gap then, from its last tick (or its shard's watermark, if that is later) to its next one. It is
    recorded when that comes; until then `LiveBars.lost_from` stands for it.
    """
    series, news = dict(state.series), []
    for symbol, known in state.series.items():
        twin = known.copy(rules)
        twin.lose(state.watermarks.get(known.terms.shard, -1) if known.terms else -1)
        if twin.lost_from != known.lost_from:
            series[symbol] = twin
            news.append(twin.live())
    return replace(state, series=series), news


def progress(state: State, next_offset: int) -> Progress:
    """The record that goes with ``state`` when ``next_offset`` is the next source record to process."""
    marks = tuple(Watermark(shard=shard, time=time) for shard, time in sorted(state.watermarks.items()))
    return Progress(next_offset=next_offset, watermarks=marks)
