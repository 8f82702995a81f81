"""A symbol's spec made ready for use, and the hash of all rules that shape a bar."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from infra.market.calendar import Calendar, default_calendar, parse_calendar
from infra.market.zones import ServerZone
from schemas.errors import DecodeError, SettingsError
from schemas.records import ChartMode, CrossedPolicy, SymbolSpec

RULE_VERSION: Final = 1
"""Rises whenever the same ticks and specs would give other bars."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a spec means for the filter and the bars. The same spec and tolerance give the same object."""

    calendar: Calendar
    zone: ServerZone
    point: float
    last: bool
    """The last price makes the bars, not the bid."""
    reject_crossed: bool
    shard: str
    """``feed/shard``, as watermarks name it."""
    hash: str
    """Of rule version, calendar, zone, point, chart mode, crossed policy and tolerance; not of names or the shard."""


@lru_cache(maxsize=4_096)
def terms_of(spec: SymbolSpec, future_tolerance_ms: int) -> Terms:
    """The spec's terms. Raises DecodeError for a spec that cannot be worked with."""
    try:
        calendar = parse_calendar(spec.calendar) if spec.calendar else default_calendar(spec.symbol)
        zone = ServerZone.parse(spec.zone)
    except SettingsError as error:
        raise DecodeError(f"the spec of {spec.symbol}: {error}") from error
    if not 0 < spec.point < math.inf:
        raise DecodeError(f"the spec of {spec.symbol}: a point of {spec.point}")
    rules = {
        "version": RULE_VERSION,
        "calendar": json.loads(calendar.to_json()),
        "zone": spec.zone,
        "point": spec.point,
        "chart_mode": str(spec.chart_mode),
        "crossed": str(spec.crossed),
        "future_tolerance_ms": future_tolerance_ms,
    }
    canonical = json.dumps(rules, sort_keys=True, separators=(",", ":"))
    return Terms(
        calendar,
        zone,
        spec.point,
        spec.chart_mode == ChartMode.LAST,
        spec.crossed == CrossedPolicy.REJECT,
        shard_key(spec.feed, spec.shard),
        hashlib.sha256(canonical.encode()).hexdigest(),
    )


def shard_key(feed: str, shard: str) -> str:
    """A shard's name in watermarks and, behind an ``@``, in record keys."""
    return f"{feed}/{shard}"
