"""One batch of one partition: (state, batch) -> (outcome, state)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.market.counts import order_of
from processors.core import columnar, plain
from processors.core.controls import check_control
from processors.core.state import State
from processors.core.terms import shard_key
from processors.core.types import Batch, Outcome, Rules
from processors.core.work import Mark, Work
from schemas.columns import taken
from schemas.errors import DecodeError
from schemas.records import Control, ControlKind

SMALL: Final = 200
"""Ticks below which a plain loop is quicker."""

LAST_MOMENT: Final = 4_102_444_800_000
"""2100: later ticks are rubbish."""

_MARKS: Final = frozenset({ControlKind.WATERMARK, ControlKind.RETIRED})

Placed = tuple[int, Control]
"""A control and its position in the batch."""


def step(state: State, batch: Batch, rules: Rules, *, small: int = SMALL) -> tuple[Outcome, State]:
    """What the batch gives, and the state after it; ``state`` stays as it was.

    Batches of fewer than ``small`` ticks are worked through one by one, others by column; the result is the same.
    """
    rules = Rules(tuple(sorted(rules.timeframes, key=order_of)), rules.future_tolerance_ms)
    work = Work(state, rules, np.asarray(batch.offsets, np.int64))
    work.dead += batch.bad
    controls = _checked_controls(work, batch)
    for section in sections(_checked_ticks(work, batch), controls, small):
        section.run(work)
    return work.finish()


@dataclass(frozen=True, slots=True)
class Section:
    """Consecutive ticks and controls of a batch that are worked through in one way."""

    ticks: pl.DataFrame
    controls: list[Placed]
    columnar: bool

    def run(self, work: Work) -> None:
        """Work through it."""
        if not self.columnar:
            self._plain(work, self.ticks, None)
        elif unusual := columnar.run(work, self.ticks, self._marks()):
            rest = self.ticks.lazy().filter(pl.col("symbol").is_in(sorted(unusual))).collect()
            self._plain(work, rest, unusual)
        work.pass_marks(self._marks())

    def _plain(self, work: Work, ticks: pl.DataFrame, symbols: set[str] | None) -> None:
        rows = map(plain.Row, *(ticks[name].to_list() for name in plain.FIELDS))
        plain.run(work, rows, self.controls, symbols)

    def _marks(self) -> list[Mark]:
        return [
            (position, shard_key(control.feed, control.shard), control.time)
            for position, control in self.controls
            if control.kind in _MARKS
        ]


def sections(ticks: pl.DataFrame, controls: list[Placed], small: int) -> Iterator[Section]:
    """The batch in order. By column goes what holds ``small`` ticks or more and no control but watermarks.

    Such controls stand together as a rule, at the start of a series, so sections are few.
    """
    places = ticks["index"].to_numpy()
    cuts = [at for at, (_, control) in enumerate(controls) if control.kind != ControlKind.WATERMARK]
    # What is worked through one by one begins with these ticks and controls, until a section for columns comes.
    first_tick = first_control = control = tick = 0
    for cut in [*cuts, len(controls)]:
        end = int(np.searchsorted(places, controls[cut][0])) if cut < len(controls) else len(places)
        if end - tick >= small:
            if control > first_control or tick > first_tick:
                yield Section(ticks[first_tick:tick], controls[first_control:control], columnar=False)
            yield Section(ticks[tick:end], controls[control:cut], columnar=True)
            first_tick, first_control = end, cut
        tick, control = end, cut + 1
    if len(controls) > first_control or len(places) > first_tick:
        yield Section(ticks[first_tick:], controls[first_control:], columnar=False)


def _checked_controls(work: Work, batch: Batch) -> list[Placed]:
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
    keys = taken(pl.Series(batch.keys, dtype=pl.Binary), where)
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
