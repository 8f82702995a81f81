"""What a symbol's spec means for its bars, read once more from the design."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from infra.market.calendar import default_calendar, parse_calendar
from infra.market.zones import ServerZone
from schemas.records import ChartMode, SymbolSpec

RULE_VERSION: Final = 1
"""The version of the rules that this proof knows; a test holds it against the aggregator's."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """A spec, ready for use."""

    zone: ServerZone
    point: float
    by_last: bool
    """The last price makes the bars, not the bid."""
    shard: str
    """``feed/shard``, as watermarks name it."""
    rules: str
    """The hash that bars made under it carry."""


@lru_cache(maxsize=4_096)
def terms_of(spec: SymbolSpec, future_tolerance_ms: int) -> Terms:
    """The spec's terms. Raises SettingsError for a zone or a calendar that there is not."""
    calendar = parse_calendar(spec.calendar) if spec.calendar else default_calendar(spec.symbol)
    rules = {
        "calendar": json.loads(calendar.to_json()),
        "chart_mode": spec.chart_mode.value,
        "crossed": spec.crossed.value,
        "future_tolerance_ms": future_tolerance_ms,
        "point": spec.point,
        "version": RULE_VERSION,
        "zone": spec.zone,
    }
    text = json.dumps(rules, sort_keys=True, separators=(",", ":"))
    return Terms(
        zone=ServerZone.parse(spec.zone),
        point=spec.point,
        by_last=spec.chart_mode == ChartMode.LAST,
        shard=f"{spec.feed}/{spec.shard}",
        rules=hashlib.sha256(text.encode()).hexdigest(),
    )
