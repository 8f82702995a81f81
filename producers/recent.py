"""The ticks of a series' last minutes that are published, so that one found later is known as a correction: pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from producers.terminal import Ticks

Times = NDArray[np.int64]
_KEY = np.dtype([("time", "<i8"), ("bid", "<f8"), ("ask", "<f8"), ("last", "<f8"), ("volume", "<f8")])
Keys = NDArray[np.void]

WINDOWS_KEPT: Final = 6
"""So many times what is read again is remembered where it cannot be read."""


@dataclass(slots=True)
class Recent:
    """What is published of one series from `since` on, as a multiset. Times are UTC milliseconds."""

    since: int
    """Ticks before are not known here."""
    _keys: list[Keys] = field(default_factory=list)

    def add(self, ticks: Ticks, times: Times) -> None:
        """Remember ticks that are published."""
        keys = _keys_of(ticks, times)
        keys = keys[times >= self.since]
        if len(keys):
            self._keys.append(keys)

    def forget(self, before: int) -> None:
        """Let go of what is older than ``before``."""
        if before > self.since:
            self.since = before
            kept = self._all()
            self._keys = [kept[kept["time"] >= before]]

    def late(self, answer: Ticks, times: Times, *, until: int) -> tuple[NDArray[np.intp], Times]:
        """Which rows in [`since`, ``until``) are not published yet, and the ordinals that are free for them.

        Of equal ticks those behind the published ones are late. An ordinal is never given twice: a late tick takes the
        next one of its millisecond, wherever in it the source shows it now.
        """
        rows = np.flatnonzero((times >= self.since) & (times < until))
        known = self._all()
        if not len(rows):
            return rows, np.empty(0, np.int64)
        asked = _keys_of(answer[rows], times[rows])
        rows = rows[_is_new(_kinds(np.concatenate([known, asked])), len(known))]
        taken = np.sort(known["time"])
        first, end = (np.searchsorted(taken, times[rows], side=side) for side in ("left", "right"))
        return rows, (end - first + _occurrence(times[rows])).astype(np.int64)

    def _all(self) -> Keys:
        return np.concatenate(self._keys) if self._keys else np.empty(0, _KEY)


def _kinds(keys: Keys) -> NDArray[np.int64]:
    """A number for each key, the same for equal ones; bits are compared, so that even NaN equals itself."""
    bits = np.ascontiguousarray(keys).view(np.int64).reshape(len(keys), -1)
    order = np.lexsort(bits.T)
    fresh = np.ones(len(keys), np.int64)
    fresh[1:] = (np.diff(bits[order], axis=0) != 0).any(axis=1)
    kinds = np.empty(len(keys), np.int64)
    kinds[order] = np.cumsum(fresh) - 1
    return kinds


def _is_new(kind: NDArray[np.int64], known: int) -> NDArray[np.bool_]:
    """Of the elements behind the first ``known``: which are more of their kind than there are among those."""
    published = np.bincount(kind[:known], minlength=len(kind))
    asked = kind[known:]
    return _occurrence(asked) >= published[asked]


def _occurrence(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal elements stand before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1)) if len(values) else np.empty(0, np.int64)
    place = np.empty(len(values), np.int64)
    lengths = np.diff(np.append(starts, len(values)))
    place[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return place


def _keys_of(ticks: Ticks, times: Times) -> Keys:
    keys = np.empty(len(ticks), _KEY)
    keys["time"] = times
    for name, source in (("bid", "bid"), ("ask", "ask"), ("last", "last"), ("volume", "volume_real")):
        keys[name] = ticks[source]
    return keys
