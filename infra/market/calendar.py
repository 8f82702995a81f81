"""When a market is open: weekly hours by a local clock, and holidays.

Hours are what the local clock shows, so they move with its daylight-saving time by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.market.hours import WEEK, format_hours, joined, parse_hours, parse_weekly
from infra.market.zones import ServerZone, Times
from schemas.errors import SettingsError

OPEN: Final = 0
MARKET_CLOSED: Final = 1
HOLIDAY: Final = 2

_MINUTE: Final = 60_000
_TO_SUNDAY: Final = 4 * 86_400_000
"""1970-01-01 was a Thursday: so much after a Sunday."""
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a reading of the local clock
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Closure:
    """The market is closed, against its weekly hours, while the local clock shows [from_, to), milliseconds."""

    from_: int
    to: int


class Calendar:
    """A market's hours. Equal ones have equal JSON."""

    def __init__(self, zone: str, hours: Iterable[tuple[int, int]], holidays: Iterable[Closure] = ()) -> None:
        """Open at ``hours``: minutes of the local week from Sunday 00:00, from and to.

        Raises SettingsError for an unknown zone, or when it would never be open.
        """
        self.zone: Final = ServerZone.parse(zone)
        self.hours: Final = joined(hours)
        self.holidays: Final = tuple(sorted(set(holidays), key=lambda closure: (closure.from_, closure.to)))
        if not self.hours:
            raise SettingsError("a calendar needs hours at which the market is open")
        self._weekly = np.array(self.hours, np.int64).ravel() * _MINUTE
        self._from = np.array([closure.from_ for closure in self.holidays], np.int64)
        # Until when the market is closed by any holiday that began so far.
        self._until = np.maximum.accumulate(np.array([closure.to for closure in self.holidays], np.int64))
        self._minutes: dict[int, int] = {}

    @staticmethod
    def from_json(text: str) -> Calendar:
        """The calendar that `to_json` wrote. Raises SettingsError."""
        try:
            raw: Any = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"not a calendar: {error}") from error
        if not isinstance(raw, dict) or not {"zone", "open"} <= set(raw) <= {"zone", "open", "holidays"}:
            raise SettingsError(
                'a calendar is {"zone": "America/New_York", "open": ["Sun 17:00-Fri 17:00"], "holidays": '
                f'["2026-12-25", "2026-12-24 13:00/2026-12-24 17:00"]}}, not {text[:200]}'
            )
        zone, spans, holidays = raw["zone"], raw["open"], raw.get("holidays", [])
        if not isinstance(zone, str) or not _are_texts(spans) or not _are_texts(holidays):
            raise SettingsError(f"a calendar's zone is a text, its hours and holidays are lists of texts: {text[:200]}")
        return Calendar(zone, [hour for span in spans for hour in parse_weekly(span)], map(_parse_closure, holidays))

    def to_json(self) -> str:
        """The whole definition; the same calendar gives the same text."""
        definition: dict[str, object] = {
            "zone": self.zone.name,
            "open": [format_hours(start, end) for start, end in self.hours],
        }
        if self.holidays:
            definition["holidays"] = [f"{_format(c.from_)}/{_format(c.to)}" for c in self.holidays]
        return json.dumps(definition, separators=(",", ":"))

    def closed_reasons(self, utc_ms: Times) -> NDArray[np.int8]:
        """For each moment OPEN, MARKET_CLOSED (outside the weekly hours) or HOLIDAY (within them, but closed)."""
        shown = self.zone.to_server(utc_ms)
        of_week = (shown + _TO_SUNDAY) % (WEEK * _MINUTE)
        closed = np.searchsorted(self._weekly, of_week, side="right") % 2 == 0
        reasons = np.where(closed, np.int8(MARKET_CLOSED), np.int8(OPEN))
        if len(self._from):
            begun = np.searchsorted(self._from, shown, side="right")
            within = (begun > 0) & (shown < self._until[begun - 1])
            reasons[within & ~closed] = HOLIDAY
        return reasons

    def closed_reason(self, utc_ms: int) -> int:
        """The same for one moment; remembered by the minute, which is as fine as calendars and clock changes are."""
        minute = utc_ms // _MINUTE
        reason = self._minutes.get(minute)
        if reason is None:
            if len(self._minutes) >= _REMEMBERED:
                self._minutes.clear()
            reason = self._minutes[minute] = int(self.closed_reasons(np.array([utc_ms], np.int64))[0])
        return reason

    def is_open(self, utc_ms: int) -> bool:
        """Whether the market is open at that moment."""
        return self.closed_reason(utc_ms) == OPEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calendar) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Calendar.from_json({self.to_json()!r})"


PRESETS: Final = {
    "fx": "Sun 17:00-Fri 17:00 America/New_York",
    "metals": "Sun-Thu 18:00-17:00 America/New_York",
    "24/7": "Sun-Sat 00:00-24:00 UTC",
}
_METALS: Final = ("XAU", "XAG", "XPT", "XPD")
_COINS: Final = (
    *("ADA", "AVAX", "BCH", "BNB", "BTC", "DASH", "DOGE", "DOT", "EOS", "ETC", "ETH", "LINK", "LTC"),
    *("MATIC", "NEO", "SHIB", "SOL", "TRX", "UNI", "XBT", "XLM", "XMR", "XRP", "ZEC"),
)


def parse_calendar(text: str) -> Calendar:
    """A preset's name, hours (``Mon-Fri 09:30-16:00 America/New_York``, several with commas) or a calendar's JSON.

    Raises SettingsError.
    """
    return _parsed(text.strip())


def default_calendar(symbol: str) -> Calendar:
    """What is usual for a canonical symbol: metals' hours, none for coins, else the FX week."""
    name = symbol.upper()
    if name.startswith(_METALS):
        return parse_calendar("metals")
    return parse_calendar("24/7" if name.startswith(_COINS) else "fx")


@lru_cache(maxsize=1_024)
def _parsed(text: str) -> Calendar:
    if text.startswith("{"):
        return Calendar.from_json(text)
    hours, zone = parse_hours(PRESETS.get(text, text))
    return Calendar(zone, hours)


def _are_texts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value)


def _parse_closure(text: str) -> Closure:
    """``2026-12-25`` (the whole local day) or ``2026-12-24 13:00/2026-12-25 17:00``."""
    first, slash, second = text.partition("/")
    try:
        from_ = datetime.fromisoformat(first.strip())
        to = datetime.fromisoformat(second.strip()) if slash else from_ + timedelta(days=1)
        closure = Closure(*((moment - _EPOCH) // timedelta(minutes=1) * _MINUTE for moment in (from_, to)))
    except (ValueError, TypeError) as error:  # TypeError: with a zone of its own
        raise SettingsError(
            f"not a holiday: {text!r}; give a local date (2026-12-25) or span (2026-12-24 13:00/2026-12-25 17:00)"
        ) from error
    if closure.from_ >= closure.to:
        raise SettingsError(f"the holiday {text!r} ends before it begins")
    return closure


def _format(local_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=local_ms)).isoformat(" ", "minutes")
