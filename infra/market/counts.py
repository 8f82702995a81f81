"""Tick, volume and value bars, and the order of all bars' names.

``T:1000`` is made of 1,000 ticks, ``V:500`` of a volume of 500, ``N:1000000`` of a value (price times volume) of
1,000,000. Volume is the exchange's where the last price makes the bars; over the counter it is tick volume.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from infra.market.timeframes import TIMEFRAMES
from schemas.errors import SettingsError

MOST_TICKS: Final = 1_000_000_000
_NAME: Final = re.compile(r"([TVN]):((?:0|[1-9]\d{0,14})(?:\.\d{0,8}[1-9])?)")


class Counted(StrEnum):
    """What is counted until a bar is full."""

    TICKS = "T"
    VOLUME = "V"
    VALUE = "N"


_COUNTED: Final = tuple(Counted)


@dataclass(frozen=True, slots=True)
class Measure:
    """When a bar is full: with the tick that brings what is counted to ``size`` or more."""

    name: str
    counted: Counted
    size: float


@lru_cache(maxsize=1_024)
def measure_of(name: str) -> Measure:
    """What ``T:1000`` and the like mean; each bar has one name only. Raises SettingsError for anything else."""
    found = _NAME.fullmatch(name)
    if not found:
        raise SettingsError(f"{name} is no tick, volume or value bar: write T:1000, V:500 or N:1000000")
    counted, size = Counted(found[1]), float(found[2])
    if not size:
        raise SettingsError(f"{name}: a bar of nothing; its size must be above 0")
    if counted == Counted.TICKS and not (size.is_integer() and size <= MOST_TICKS):
        raise SettingsError(f"{name}: ticks are counted in whole numbers, up to {MOST_TICKS:,}")
    return Measure(name, counted, size)


def is_count(name: str) -> bool:
    """Whether the name has the form of a tick, volume or value bar's, and no timeframe's."""
    return ":" in name


@lru_cache(maxsize=1_024)
def order_of(name: str) -> tuple[int, float]:
    """Sorts names: timeframes, shortest first, then tick, volume and value bars, smallest first."""
    if is_count(name):
        measure = measure_of(name)
        return len(TIMEFRAMES) + _COUNTED.index(measure.counted), measure.size
    return TIMEFRAMES.index(name), 0.0
