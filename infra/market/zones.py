"""Server zones: what a broker's clock shows, to and from UTC, for whole arrays.

A zone is a table of the moments its offset changes, taken from the IANA data for 1970 to 2100 the first time the zone
is used; before and after, the first and the last offset hold.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError

Times = NDArray[np.int64]

_FIRST: Final = 0
_LAST: Final = 4_133_980_800  # 2101-01-01, seconds
_DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FOREVER: Final = np.iinfo(np.int64).max

_FIXED: Final = re.compile(r"UTC(?:([+-])(\d{1,2})(?::([0-5]\d))?)?")
_NEW_YORK: Final = re.compile(r"New_York([+-]\d{1,2})")


class ServerZone:
    """A broker's clock. Get one from `ServerZone.parse`; the same name gives the same object."""

    name: Final[str]
    changes: Final[Times]
    """When the offset changes, UTC milliseconds, rising."""
    offsets: Final[Times]
    """Milliseconds that the clock is ahead of UTC: before the first change, then from each on."""
    grain: Final[int]
    """The greatest length in milliseconds that divides every change and every offset (0: the zone is UTC)."""

    def __init__(self, name: str, changes: list[int], offsets: list[int]) -> None:
        """A zone from its table, in seconds."""
        self.name = name
        self.grain = math.gcd(*changes, *offsets) * 1_000
        self.changes = np.array(changes, np.int64) * 1_000
        self.offsets = np.array(offsets, np.int64) * 1_000
        before, after = self.offsets[:-1], self.offsets[1:]
        self._first = self.changes + np.maximum(before, after)  # readings from which the next offset counts
        self._second = self.changes + np.minimum(before, after)
        self._since = np.concatenate([[-_FOREVER], self.changes])  # each offset's span in UTC
        self._until = np.concatenate([self.changes, [_FOREVER]])

    @staticmethod
    def parse(name: str) -> ServerZone:
        """The zone called ``New_York+7`` (New York's clock plus 7 h), ``UTC-5`` (fixed) or by an IANA name.

        Raises SettingsError for anything else.
        """
        return _parse(name)

    def to_server(self, ms: Times) -> Times:
        """What the clock shows at UTC ``ms``, written as if it were UTC."""
        if not len(self.changes) or not len(ms):
            return ms + int(self.offsets[0])
        first, last = np.searchsorted(self.changes, [ms.min(), ms.max()], side="right")
        if first == last:  # as nearly every batch
            return ms + int(self.offsets[first])
        shown: Times = ms + self.offsets[np.searchsorted(self.changes, ms, side="right")]
        return shown

    def to_utc(self, ms: Times, *, later: bool = False) -> Times:
        """When the clock shows ``ms``.

        A time shown twice, where clocks are set back, is the first of the two, or the second if ``later``. A time never
        shown, where they are set forward, is the moment of the change. So order is kept: a later reading is never an
        earlier moment.
        """
        if not len(self.changes):
            return ms - int(self.offsets[0])
        utc: Times
        if later:
            which = np.searchsorted(self._second, ms, side="right")
            utc = np.maximum(ms - self.offsets[which], self._since[which])
        else:
            which = np.searchsorted(self._first, ms, side="right")
            utc = np.minimum(ms - self.offsets[which], self._until[which])
        return utc

    def __repr__(self) -> str:
        return f"ServerZone.parse({self.name!r})"


@lru_cache(maxsize=1_024)
def _parse(name: str) -> ServerZone:
    if fixed := _FIXED.fullmatch(name):
        sign, hours, minutes = fixed.groups()
        seconds = int(hours or 0) * 3_600 + int(minutes or 0) * 60
        if seconds > 14 * 3_600:
            raise _unknown(name)
        return ServerZone(name, [], [-seconds if sign == "-" else seconds])
    if moved := _NEW_YORK.fullmatch(name):
        changes, offsets = _table("America/New_York")
        return ServerZone(name, changes, [offset + int(moved[1]) * 3_600 for offset in offsets])
    try:
        return ServerZone(name, *_table(name))
    except (
        KeyError,
        ValueError,
        OSError,
    ) as error:  # what ZoneInfo raises for names it does not know, or will not open
        raise _unknown(name) from error


def _unknown(name: str) -> SettingsError:
    return SettingsError(f"no time zone {name!r}: give an IANA name (Europe/Athens), UTC, UTC+3 or New_York+7")


@lru_cache(maxsize=256)
def _table(name: str) -> tuple[list[int], list[int]]:
    """Changes and offsets of an IANA zone in seconds: looked at daily, each change found by bisection."""
    zone = ZoneInfo(name)

    def offset(second: int) -> int:
        shift = (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset() or timedelta()
        return int(shift.total_seconds())

    changes: list[int] = []
    offsets = [offset(_FIRST)]
    for day in range(_FIRST + _DAY, _LAST, _DAY):
        now = offset(day)
        if now == offsets[-1]:
            continue
        low, high = day - _DAY, day
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        changes.append(high)
        offsets.append(now)
    return changes, offsets
