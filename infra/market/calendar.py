"""When a market is open: weekly hours by a local clock, holidays, and extra hours.

Hours are what the local clock shows, so they move with its daylight-saving time by themselves.
"""

from __future__ import annotations

import json
import re
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
_CLOCK: Final = re.compile(r"\d\d:\d\d")
_FULL: Final = "%Y-%m-%d %H:%M"
_FIELDS: Final = {"name", "zone", "open", "holidays", "extra", "years"}
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True, order=True)
class LocalSpan:
    """While the local clock shows [from_, to), milliseconds."""

    from_: int
    to: int

    @staticmethod
    def parse(text: str) -> LocalSpan:
        """``2026-12-25`` (the whole day), ``2026-12-24 13:00/17:00`` or ``2026-12-24 13:00/2026-12-26 17:00``.

        Raises SettingsError.
        """
        first, slash, second = (part.strip() for part in text.partition("/"))
        try:
            from_ = datetime.fromisoformat(first)
            if _CLOCK.fullmatch(second):
                second = f"{from_:%Y-%m-%d} {second}"
            to = datetime.fromisoformat(second) if slash else from_ + timedelta(days=1)
            span = LocalSpan(*((moment - _EPOCH) // timedelta(minutes=1) * _MINUTE for moment in (from_, to)))
        except (ValueError, TypeError, OverflowError) as error:  # TypeError: with a zone of its own
            raise SettingsError(
                f"not a local date or span: {text!r}; give 2026-12-25, 2026-12-24 13:00/17:00 or "
                "2026-12-24 13:00/2026-12-26 17:00"
            ) from error
        if span.from_ >= span.to:
            raise SettingsError(f"the span {text!r} ends before it begins")
        return span

    def __str__(self) -> str:
        """As `parse` reads it."""
        from_, to = (_EPOCH + timedelta(milliseconds=ms) for ms in (self.from_, self.to))
        if to - from_ == timedelta(days=1) and from_.time() == datetime.min.time():
            return f"{from_:%Y-%m-%d}"
        return f"{from_:%Y-%m-%d %H:%M}/{to:%H:%M}" if from_.date() == to.date() else f"{from_:{_FULL}}/{to:{_FULL}}"


class _Spans:
    """Local spans, to be asked for many moments at once."""

    def __init__(self, spans: Iterable[LocalSpan]) -> None:
        self.all: Final = tuple(sorted(set(spans)))
        self._from = np.array([span.from_ for span in self.all], np.int64)
        # Until when the spans that began so far reach.
        self._until = np.maximum.accumulate(np.array([span.to for span in self.all], np.int64))

    def hold(self, shown: Times) -> NDArray[np.bool_]:
        """For each reading of the local clock whether a span holds it."""
        begun = np.searchsorted(self._from, shown, side="right")
        within: NDArray[np.bool_] = (begun > 0) & (shown < self._until[begun - 1])
        return within


class Calendar:
    """A market's hours. Equal ones have equal JSON."""

    def __init__(
        self,
        zone: str,
        hours: Iterable[tuple[int, int]],
        holidays: Iterable[LocalSpan] = (),
        extra: Iterable[LocalSpan] = (),
        *,
        name: str = "",
        years: tuple[int, int] | None = None,
    ) -> None:
        """Open at ``hours`` (minutes of the local week from Sunday 00:00, from and to) but for the holidays, and extra.

        ``name``: what a library calls it; ``years``: the first and the last of which the holidays are known.
        Raises SettingsError for an unknown zone, or when it would never be open.
        """
        self.zone: Final = ServerZone.parse(zone)
        self.hours: Final = joined(hours)
        self.name: Final = name
        self.years: Final = years
        if not self.hours:
            raise SettingsError("a calendar needs hours at which the market is open")
        self._weekly = np.array(self.hours, np.int64).ravel() * _MINUTE
        self._holidays, self._extra = _Spans(holidays), _Spans(extra)
        self._minutes: dict[int, int] = {}

    @property
    def holidays(self) -> tuple[LocalSpan, ...]:
        """Closed then, against the weekly hours; by time."""
        return self._holidays.all

    @property
    def extra(self) -> tuple[LocalSpan, ...]:
        """Open then, whatever weekly hours and holidays say; by time."""
        return self._extra.all

    def besides(self, holidays: Iterable[LocalSpan], extra: Iterable[LocalSpan]) -> Calendar:
        """This calendar with further holidays and extra hours."""
        return Calendar(
            self.zone.name,
            self.hours,
            (*self.holidays, *holidays),
            (*self.extra, *extra),
            name=self.name,
            years=self.years,
        )

    @staticmethod
    def from_json(text: str) -> Calendar:
        """The calendar that `to_json` wrote. Raises SettingsError."""
        try:
            raw: Any = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"not a calendar: {error}") from error
        if not isinstance(raw, dict) or not {"zone", "open"} <= set(raw) <= _FIELDS:
            raise SettingsError(
                'a calendar is {"zone": "America/New_York", "open": ["Sun 17:00-Fri 17:00"], "holidays": '
                f'["2026-12-25", "2026-12-24 13:00/17:00"], "extra": ["2026-12-27 09:00/12:00"]}}, not {text[:200]}'
            )
        zone, spans, name, years = raw["zone"], raw["open"], raw.get("name", ""), raw.get("years")
        holidays, extra = raw.get("holidays", []), raw.get("extra", [])
        if not (isinstance(zone, str) and isinstance(name, str) and all(map(_are_texts, (spans, holidays, extra)))):
            raise SettingsError(
                f"a calendar's zone and name are texts; its hours, holidays and extra, lists of texts: {text[:99]}"
            )
        if years is not None and not _are_years(years):
            raise SettingsError(f"a calendar's years are the first and the last, [2025, 2028]: {text[:200]}")
        return Calendar(
            zone,
            [hour for span in spans for hour in parse_weekly(span)],
            map(LocalSpan.parse, holidays),
            map(LocalSpan.parse, extra),
            name=name,
            years=tuple(years) if years is not None else None,
        )

    def to_json(self) -> str:
        """The whole definition; the same calendar gives the same text."""
        definition = {
            "name": self.name,
            "zone": self.zone.name,
            "open": [format_hours(start, end) for start, end in self.hours],
            "holidays": list(map(str, self.holidays)),
            "extra": list(map(str, self.extra)),
            "years": self.years,
        }
        return json.dumps({field: value for field, value in definition.items() if value}, separators=(",", ":"))

    def closed_reasons(self, utc_ms: Times) -> NDArray[np.int8]:
        """For each moment OPEN, MARKET_CLOSED (outside the weekly hours) or HOLIDAY (within them, but closed)."""
        shown = self.zone.to_server(utc_ms)
        of_week = (shown + _TO_SUNDAY) % (WEEK * _MINUTE)
        closed = np.searchsorted(self._weekly, of_week, side="right") % 2 == 0
        reasons = np.where(closed, np.int8(MARKET_CLOSED), np.int8(OPEN))
        if self.holidays:
            reasons[self._holidays.hold(shown) & ~closed] = HOLIDAY
        if self.extra:
            reasons[self._extra.hold(shown)] = OPEN
        return reasons

    def edges(self, start: int, end: int) -> Times:
        """Moments in (start, end) among which is every one at which the market opens or closes; UTC ms, rising."""
        first, last = self.zone.to_server(np.array([start, end], np.int64))
        week = WEEK * _MINUTE
        weeks = np.arange((first + _TO_SUNDAY) // week - 1, (last + _TO_SUNDAY) // week + 2) * week - _TO_SUNDAY
        spans = [edge for span in (*self.holidays, *self.extra) for edge in (span.from_, span.to)]
        readings = np.concatenate([(weeks[:, None] + self._weekly).ravel(), np.array(spans, np.int64)])
        moments = np.concatenate([
            self.zone.to_utc(readings), self.zone.to_utc(readings, later=True), self.zone.changes
        ])  # fmt: skip
        return np.unique(moments[(moments > start) & (moments < end)])

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


def _are_years(value: object) -> bool:
    if not isinstance(value, list) or not all(type(year) is int for year in value):
        return False
    return len(value) == 2 and value[0] <= value[1]  # noqa: PLR2004 - the first and the last
