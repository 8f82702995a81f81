"""Where a reader of a channel stands: for each partition the next offset, and the time of the record before it.

Written as text that holds for every gateway of the world. The time tells a log that was replaced from one that went on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

_BASE: Final = 36
_LONGEST: Final = 40_000
_LARGEST: Final = 2**62


class Place(NamedTuple):
    """Where a reader of one partition stands."""

    next: int
    """The next record's offset."""
    time: int | None = None
    """Of the record before it, UTC epoch milliseconds; None: it has not read one."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """All partitions of a channel's topic."""

    channel: str
    places: tuple[Place, ...]

    def __str__(self) -> str:
        return "~".join((self.channel, *map(_written, self.places)))

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that was written. Raises ValueError."""
        if len(text) > _LONGEST:
            raise ValueError("too long")
        channel, *parts = text.split("~")
        if not channel or not parts:
            raise ValueError("no place in it")
        return cls(channel, tuple(map(_read, parts)))

    def moved(self, places: dict[int, Place]) -> Cursor:
        """The cursor with some partitions at other places."""
        return Cursor(self.channel, tuple(places.get(number, place) for number, place in enumerate(self.places)))


def _written(place: Place) -> str:
    following = np.base_repr(place.next, _BASE).lower()
    return following if place.time is None else f"{following}.{np.base_repr(place.time, _BASE).lower()}"


def _read(text: str) -> Place:
    following, dot, time = text.partition(".")
    return Place(_number(following), _number(time) if dot else None)


def _number(text: str) -> int:
    if not (text.isascii() and text.isalnum()) or (number := int(text, _BASE)) > _LARGEST:
        raise ValueError("no number")
    return number
