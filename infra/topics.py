"""The topics of a world, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a world: its name without the prefix, what it holds and how long."""

    name: str
    records: tuple[str, ...]
    """Names of the records it holds; none: raw bytes."""
    retention_ms: int | None = None
    """None: compacted, kept for good."""

    @property
    def compacted(self) -> bool:
        return self.retention_ms is None


TICKS_RAW: Final = Topic("ticks.raw", ("Tick", "Control"), 7 * _DAY_MS)
TICKS_CLEAN: Final = Topic("ticks.clean", ("Tick",), 30 * _DAY_MS)
TICKS_REJECTED: Final = Topic("ticks.rejected", ("Tick",), 30 * _DAY_MS)
BARS: Final = Topic("bars", ("Bar",))
BARS_LIVE: Final = Topic("bars.live", ("LiveBars",))
PROGRESS: Final = Topic("processors.progress", ("Progress",))
RATES: Final = Topic("rates", ("Bar",))
FEED_EVENTS: Final = Topic("feed.events", ("FeedEvent",), 90 * _DAY_MS)
SYMBOLS: Final = Topic("symbols", ("SymbolSpec",))
CURSORS: Final = Topic("producers.cursors", ("Cursor", "Replay"))
DEAD_LETTERS: Final = Topic("dead.letters", (), 30 * _DAY_MS)

TOPICS: Final = (
    TICKS_RAW,
    TICKS_CLEAN,
    TICKS_REJECTED,
    BARS,
    BARS_LIVE,
    PROGRESS,
    RATES,
    FEED_EVENTS,
    SYMBOLS,
    CURSORS,
    DEAD_LETTERS,
)
