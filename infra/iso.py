"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

PER_SECOND: Final = {"millis": 1_000, "micros": 1_000_000}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def iso(count: int, unit: str = "millis", *, utc: bool = True) -> str:
    """A moment as ISO 8601, with a Z if it is UTC; the number itself outside the years 1 to 9999."""
    try:
        moment = _EPOCH + timedelta(microseconds=count * 1_000_000 // PER_SECOND[unit])
    except OverflowError:
        return str(count)
    precision = "milliseconds" if unit == "millis" else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z" * utc
