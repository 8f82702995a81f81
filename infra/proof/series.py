"""What the controls of ``ticks.raw`` say of one series, each with the offset at which they say it (-1: not known)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from infra.market.zones import ServerZone
from infra.proof.terms import Terms

ORDINAL_BITS: Final = 20
NO_TICK: Final = -1


class Said(NamedTuple):
    """A gap; or a start of coverage, and from when on bars had not yet closed when it was said."""

    offset: int
    from_: int
    to: int


@dataclass(slots=True)
class Series:
    """One symbol, as far as the log is read; times are UTC milliseconds."""

    symbol: str
    terms: Terms | None = None
    coverage: list[Said] = field(default_factory=list)
    gaps: list[Said] = field(default_factory=list)
    zones: list[tuple[int, int, ServerZone]] = field(default_factory=list)
    """Offset of the spec, the first moment at which its zone holds, and the zone."""
    changes: list[tuple[int, int]] = field(default_factory=list)
    """Offset of each spec that changed the rules, and the first moment at which those hold."""
    highest: int = NO_TICK
    """The highest identity that came (ts_event << 20 | ordinal), unless it came from the future."""
    future: int = NO_TICK
    """The highest that was rejected as from the future."""
    over: int = 0
    """Bars that end by then have closed: by the time of a clean tick, or by a watermark."""
    corrections: set[int] = field(default_factory=set)
    """Identities of those that came."""

    @property
    def newest(self) -> int:
        """The time of the highest identity; -1 before the first tick."""
        return self.highest >> ORDINAL_BITS

    def agree(self, terms: Terms, offset: int) -> None:
        """A spec came: what it says holds for all that comes after it; a new zone for the bars that begin after it."""
        since = max(self.newest, 0) + 1
        if not self.zones or self.zones[-1][2].name != terms.zone.name:
            self.zones.append((offset, since if self.zones else 0, terms.zone))
        if self.terms and self.terms.rules != terms.rules:
            self.changes.append((offset, since))
        self.terms = terms

    def cover(self, since: int, offset: int) -> None:
        """Every tick from ``since`` on is in the log, says the record at ``offset``."""
        self.coverage.append(Said(offset, since, max(self.newest, 0) + 1))

    def covered(self, ts_open: int, by: int) -> bool:
        """Whether, by what was said up to offset ``by``, every tick from ``ts_open`` on is in the log."""
        return any(said.from_ <= ts_open for said in self.coverage if _before(said.offset, by))

    def surely_empty(self, ts_open: int, by: int) -> bool:
        """Whether a bar that was not published had no tick.

        It may also have closed before it was known to be covered, or belong to another zone.
        """
        earliest, published_from = None, 0
        for said in sorted(self.coverage):
            if _before(said.offset, by) and (earliest is None or said.from_ < earliest):
                earliest, published_from = said.from_, said.to
        return earliest is not None and ts_open >= max(earliest, published_from, self.zone_since(by))

    def gap_ms(self, ts_open: int, ts_close: int, by: int) -> int:
        """How much of the bar lies in gaps of which was said up to offset ``by``."""
        spans = ((max(gap.from_, ts_open), min(gap.to, ts_close)) for gap in self.gaps if _before(gap.offset, by))
        return covered_length(span for span in spans if span[0] < span[1])

    def zone_since(self, by: int) -> int:
        """Since when the zone holds that held at offset ``by``."""
        return max((since for offset, since, _ in self.zones if _before(offset, by)), default=0)


def covered_length(spans: Iterable[tuple[int, int]]) -> int:
    """The length of the spans' union."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _before(offset: int, by: int) -> bool:
    return by < 0 or offset <= by
