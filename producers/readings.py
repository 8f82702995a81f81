"""A broker's clock back to moments, also in the hour that it shows twice: pure. All times are milliseconds.

Where clocks are set back, a reading alone does not say which of two moments it is. The order in which ticks came does:
within such an hour a reading below the one before it can only be of the second showing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infra.market.zones import ServerZone

Times = NDArray[np.int64]


def moments(shown: Times, zone: ServerZone, *, asked: int, once_each: bool = False) -> Times:
    """When (UTC) the clock of ``zone`` showed each of ``shown``, which came in this order, none before ``asked``.

    The first showing of ``asked`` is meant. Never falls as long as the clock itself went on. ``once_each``: no two of
    them are of one moment, as bars' openings are not, so that a reading that comes again is the second showing.
    """
    once, again = zone.to_utc(shown), zone.to_utc(shown, later=True)
    apart = again - once
    if not apart.any():
        return once
    fell = (np.diff(shown, prepend=asked - once_each) < once_each) & (apart > 0)
    since = np.maximum.accumulate(np.where(fell, np.arange(len(shown)), -1))
    second = (since >= 0) & (once - once[since] < apart)  # the clock fell in this very hour, not in another year's
    return np.where(second, again, once)


def newest(shown: int, zone: ServerZone, *, now: int) -> int:
    """When (UTC) the clock last showed ``shown``, at ``now`` or before if it did so twice."""
    reading = np.array([shown])
    again = int(zone.to_utc(reading, later=True)[0])
    return again if again <= now else int(zone.to_utc(reading)[0])
