"""One bar explained: what stands in the log, the ticks it was made of, and whether they make it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
import polars as pl
from confluent_kafka import Message

from infra import topics
from infra.iso import iso
from infra.kafka import partition_for
from infra.market.calendar import HOLIDAY, MARKET_CLOSED, OPEN, default_calendar, parse_calendar
from infra.market.counts import is_count
from infra.market.timeframes import TIMEFRAMES, bounds
from infra.market.zones import ServerZone
from infra.proof.comparing import Book, unlike
from infra.proof.reading import Reader
from infra.proof.series import Said, Series, covered_length
from infra.proof.verification import Proof, Scope, beside
from infra.settings import Settings
from schemas.errors import UsageError
from schemas.records import LiveBars, SymbolSpec

_MINUTE_MS: Final = 60_000
_OUTCOMES: Final = {MARKET_CLOSED: "market_closed", HOLIDAY: "holiday"}

Row = dict[str, Any]


@dataclass(slots=True)
class Explanation:
    """All that the log tells of one bar; times are UTC milliseconds."""

    symbol: str
    timeframe: str
    ts_open: int
    ts_close: int
    partition: int
    spec: SymbolSpec | None
    revisions: list[Row] = field(default_factory=list)
    """As they stand in ``bars``, the last one last; none: there is no such bar."""
    deleted: int | None = None
    """The offset of the empty record that took it out of ``bars``."""
    derived: Row | None = None
    """What the ticks make; None: they make none."""
    unlike: list[str] = field(default_factory=list)
    """The fields in which the last revision is not as derived."""
    made: pl.DataFrame = field(default_factory=pl.DataFrame)
    """The clean ticks that make it, by identity."""
    raw: list[Row] = field(default_factory=list)
    """The symbol's ticks of its window in ``ticks.raw``, by its provenance, with their ``fate``."""
    gaps: list[Said] = field(default_factory=list)
    cause: str = ""
    """The record that closed or revised it."""
    before: Row | None = None
    after: Row | None = None
    """Its neighbours in ``bars``."""
    absent: list[str] = field(default_factory=list)
    """Why there is no such bar, as far as the log tells."""
    gone: bool = False
    """Its ticks are no longer in the log."""

    @property
    def proved(self) -> bool:
        """Whether what is there, bar or none, is what should be there, or nobody can tell any more."""
        right = self.derived is not None and not self.unlike if self.revisions else self.derived is None
        return self.gone or right


def explain(settings: Settings, reader: Reader, symbol: str, timeframe: str, at: int) -> Explanation:
    """Explain the bar of the moment ``at``.

    Raises UsageError for a symbol or a timeframe that the world does not have, and what `verify` raises.
    """
    if is_count(timeframe):
        raise UsageError(f"{timeframe}: only bars of timeframes are explained; verify derives these as well")
    count = len(reader.extents(topics.TICKS_RAW))
    number = partition_for(symbol, count)
    live = reader.live(number).get(symbol)
    bars, deleted = _bars(reader, number, f"{symbol}|{timeframe}|".encode())
    if live is None and not bars.height:
        raise _unknown(reader, symbol, count)
    if timeframe not in TIMEFRAMES and not bars.height:
        raise UsageError(f"no timeframe {timeframe!r}; give one of {' '.join(TIMEFRAMES)}")
    spec = live.spec if live else None
    ts_open, ts_close = _window(bars, timeframe, at, spec)
    scope = Scope(ts_open, ts_close, (symbol,))
    proof = Proof(settings, reader, number, scope, reader.progress().get(number, 0))
    found = Explanation(symbol, timeframe, ts_open, ts_close, number, spec, gone=ts_open < proof.since)
    found.revisions = bars.filter(pl.col("ts_open") == ts_open).to_dicts()
    found.deleted = None if found.revisions else deleted.get(f"{symbol}|{timeframe}|{ts_open}".encode())
    _neighbours(found, bars)
    _derive(found, proof)
    _read_back(found, reader)
    series = proof.partition.series.get(symbol, Series(symbol))
    found.gaps = sorted({gap for gap in series.gaps if gap.from_ < ts_close and gap.to > ts_open})
    if not found.revisions:
        found.absent = list(_why_absent(found, live, series))
    return found


def _bars(reader: Reader, number: int, prefix: bytes) -> tuple[pl.DataFrame, dict[bytes, int]]:
    """All revisions there are of the bars with such keys, in order; and of those deleted since, where."""
    revisions: dict[bytes, list[Message]] = {}
    deleted: dict[bytes, int] = {}
    for batch in reader.messages(topics.BARS, number):
        for message in batch:
            key = message.key() or b""
            if not key.startswith(prefix):
                continue
            if message.value() is None:
                revisions.pop(key, None)
                deleted[key] = message.offset() or 0
            else:
                revisions.setdefault(key, []).append(message)
    return reader.bars_of([message for each in revisions.values() for message in each]).sort("at"), deleted


def _window(bars: pl.DataFrame, timeframe: str, at: int, spec: SymbolSpec | None) -> tuple[int, int]:
    """The bounds of the bar that holds the moment: of the one there is, else by the symbol's zone."""
    holding = bars.filter((pl.col("ts_open") <= at) & (pl.col("ts_close") > at)).sort("at")
    if holding.height:
        return int(holding["ts_open"][-1]), int(holding["ts_close"][-1])
    zone = ServerZone.parse(spec.zone if spec else "UTC")
    opens, closes = bounds(timeframe, np.array([at], np.int64), zone)
    return int(opens[0]), int(closes[0])


def _neighbours(found: Explanation, bars: pl.DataFrame) -> None:
    last = bars.unique("ts_open", keep="last", maintain_order=True).sort("ts_open")
    before = last.filter(pl.col("ts_open") < found.ts_open).tail(1).to_dicts()
    after = last.filter(pl.col("ts_open") > found.ts_open).head(1).to_dicts()
    found.before, found.after = next(iter(before), None), next(iter(after), None)


def _derive(found: Explanation, proof: Proof) -> None:
    made: list[pl.DataFrame] = []
    proof.partition.watch = made.append
    own = (pl.col("timeframe") == found.timeframe) & (pl.col("ts_open") == found.ts_open)
    rows = [bars.filter(own) for bars in proof.derived()]
    derived = pl.concat(rows)
    inside = pl.col("ts_event").is_between(found.ts_open, found.ts_close, closed="left")
    found.made = pl.concat(made).filter(inside).sort("ts_event", "ordinal")
    if not derived.height:
        return
    found.derived = derived.to_dicts()[0]
    if found.revisions:
        pair = beside(derived, pl.DataFrame(found.revisions[-1:], schema=proof.found.schema))
        found.unlike = [name for name in Book.FIELDS if pair.select(unlike(name)).item()]


def _read_back(found: Explanation, reader: Reader) -> None:
    """The bar's ticks as they lie in ``ticks.raw`` between its first and its last offset, and what closed it."""
    last = found.revisions[-1] if found.revisions else None
    claims = [claim for claim in (last, found.derived) if claim and claim["first_offset"] >= 0]
    if not claims:
        return
    first = min(claim["first_offset"] for claim in claims)
    until = max(max(claim["last_offset"], claim["cause"]) for claim in claims)
    cause = claims[0]["cause"]
    fates = _fates(found, reader)
    seen: set[tuple[int, int]] = set()
    for part in reader.raw(found.partition, [found.symbol.encode()], first):
        inside = pl.col("ts_event").is_between(found.ts_open, found.ts_close, closed="left")
        for row in part.ticks.filter(inside & (pl.col("source") <= until)).iter_rows(named=True):
            identity = (row["ts_event"], row["ordinal"])
            fate = fates.get(row["source"], "repeat" if identity in seen else "clean")
            seen.add(identity)
            found.raw.append(row | {"fate": fate})
        for row in part.ticks.filter(pl.col("source") == cause).iter_rows(named=True):
            kind = "a correction" if row["correction"] else "the series' next tick"
            found.cause = f"{kind}, {row['ts_event']} #{row['ordinal']}"
        for offset, control in part.controls:
            if offset == cause:
                found.cause = f"a {control.kind.value} of {control.feed}/{control.shard} at {control.time}"
        if part.end >= until:
            break


def _fates(found: Explanation, reader: Reader) -> dict[int, str]:
    """The reasons of the rejected ticks and dead letters of its window, by source offset."""
    fates = dict.fromkeys(reader.dead(found.partition), "dead letter")
    for part in reader.rejected(found.partition, found.ts_open, [found.symbol.encode()]):
        inside = part.filter(pl.col("ts_event") < found.ts_close)
        fates |= dict(inside.select("source", "reason").iter_rows())
    return fates


def _why_absent(found: Explanation, live: LiveBars | None, series: Series) -> Iterator[str]:
    """Reasons, the decisive one first."""
    if found.deleted is not None:
        yield f"somebody deleted it: an empty record stands under its key, bars offset {found.deleted}"
    if found.derived is not None:
        yield "its ticks are there and make it: it is missing"
        return
    if found.gone:
        yield "ticks so old are no longer in ticks.clean"
        return
    if live is not None:
        yield from _state(found, live)
    if not series.coverage:
        yield "it is not known from when on the log holds every tick: no coverage was ever said"
    elif not any(said.from_ <= found.ts_open for said in series.coverage):
        since = min(said.from_ for said in series.coverage)
        yield f"it began before coverage: every tick is in the log only from {iso(since)} on"
    if found.made.height:
        yield f"{found.made.height} clean ticks are in its window, but no bar is due by the reasons above"
        return
    rejected = Counter(row["fate"] for row in found.raw if row["fate"] not in {"clean", "repeat"})
    for reason, count in rejected.most_common():
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
    elif found.ts_open < since[found.timeframe]:
        yield f"{found.timeframe} is made only since {iso(since[found.timeframe])}"
    if any((bar.timeframe, bar.ts_open) == (found.timeframe, found.ts_open) for bar in live.bars):
        yield "it is still open: nothing at or after its end has come (see bars.live)"
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


def _unknown(reader: Reader, symbol: str, count: int) -> UsageError:
    known = sorted({name for number in range(count) for name in reader.live(number)})
    near = get_close_matches(symbol, known, n=4, cutoff=0.4) or known[:8]
    return UsageError(f"the world has no symbol {symbol!r}; it has {', '.join(near) or 'none yet'}")
