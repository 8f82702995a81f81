"""Finding the record on which the step raises, and going on without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from polars.exceptions import PanicException

from processors.core.state import State
from processors.core.types import Batch, Outcome
from schemas.errors import ProcessingError

Step = Callable[[State, Batch], tuple[Outcome, State]]


def isolate(step: Step, state: State, batch: Batch) -> tuple[Outcome, State]:
    """What ``step`` makes of the batch, without the records on which it raises.

    A batch on which it raises is halved until the culprit is alone; that one comes out as a dead letter with a
    ProcessingError. The step leaves the state it is given as it was, so every half starts from a whole state.
    """
    try:
        return step(state, batch)
    except (Exception, PanicException) as error:  # noqa: BLE001 - whatever it is, the record is set aside with it
        size = len(batch.offsets)
        if size == 1:
            reason = ProcessingError(f"{type(error).__name__}: {error}")
            reason.__cause__ = error
            nothing = np.empty(0, np.int64)
            return Outcome(nothing, nothing, nothing.astype(np.int8), 0, dead=[(0, reason)]), state
    middle = size // 2
    first, state = isolate(step, state, _part(batch, 0, middle))
    second, state = isolate(step, state, _part(batch, middle, size))
    return _joined(first, second, middle), state


def _part(batch: Batch, start: int, stop: int) -> Batch:
    """The batch of the records from position ``start`` to before ``stop``."""
    place = pl.col("index")
    return Batch(
        batch.frame.filter((place >= start) & (place < stop)).with_columns(place - start),
        [(at - start, record) for at, record in batch.others if start <= at < stop],
        [(at - start, error) for at, error in batch.bad if start <= at < stop],
        batch.keys[start:stop],
        batch.timestamps[start:stop],
        batch.offsets[start:stop],
    )


def _joined(first: Outcome, second: Outcome, shift: int) -> Outcome:
    """Both outcomes as one, the second's positions moved on by ``shift``."""
    live = {live.symbol: (live, offset) for live, offset in [*first.live, *second.live]}
    return Outcome(
        np.concatenate([first.clean, second.clean + shift]),
        np.concatenate([first.rejected, second.rejected + shift]),
        np.concatenate([first.reasons, second.reasons]),
        first.repeats + second.repeats,
        first.dead + [(at + shift, error) for at, error in second.dead],
        first.closed + second.closed,
        [live[symbol] for symbol in sorted(live)],
        first.specs + [(at + shift, spec) for at, spec in second.specs],
        first.events + [(at + shift, event) for at, event in second.events],
    )
