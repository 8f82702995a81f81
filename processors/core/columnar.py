"""The step by column: for the symbols of a big batch that show nothing unusual in it.

Unusual, and left to the plain loop, is a symbol with a correction, a tick from the future, one at or before its shard's
watermark, one of another feed, no spec, bars left from another zone, ticks that were lost, or ticks kept for
corrections. What remains rises in
time, so a bar's ticks lie together, and whatever closes it comes after all of them: the symbol's first clean tick at or
past its end, or the first watermark that covers it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from processors.core import plain
from processors.core.filter import Columns, reasons_of
from processors.core.folding import Ends, Table, among, fold
from processors.core.series import Series
from processors.core.terms import Terms
from processors.core.types import Reason
from processors.core.work import Mark, Work

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ORDINAL_BITS: Final = 20
_ORDINALS: Final = 1 << ORDINAL_BITS


def run(work: Work, frame: pl.DataFrame, marks: Sequence[Mark]) -> set[str]:
    """Work through the usual symbols' ticks, and through the watermarks for all others'; the unusual ones come back."""
    symbols = frame["symbol"].unique(maintain_order=True)
    names: list[str] = symbols.to_list()
    code = frame["symbol"].cast(pl.Enum(symbols)).to_physical().to_numpy().astype(np.int64)
    usual = np.array([_is_usual(work.series.get(name)) for name in names], np.bool_)
    known = [work.series[name] if usual[at] else None for at, name in enumerate(names)]
    terms = [series.terms if series else None for series in known]
    usual &= ~_any_by_code(code, _odd(frame, code, known), len(names))
    by_shard = _by_shard(work, marks)

    order = np.argsort(code, kind="stable")
    table = _table(frame, code).take(order)
    new = _is_new(table, known, usual)
    suspect = _ahead(frame, work.rules.future_tolerance_ms)[order]
    suspect |= _published(table, terms, by_shard)
    usual &= ~_any_by_code(table.code, suspect & new, len(names))

    mine = usual[table.code]
    work.repeats += int((mine & ~new).sum())
    table = table.take(mine & new)
    series = {at: work.own(names[at], "") for at in np.unique(table.code).tolist()}
    _accept(work, table, series, by_shard)
    unusual = {name for at, name in enumerate(names) if not usual[at]}
    _close_silent(work, by_shard, unusual | {item.symbol for item in series.values()})
    return unusual


def _is_usual(series: Series | None) -> bool:
    if series is None or series.terms is None or series.last[1] >= _ORDINALS or series.lost_from is not None:
        return False
    if series.kept is not None:
        return False
    begun = [bar.begin for bar in series.bars.values()] + [count.day for count in series.counts.values()]
    return series.zone_from is None or all(start >= series.zone_from for start in begun)


def _any_by_code(code: Ints, which: Bools, codes: int) -> Bools:
    return np.bincount(code[which], minlength=codes) > 0


def _odd(frame: pl.DataFrame, code: Ints, known: Sequence[Series | None]) -> Bools:
    """Corrections, ordinals too big to be packed, and ticks of another feed than their symbol's."""
    odd: Bools = frame["correction"].to_numpy() | (frame["ordinal"].to_numpy() >= _ORDINALS)
    feeds = frame["feed"].unique().to_list()
    if len(feeds) == 1:
        foreign = np.array([series is None or series.feed != feeds[0] for series in known], np.bool_)[code]
    else:
        own = pl.Series([series.feed if series else None for series in known], dtype=pl.String)
        foreign = frame["feed"].ne_missing(own.gather(code)).to_numpy()
    return odd | foreign


def _ahead(frame: pl.DataFrame, tolerance_ms: int) -> Bools:
    """Which ticks are from the future, as `filter.is_future` has it."""
    ahead: Bools = (frame["ts_event"].to_numpy() - tolerance_ms) * 1_000 > frame["ts_recv"].to_numpy()
    return ahead


def _table(frame: pl.DataFrame, code: Ints) -> Table:
    columns = [frame[name].to_numpy() for name in ("ts_event", "ordinal", "bid", "ask", "last", "volume", "flags")]
    return Table(code, frame["index"].to_numpy(), Columns(*columns))


def _is_new(table: Table, known: Sequence[Series | None], usual: Bools) -> Bools:
    """Which ticks rise above all that came before in their series; the others are repeats. Only true of usual ones."""
    identity = (table.ticks.ts << ORDINAL_BITS) + np.minimum(table.ticks.ordinal, _ORDINALS - 1)
    starts = _starts(table.code)
    before = np.empty_like(identity)
    before[1:] = identity[:-1]
    for start in starts.tolist():
        series = known[int(table.code[start])]
        before[start] = (series.last[0] << ORDINAL_BITS) + series.last[1] if series else -1
    new: Bools = identity > before
    if new.all():
        return new
    ends = np.append(starts[1:], len(identity))
    for code in np.unique(table.code[~new]).tolist():
        if usual[code]:
            at = int(np.searchsorted(table.code[starts], code))
            span = slice(int(starts[at]), int(ends[at]))
            highest = np.maximum.accumulate(np.append(before[span][:1], identity[span]))[:-1]
            new[span] = identity[span] > highest
    return new


def _published(table: Table, terms: Sequence[Terms | None], by_shard: dict[str, Ends]) -> Bools:
    """Which ticks lie at or before the watermark that stood when they came."""
    late = np.zeros(len(table.code), np.bool_)
    for shard, ends in by_shard.items():
        codes = np.array([item is not None and item.shard == shard for item in terms], np.bool_)
        of_shard = codes[table.code]
        late |= of_shard & (table.ticks.ts <= ends.standing(table.position))
    return late


def _by_shard(work: Work, marks: Sequence[Mark]) -> dict[str, Ends]:
    shards = {shard for _, shard, _ in marks} | set(work.marks)
    return {
        shard: Ends.of([(at, time) for at, name, time in marks if name == shard], work.marks.get(shard, -1))
        for shard in shards
    }


def _accept(work: Work, table: Table, series: dict[int, Series], by_shard: dict[str, Ends]) -> None:
    """Filter and fold new ticks of usual symbols."""
    starts = _starts(table.code)
    ends = np.append(starts[1:], len(table.code)) - 1
    for end in ends.tolist() if len(starts) else []:
        one = series[int(table.code[end])]
        one.last = (int(table.ticks.ts[end]), int(table.ticks.ordinal[end]))
        work.touch(one.symbol, int(table.position[end]))
    reasons = np.zeros(len(table.code), np.int8)
    by_terms: dict[Terms, list[int]] = {}
    for code, one in series.items():
        if one.terms:
            by_terms.setdefault(one.terms, []).append(code)
    for terms, codes in by_terms.items():
        which = among(table.code, codes) if len(by_terms) > 1 else slice(None)
        reasons[which] = reasons_of(terms, table.ticks.take(which))
    work.columns.append((table.position, reasons))
    fold(work, table.take(reasons == Reason.CLEAN), series, by_shard)


def _close_silent(work: Work, by_shard: dict[str, Ends], busy: Collection[str]) -> None:
    """Close what watermarks cover of symbols that are in none of this batch's ticks."""
    for series in list(work.series.values()):
        if series.symbol in busy or series.terms is None:
            continue
        ends = by_shard.get(series.terms.shard)
        while ends and (awaited := [bar.ts_close for bar in series.bars.values()] + _lost(series)):
            position = ends.first_covering(min(awaited))
            if position is None:
                break
            plain.pass_mark(work, series, ends.reached(position), position)
            series = work.series[series.symbol]  # noqa: PLW2901 - now a copy of its own


def _lost(series: Series) -> list[int]:
    """From when on a watermark says up to where ticks were lost."""
    return [] if series.lost_from is None else [series.lost_from + 1]


def _starts(code: Ints) -> Ints:
    """Where each symbol's ticks begin."""
    if not len(code):
        return np.zeros(0, np.int64)
    starts: Ints = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
    return starts
