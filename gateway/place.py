"""Where a replay stands: which stretch of the log it plays, where its clock is, and which row it told last.

Written as text that holds for every gateway of the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.cursor import Cursor
from gateway.cursor import Place as Standing

_MARK: Final = "!"
_LONGEST: Final = 40_000

Order = tuple[int, bool, str, str, int]
"""A row's place in the order of events: time, whether it is a tick, symbol, timeframe, number."""


class Position(NamedTuple):
    """Where the logs of ticks and bars stand."""

    ticks: Cursor
    bars: Cursor

    def __str__(self) -> str:
        return _written(self)


@dataclass(frozen=True, slots=True)
class Place:
    """``start`` None: the stretch begins with the log. ``time``: of the clock, UTC epoch milliseconds."""

    start: Position | None
    end: Position
    time: int
    told: Order | None = None
    """The last row that was told; all before it was told as well."""

    def __str__(self) -> str:
        place = f"{self.start or _MARK}{_MARK}{self.end}{_MARK}{self.time}"
        if self.told is None:
            return place
        moment, is_tick, symbol, timeframe, number = self.told
        return _MARK.join((place, str(moment), str(int(is_tick)), str(number), timeframe, symbol))

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place that was written. Raises ValueError."""
        if len(text) > _LONGEST:
            raise ValueError("too long")
        *logs, time, told = [*text.split(_MARK, 5), ""][:6]
        if len(logs) != 4:  # noqa: PLR2004 - two of ticks, two of bars
            raise ValueError("no stretch of a log")
        start = _position(logs[0], logs[1]) if any(logs[:2]) else None
        end = _position(logs[2], logs[3])
        if start and not _alike(start, end):
            raise ValueError("no stretch of one log")
        return cls(start, end, _number(time), _order(told) if told else None)


@lru_cache(maxsize=256)
def _written(position: Position) -> str:
    """Its offsets: the times that a cursor has as well would make every message of a replay longer."""
    offsets = (Cursor(each.channel, tuple(Standing(place.next) for place in each.places)) for each in position)
    return _MARK.join(map(str, offsets))


def _position(ticks: str, bars: str) -> Position:
    return Position(Cursor.parse(ticks), Cursor.parse(bars))


def _alike(one: Position, other: Position) -> bool:
    return all(len(mine.places) == len(theirs.places) for mine, theirs in zip(one, other, strict=True))


def _order(text: str) -> Order:
    moment, is_tick, number, timeframe, symbol = text.split(_MARK, 4)
    return _number(moment), bool(_number(is_tick)), symbol, timeframe, _number(number)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:  # noqa: PLR2004 - digits of 64 bits
        raise ValueError("no number")
    return int(text)
