"""Why there is no such bar, as far as the log tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np

from infra.iso import iso
from infra.market.calendar import HOLIDAY, MARKET_CLOSED, OPEN, default_calendar, parse_calendar
from infra.proof.explanation import Explanation
from infra.proof.series import Series, covered_length
from schemas.records import LiveBars

_MINUTE_MS: Final = 60_000
_OUTCOMES: Final = {MARKET_CLOSED: "market_closed", HOLIDAY: "holiday"}


def why_absent(found: Explanation, live: LiveBars | None, series: Series) -> Iterator[str]:
    """Reasons, the decisive one first; none where its ``doubt`` says all."""
    if found.deleted is not None:
        yield f"somebody deleted it: an empty record stands under its key, bars offset {found.deleted}"
    if found.derived is not None:
        yield "its ticks are there and make it: it is missing"
        return
    if found.doubt:
        return
    if live is not None:
        yield from _state(found, live)
    if not series.coverage:
        yield "it is not known from when on the log holds every tick: no coverage was ever said"
    elif not any(said.from_ <= found.begin for said in series.coverage):
        since = min(said.from_ for said in series.coverage)
        what = "it" if found.day is None else "its day"
        yield f"{what} began before coverage: every tick is in the log only from {iso(since)} on"
    if found.made.height:
        yield f"{found.made.height} clean ticks are in its window, but no bar is due by the reasons above"
        return
    for reason, count in Counter(found.rejected.values()).most_common():
        yield f"{count} ticks in its window were rejected: {reason}"
    if found.gaps:
        lost = covered_length((max(gap.from_, found.ts_open), min(gap.to, found.ts_close)) for gap in found.gaps)
        yield f"feed_gap: {lost / 1_000:g} s of it are lost"
    yield _market(found)


def _state(found: Explanation, live: LiveBars) -> Iterator[str]:
    """What the aggregator's state says of it."""
    since = {start.timeframe: start.from_ for start in live.timeframes}
    if found.timeframe not in since:
        yield f"{found.timeframe} is not made; {' '.join(since)} are (ARBITREX_BARS__TIMEFRAMES)"
    elif found.begin < since[found.timeframe]:
        days = "" if found.day is None else ", of days that begin later"
        yield f"{found.timeframe} is made only since {iso(since[found.timeframe])}{days}"
    if any(bar.key == found.key for bar in live.bars):
        full = "" if found.day is None else " it is not full, and"
        yield f"it is still open:{full} nothing at or after its end has come (see bars.live)"
    elif live.last_ts < found.ts_open:
        yield f"the log of {found.symbol} ends before, at {iso(live.last_ts)}"


def _market(found: Explanation) -> str:
    """Whether the market was open, by the calendar of the spec."""
    spec = found.spec
    calendar = parse_calendar(spec.calendar) if spec and spec.calendar else default_calendar(found.symbol)
    minutes = np.arange(found.ts_open, found.ts_close, _MINUTE_MS, dtype=np.int64)
    reasons = calendar.closed_reasons(minutes)
    closed = int((reasons != OPEN).sum())
    if closed < len(minutes):
        share = f" for {closed} of its {len(minutes)} minutes closed, else" if closed else ""
        return f"quiet: no tick came although the market was{share} open"
    return f"{_OUTCOMES[int(reasons[0])]}: the market was closed ({calendar.zone.name})"
