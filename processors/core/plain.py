"""The step as a plain loop over records in order: for small batches, and a big one's symbols with anything unusual.

A bar closes on its series' next clean tick at or past its end, or on a watermark of its shard that covers it
(``ts_close <= time + 1``); never otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from processors.core.controls import apply_control
from processors.core.filter import FLAG_BID, FLAG_LAST, FLAG_VOLUME, is_future, reason_of, spread_of
from processors.core.series import DAY_MS, Identity, OpenBar, Series
from processors.core.terms import Terms, shard_key
from processors.core.types import Reason
from processors.core.work import Work
from schemas.errors import DecodeError
from schemas.records import Control, ControlKind, EventKind, FeedEvent

FIELDS: Final = (
    "index", "symbol", "ts_event", "ordinal", "bid", "ask", "last", "volume", "flags", "feed", "ts_recv", "correction",
)  # fmt: skip
"""A tick's columns, in the order of `Row`."""


class Row(NamedTuple):
    """A tick and its position in the batch."""

    position: int
    symbol: str
    ts: int
    ordinal: int
    bid: float
    ask: float
    last: float
    volume: float
    flags: int
    feed: str
    ts_recv: int
    correction: bool


def run(
    work: Work, rows: Iterable[Row], controls: Sequence[tuple[int, Control]], symbols: Collection[str] | None
) -> None:
    """Work through ticks and controls in order, for ``symbols`` only or (none) for all; ``rows`` are theirs already."""
    marks = dict(work.marks)
    ahead = iter(controls)
    control = next(ahead, None)
    for row in rows:
        while control and control[0] < row.position:
            _control(work, *control, marks, symbols)
            control = next(ahead, None)
        _tick(work, row, marks)
    while control:
        _control(work, *control, marks, symbols)
        control = next(ahead, None)


def _control(
    work: Work, position: int, control: Control, marks: dict[str, int], symbols: Collection[str] | None
) -> None:
    if control.kind in {ControlKind.WATERMARK, ControlKind.RETIRED}:
        shard = shard_key(control.feed, control.shard)
        marks[shard] = max(control.time, marks.get(shard, control.time))
        for series in list(work.series.values()):
            mine = symbols is None or series.symbol in symbols
            if mine and series.terms is not None and series.terms.shard == shard:
                close_until(work, series, marks[shard] + 1, position)
    apply_control(work, position, control, symbols)


def close_until(work: Work, series: Series, moment: int, position: int) -> None:
    """Close the series' bars that end by ``moment``."""
    due = [name for name, bar in series.bars.items() if bar.ts_close <= moment]
    if not due:
        return
    series = work.own(series.symbol, series.feed)
    for timeframe in due:
        if timeframe in series.bars:  # not if the settings no longer name it
            work.close(series, timeframe, series.bars.pop(timeframe), position)
    work.touch(series.symbol, position)


def _tick(work: Work, row: Row, marks: dict[str, int]) -> None:
    series = work.own(row.symbol, row.feed)
    if series.spec is not None and series.spec.feed != row.feed:
        error = DecodeError(f"a tick of {row.symbol} from feed {row.feed}: its spec is of {series.spec.feed}")
        work.dead.append((row.position, error))
        return
    identity = (row.ts, row.ordinal)
    future = is_future(row.ts, row.ts_recv, work.rules.future_tolerance_ms)
    if _is_repeat(series, identity, correction=row.correction, future=future):
        work.repeats += 1
        return
    work.touch(row.symbol, row.position)
    if future:
        series.future = identity
        work.rejected.append((row.position, Reason.FUTURE))
        return
    reason = _reason(series, row, marks)
    series.last = max(series.last, identity)
    if row.correction and row.ts >= series.last[0] - DAY_MS:
        series.corrections.add(identity)
    if reason == Reason.CLEAN:
        work.clean.append(row.position)
        _accept(work, series, row)
    else:
        work.rejected.append((row.position, reason))


def _is_repeat(series: Series, identity: Identity, *, correction: bool, future: bool) -> bool:
    if correction:
        # Older ones may be forgotten already, so they must not count as known: they are too late in any case.
        if identity in series.corrections and identity[0] >= series.last[0] - DAY_MS:
            return True
    elif identity <= series.last:
        return True
    return future and series.future is not None and identity <= series.future


def _reason(series: Series, row: Row, marks: dict[str, int]) -> Reason:
    terms = series.terms
    if terms is None:
        return Reason.NO_SPEC
    reason = reason_of(terms, row.ts, (row.bid, row.ask, row.last, row.volume), row.flags)
    mark = marks.get(terms.shard, -1)
    if reason == Reason.CLEAN and (row.correction or row.ts <= mark) and _is_late(series, row.ts, mark + 1):
        return Reason.TOO_LATE
    return reason


def _accept(work: Work, series: Series, row: Row) -> None:
    terms = series.terms
    if terms is None:
        return
    if row.correction:
        work.events.append((row.position, _correction(series, row)))
    close_until(work, series, row.ts, row.position)
    if not terms.last or row.flags & FLAG_LAST:
        _add(work, series, terms, row)


def _is_late(series: Series, ts: int, published: int) -> bool:
    """Whether a bar that the tick belongs to has closed, or may have: it is not open and ended by what has passed."""
    if ts < series.last[0] - DAY_MS:
        return True
    passed = max(series.last[0], published)
    for timeframe in series.since:
        bar = series.bars.get(timeframe)
        if bar is not None and ts < bar.ts_close:
            if ts < bar.ts_open:
                return True
        elif series.bounds(timeframe, ts)[1] <= passed:
            return True
    return False


def _add(work: Work, series: Series, terms: Terms, row: Row) -> None:
    """Into every timeframe's bar; a correction may come before the bar's first tick or between."""
    price = row.last if terms.last else row.bid
    identity: Identity = (row.ts, row.ordinal)
    counts = bool(terms.last or row.flags & FLAG_BID)
    volume = row.volume if row.flags & (FLAG_LAST | FLAG_VOLUME) else 0.0
    spread = spread_of(terms, row.bid, row.ask)
    offset = int(work.offsets[row.position])
    for timeframe in work.rules.timeframes:
        bar = series.bars.get(timeframe)
        if bar is None:
            series.bars[timeframe] = OpenBar(
                *series.bounds(timeframe, row.ts),
                *(price, price, price, price),
                *(row.ask, row.ask, row.ask, row.ask),
                int(counts),
                volume,
                spread,
                1,
                identity,
                identity,
                terms.hash,
                offset,
                offset,
            )
            continue
        bar.high, bar.low = max(bar.high, price), min(bar.low, price)
        bar.ask_high, bar.ask_low = max(bar.ask_high, row.ask), min(bar.ask_low, row.ask)
        if identity > bar.last:
            bar.close, bar.ask_close, bar.last = price, row.ask, identity
        elif identity < bar.first:
            bar.open, bar.ask_open, bar.first = price, row.ask, identity
        bar.tick_volume += counts
        bar.real_volume += volume
        bar.spread = min(bar.spread, spread)
        bar.tick_count += 1
        bar.last_offset = offset


def _correction(series: Series, row: Row) -> FeedEvent:
    return FeedEvent(
        time=row.ts,
        kind=EventKind.CORRECTION,
        feed=series.feed,
        shard=series.spec.shard if series.spec else "",
        symbol=series.symbol,
        text=f"a tick found late, bid {row.bid} ask {row.ask}, was taken into the open bars",
    )
