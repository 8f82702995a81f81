"""One batch of one partition: (state, batch) -> (outcome, state)."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.market.timeframes import TIMEFRAMES
from processors.core import columnar, plain
from processors.core.controls import check_control
from processors.core.state import State
from processors.core.terms import shard_key
from processors.core.types import Batch, Outcome, Rules
from processors.core.work import Mark, Work
from schemas.errors import DecodeError
from schemas.records import Control, ControlKind

SMALL: Final = 200
"""Ticks below which a plain loop is quicker."""

LAST_MOMENT: Final = 4_102_444_800_000
"""2100: later ticks are rubbish."""

_MARKS: Final = frozenset({ControlKind.WATERMARK, ControlKind.RETIRED})


def step(state: State, batch: Batch, rules: Rules, *, small: int = SMALL) -> tuple[Outcome, State]:
    """What the batch gives, and the state after it; ``state`` stays as it was.

    Batches of fewer than ``small`` ticks are worked through one by one, others by column; the result is the same.
    """
    rules = Rules(tuple(sorted(rules.timeframes, key=TIMEFRAMES.index)), rules.future_tolerance_ms)
    work = Work(state, rules, np.asarray(batch.offsets, np.int64))
    work.dead += batch.bad
    controls = _checked_controls(work, batch)
    marks: list[Mark] = [
        (position, shard_key(control.feed, control.shard), control.time)
        for position, control in controls
        if control.kind in _MARKS
    ]
    frame = _checked_ticks(work, batch)
    if frame.height < small:
        plain.run(work, map(plain.Row._make, frame.select(plain.FIELDS).iter_rows()), controls, None)
    else:
        unusual = columnar.run(work, frame, marks, _named(work, controls))
        if unusual:
            rest = frame.lazy().filter(pl.col("symbol").is_in(sorted(unusual))).select(plain.FIELDS).collect()
            plain.run(work, map(plain.Row._make, rest.iter_rows()), controls, unusual)
    return work.finish(marks)


def _checked_controls(work: Work, batch: Batch) -> list[tuple[int, Control]]:
    controls = []
    for position, record in batch.others:
        try:
            control = check_control(
                record, batch.keys[position], int(batch.timestamps[position]), work.rules.future_tolerance_ms
            )
        except DecodeError as error:
            work.dead.append((position, error))
        else:
            controls.append((position, control))
    return controls


def _checked_ticks(work: Work, batch: Batch) -> pl.DataFrame:
    """The ticks whose keys and timestamps are right and whose identity makes sense; the others are dead letters."""
    frame = batch.frame
    where: NDArray[np.int64] = frame["index"].to_numpy()
    keys = pl.Series(batch.keys, dtype=pl.Binary).gather(where)
    times = np.asarray(batch.timestamps, np.int64)[where]
    ts, ordinal = frame["ts_event"].to_numpy(), frame["ordinal"].to_numpy()
    right_key = keys.eq_missing(frame["symbol"].cast(pl.Binary)).to_numpy()
    good = right_key & (ts == times) & (ts >= 0) & (ts < LAST_MOMENT) & (ordinal >= 0)
    if good.all():
        return frame
    for row in np.flatnonzero(~good).tolist():
        symbol, time, at = frame["symbol"][row], int(ts[row]), int(where[row])
        if not right_key[row]:
            text = f"a tick of {symbol} under the key {batch.keys[at]!r}"
        elif time != times[row]:
            text = f"a tick of {symbol} at {time} under the timestamp {times[row]}"
        else:
            text = f"a tick of {symbol} at {time} with ordinal {ordinal[row]}"
        work.dead.append((at, DecodeError(text)))
    return frame.filter(pl.Series(good))


def _named(work: Work, controls: list[tuple[int, Control]]) -> set[str]:
    """Symbols that controls other than watermarks may change."""
    named = set()
    for _, control in controls:
        if control.kind == ControlKind.WATERMARK:
            continue
        if control.symbol is not None and control.kind != ControlKind.RETIRED:
            named.add(control.symbol)
        else:
            shard = shard_key(control.feed, control.shard)
            named |= {name for name, series in work.series.items() if series.terms and series.terms.shard == shard}
    return named
