"""The culprit is found, and nothing else is lost with it."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.exceptions import PanicException

from processors.core.state import State
from processors.core.types import Batch, Outcome
from processors.isolation import isolate
from schemas.errors import DecodeError, ProcessingError
from schemas.records import Control, ControlKind, LiveBars


def control(time: int) -> Control:
    return Control(kind=ControlKind.WATERMARK, feed="f", shard="s", time=time)


def batch(size: int, others: set[int], bad: set[int]) -> Batch:
    ticks = [at for at in range(size) if at not in others | bad]
    return Batch(
        pl.DataFrame({"index": ticks, "ts_event": ticks}, schema={"index": pl.Int64, "ts_event": pl.Int64}),
        [(at, control(at)) for at in sorted(others - bad)],
        [(at, DecodeError(str(at))) for at in sorted(bad)],
        [b"%d" % at for at in range(size)],
        list(range(size)),
        [2 * at for at in range(size)],  # offsets have holes
    )


class Step:
    """Passes even ticks, rejects odd ones, counts all of them in the state, and stumbles over some."""

    def __init__(self, culprits: set[int]) -> None:
        self.culprits = culprits

    def __call__(self, state: State, batch: Batch) -> tuple[Outcome, State]:
        assert len(batch.keys) == len(batch.timestamps) == len(batch.offsets)
        if hit := self.culprits & set(batch.timestamps):
            if min(hit) % 2:
                raise PanicException("panic")
            raise ValueError("a bug")
        for at, record in batch.others:
            assert isinstance(record, Control)
            assert batch.timestamps[at] == record.time
        assert [batch.timestamps[at] for at in batch.frame["index"]] == batch.frame["ts_event"].to_list()
        places = batch.frame["index"].to_numpy()
        odd = batch.frame["ts_event"].to_numpy() % 2 == 1
        seen = state.watermarks.get("seen", 0) + len(batch.timestamps)
        live = LiveBars(symbol="S", feed="f", last_ts=batch.timestamps[-1], last_ordinal=0)
        outcome = Outcome(
            places[~odd], places[odd], np.ones(int(odd.sum()), np.int8), 1, dead=list(batch.bad), live=[(live, seen)]
        )
        return outcome, State({}, {"seen": seen})


sets = st.sets(st.integers(0, 39))


@given(st.integers(1, 40), sets, sets, sets)
def test_every_record_comes_out_once_and_culprits_as_dead_letters(
    size: int, others: set[int], bad: set[int], culprits: set[int]
) -> None:
    others, bad, culprits = ({at for at in some if at < size} for some in (others, bad, culprits))
    outcome, state = isolate(Step(culprits), State(), batch(size, others, bad))
    ticks = [at for at in range(size) if at not in others | bad | culprits]
    assert outcome.clean.tolist() == [at for at in ticks if at % 2 == 0]
    assert outcome.rejected.tolist() == [at for at in ticks if at % 2]
    assert len(outcome.reasons) == len(outcome.rejected)
    assert [at for at, _ in outcome.dead] == sorted(bad | culprits)
    assert {at for at, error in outcome.dead if isinstance(error, ProcessingError)} == culprits
    assert state.watermarks.get("seen", 0) == size - len(culprits)
    assert len(outcome.live) == (size > len(culprits))
    if outcome.live:
        assert outcome.live[0][1] == size - len(culprits)


def test_a_batch_without_a_culprit_is_stepped_once() -> None:
    calls = 0

    def step(state: State, whole: Batch) -> tuple[Outcome, State]:
        nonlocal calls
        calls += 1
        return Step(set())(state, whole)

    isolate(step, State(), batch(30, set(), set()))
    assert calls == 1
