"""Weekly hours as people write them, as minutes of a week that begins on Sunday 00:00."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from schemas.errors import SettingsError

DAY: Final = 24 * 60
WEEK: Final = 7 * DAY

_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_D: Final = "(" + "|".join(_DAYS) + ")"
_T: Final = r"([01]?\d|2[0-4]):([0-5]\d)"
_SPAN: Final = re.compile(rf"{_D}\s+{_T}\s*-\s*{_D}\s+{_T}", re.IGNORECASE)
_DAILY: Final = re.compile(rf"{_D}(?:\s*-\s*{_D})?\s+{_T}\s*-\s*{_T}", re.IGNORECASE)
_ZONED: Final = re.compile(r"(.*?\d:[0-5]\d)(?:\s+([A-Za-z][\w/+:-]*))?", re.DOTALL)


def parse_hours(text: str) -> tuple[list[tuple[int, int]], str]:
    """Hours and their zone: ``Mon-Thu 09:30-16:00, Fri 09:30-13:00 America/New_York``. Raises SettingsError."""
    hours: list[tuple[int, int]] = []
    zones: set[str] = set()
    for part in re.split(r"[,;]", text):
        match = _ZONED.fullmatch(part.strip())
        if match is None:
            raise _unreadable(part.strip() or text)
        hours += parse_weekly(match[1])
        zones |= {match[2]} - {None}
    if len(zones) != 1:
        raise SettingsError(f"hours need one time zone, at their end: {text!r} has {len(zones)}")
    return hours, zones.pop()


def parse_weekly(text: str) -> list[tuple[int, int]]:
    """Hours without a zone: ``Sun 17:00-Fri 17:00`` is one span, ``Mon-Fri 09:30-16:00`` one each day.

    Daily ones that end at or before their start end on the next day. A span may run over the end of the week.
    Raises SettingsError.
    """
    if span := _SPAN.fullmatch(text.strip()):
        start = _day(span[1]) * DAY + _minute(span[2], span[3], text)
        end = _day(span[4]) * DAY + _minute(span[5], span[6], text)
        return [(start % WEEK, start % WEEK + ((end - start) % WEEK or WEEK))]
    if daily := _DAILY.fullmatch(text.strip()):
        first = _day(daily[1])
        count = (_day(daily[2] or daily[1]) - first) % 7 + 1
        start, end = _minute(daily[3], daily[4], text), _minute(daily[5], daily[6], text)
        length = end - start if end > start else end - start + DAY
        starts = [((first + n) * DAY + start) % WEEK for n in range(count)]
        return [(start, start + length) for start in starts]
    raise _unreadable(text)


def joined(hours: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The hours within [0, a week], in order, those that touch made one."""
    cut = []
    for start, end in hours:
        cut += [(start, min(end, WEEK))] + ([(0, end - WEEK)] if end > WEEK else [])
    joined: list[tuple[int, int]] = []
    for start, end in sorted(cut):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return tuple(joined)


def format_hours(start: int, end: int) -> str:
    """A span as `parse_weekly` reads it; ``end`` at most a week."""
    return f"{_format(start, 0)}-{_format(end, 1)}"


def _format(minute: int, before: int) -> str:
    """The minute with its day; an end at midnight belongs to the day before, as 24:00."""
    day, rest = divmod(minute - before, DAY)
    hour, rest = divmod(rest + before, 60)
    return f"{_DAYS[day]} {hour:02}:{rest:02}"


def _day(name: str) -> int:
    return _DAYS.index(name.capitalize())


def _minute(hour: str, minute: str, text: str) -> int:
    total = int(hour) * 60 + int(minute)
    if total > DAY:
        raise _unreadable(text)
    return total


def _unreadable(text: str) -> SettingsError:
    return SettingsError(
        f"not a market's hours: {text!r}; give fx, metals, 24/7, JSON, or for instance Sun 17:00-Fri 17:00 "
        "America/New_York or Mon-Fri 09:30-16:00 America/New_York"
    )
