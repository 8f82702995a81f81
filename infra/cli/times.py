"""Times as people write them on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.errors import UsageError

FORMS: Final = "ISO 8601 (UTC unless it has a zone), now, or 2h, 90min, 1d12h before now"
"""For the help of an option that takes a time."""

EARLIEST: Final = 0
LATEST: Final = 4_102_444_800_000
"""1970 and 2100, UTC milliseconds: what zones and calendars know."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_UNIT: Final = r"ms|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:eeks?)?"
_PART: Final = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?)\s*({_UNIT})(?![a-z])\s*", re.IGNORECASE)
_AGO: Final = re.compile(rf"(?:last\s+)?((?:{_PART.pattern})+)(?:ago)?", re.IGNORECASE)
_EPOCH_MS: Final = re.compile(r"\d{12,13}")


def moment(text: str, now_ms: int) -> int:
    """The moment in UTC milliseconds, rounded down.

    ``2026-11-02``, ``2026-11-02T14:30``, ``2026-11-02 14:30:00.250Z`` or ``…+02:00`` (UTC where no zone is given),
    ``now``, ``2h``, ``last 2 h`` or ``1 d 12 h ago`` (before ``now_ms``), or 13 digits of UTC milliseconds as in record
    keys. Raises UsageError for anything else, and before 1970 or after 2100.
    """
    written = text.strip()
    if written.lower() == "now":
        return now_ms
    if _EPOCH_MS.fullmatch(written):
        ms = int(written)
    elif ago := _AGO.fullmatch(written):
        ms = now_ms - round(sum(float(n) * _milliseconds(unit) for n, unit in _PART.findall(ago[1])))
    else:
        ms = _from_iso(written)
    if not EARLIEST <= ms < LATEST:
        raise UsageError(f"{text!r} is before 1970 or after 2099; give a time in between")
    return ms


def ahead(text: str, now_ms: int) -> int:
    """A moment to come, as `moment` reads it, in UTC milliseconds; ``30d`` is from now on.

    Raises UsageError for what has passed.
    """
    found = moment(text, now_ms)
    if _AGO.fullmatch(text.strip()):
        found = 2 * now_ms - found
    if found <= now_ms:
        raise UsageError(f"{text!r} has passed; give a moment to come, or 30d")
    return found


def span(from_: str, to: str | None, now_ms: int) -> tuple[int, int]:
    """From (inclusive) and to (exclusive; none: now), UTC milliseconds. Raises UsageError unless from is before to."""
    first, last = moment(from_, now_ms), now_ms if to is None else moment(to, now_ms)
    if first >= last:
        end = "now" if to is None else to
        raise UsageError(f"the range from {from_!r} to {end!r} is empty; the end must come after the start")
    return first, last


def _milliseconds(unit: str) -> int:
    name = unit.lower()
    return _UNITS["ms" if name == "ms" else name[0]]


def _from_iso(text: str) -> int:
    try:
        parsed = datetime.fromisoformat(text)
        return ((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - _EPOCH) // _MS
    except (ValueError, OverflowError) as error:
        raise UsageError(f"not a time: {text!r}; give {FORMS}") from error
