"""The step as a plain loop over records in order: for small batches, and a big one's symbols with anything unusual.

A bar closes on its series' next clean tick at or past its end, or on a watermark of its shard that covers it
(``ts_close <= time + 1``); never otherwise. A correction that is at most a day older than its series' last tick goes
into bars that have closed, too: each of them is published anew at once, with the next revision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from infra.market.counts import is_count
from processors.core import counting
from processors.core.controls import apply_control
from processors.core.filter import FLAG_LAST, is_future, reason_of
from processors.core.making import Addition, addition_of, join, opened
from processors.core.recutting import Done, kept, recut
from processors.core.series import DAY_MS, Identity, Series
from processors.core.terms import shard_key
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
                pass_mark(work, series, marks[shard] + 1, position)
    apply_control(work, position, control, symbols)


def pass_mark(work: Work, series: Series, moment: int, position: int) -> None:
    """A watermark at ``position`` says that every tick of the series before ``moment`` has come."""
    if series.lost_from is not None:
        series = work.own(series.symbol, series.feed)
        work.find_loss(series, moment, position)
    close_until(work, series, moment, position)


def close_until(work: Work, series: Series, moment: int, position: int) -> None:
    """Close the series' bars that end by ``moment``."""
    due = [name for name, bar in series.bars.items() if bar.ts_close <= moment]
    if not due:
        return
    series = work.own(series.symbol, series.feed)
    for timeframe in due:
        if timeframe in series.bars:  # not if the settings no longer name it
            bar = series.bars.pop(timeframe)
            if count := series.counts.get(timeframe):
                count.next(bar.ts_close)
            work.close(series, timeframe, bar, position)
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
    if not row.correction:
        work.find_loss(series, row.ts, row.position)
    reason, passed = _judged(series, row, marks)
    late = identity <= series.last
    series.last = max(series.last, identity)
    if row.correction and row.ts >= series.last[0] - DAY_MS:
        series.corrections.add(identity)
    if reason == Reason.CLEAN:
        work.clean.append(row.position)
        _accept(work, series, row, passed, late=late)
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


def _judged(series: Series, row: Row, marks: dict[str, int]) -> tuple[Reason, Collection[str]]:
    """The tick's reason; and in which timeframes its bar has closed, or may have: only corrections get there."""
    terms = series.terms
    if terms is None:
        return Reason.NO_SPEC, ()
    reason = reason_of(terms, row.ts, (row.bid, row.ask, row.last, row.volume), row.flags)
    mark = marks.get(terms.shard, -1)
    if reason != Reason.CLEAN or not (row.correction or row.ts <= mark):
        return reason, ()
    if row.ts < series.last[0] - DAY_MS:
        return Reason.TOO_LATE, ()
    passed = _passed(series, row.ts, max(series.last[0], mark + 1))
    return (Reason.TOO_LATE if passed and not row.correction else Reason.CLEAN), passed


def _passed(series: Series, ts: int, moment: int) -> list[str]:
    """The timeframes whose bar over ``ts`` is not open and ended by ``moment``; count bars whose day has closed."""
    found = []
    for timeframe in series.since:
        bar = series.bars.get(timeframe)
        if is_count(timeframe):
            if counting.has_ended(series, timeframe, ts, moment):
                found.append(timeframe)
        elif ts < bar.ts_open if bar and ts < bar.ts_close else series.bounds(timeframe, ts)[1] <= moment:
            found.append(timeframe)
    return found


def _accept(work: Work, series: Series, row: Row, passed: Collection[str], *, late: bool) -> None:
    terms = series.terms
    if terms is None:
        return
    close_until(work, series, row.ts, row.position)
    done: dict[Done, list[str]] = {}
    if not terms.last or row.flags & FLAG_LAST:
        prices = (row.bid, row.ask, row.last, row.volume)
        more = addition_of(terms, prices, (row.ts, row.ordinal), row.flags, int(work.offsets[row.position]))
        taken = [timeframe for timeframe in work.timed if timeframe not in passed] if passed else work.timed
        _add(series, taken, more)
        if taken:
            done[Done.TAKEN] = list(taken)
        for timeframe in passed:
            if not is_count(timeframe) and _revise(work, series, timeframe, more, row.position):
                done.setdefault(Done.REVISED, []).append(timeframe)
        for measure in work.counted:
            ended = measure.name in passed
            if late or ended:
                what = recut(work, series, measure, more, row.position, ended=ended)
            else:
                counting.add(work, series, measure, more, row.position)
                what = Done.TAKEN
            done.setdefault(what, []).append(measure.name)
        if series.kept is not None:
            series.kept.append(kept(more))
    if row.correction:
        work.events.append((row.position, _correction(series, row, done)))


def _add(series: Series, timeframes: Iterable[str], more: Addition) -> None:
    """Into the open bars, or new ones."""
    bars = series.bars
    for timeframe in timeframes:
        bar = bars.get(timeframe)
        if bar is None:
            bars[timeframe] = opened(series.bounds(timeframe, more.identity[0]), more)
        else:
            join(bar, more)


def _revise(work: Work, series: Series, timeframe: str, more: Addition, position: int) -> bool:
    """Publish the closed bar anew, with what came late; whether it was, or could have been, published.

    A bar that had no tick, and so was never published, begins with revision 1: that there is none was revision 0.
    """
    before = series.closed_bar(timeframe, more.identity[0])
    if before is not None:
        bar = before.copy()
        join(bar, more)
    else:
        span = series.bounds(timeframe, more.identity[0])
        if not series.is_known_empty(timeframe, span[0]):
            return False
        bar = opened(span, more)
    bar.revision += 1
    work.publish(series, timeframe, bar, position)
    return True


def _correction(series: Series, row: Row, done: Mapping[Done, Collection[str]]) -> FeedEvent:
    parts = ["was taken into the open bars"] * (Done.TAKEN in done)
    parts += [f"revised {' '.join(names)}" for what, names in done.items() if what == Done.REVISED]
    parts += [f"left {' '.join(names)} as cut before" for what, names in done.items() if what == Done.LEFT]
    what = " and ".join(parts) or "is in no bar"
    return FeedEvent(
        time=row.ts,
        kind=EventKind.CORRECTION,
        feed=series.feed,
        shard=series.spec.shard if series.spec else "",
        symbol=series.symbol,
        text=f"a tick found late, bid {row.bid} ask {row.ask}, {what}",
    )
