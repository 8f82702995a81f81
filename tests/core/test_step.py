"""Any stream, cut in any way and worked through in either way, gives what the plain reference gives."""

from __future__ import annotations

import random
from typing import cast

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import BarSettings
from processors.core.recall import Found, Lack, lacking, recalled, released
from processors.core.state import State, lose, progress, restore
from processors.core.step import SMALL, sections, step
from processors.core.types import Batch, ClosedBar, Reason, Rules
from schemas.records import Control, LiveBars, Progress
from tests.core.reference import Reference
from tests.core.streams import CODEC, Maker, Message, batch

RULES = Rules((*BarSettings().timeframes, "T:7", "V:0.9", "N:4"), 60_000)
COLUMNAR, SECTIONS, PLAIN = 0, 15, 10**9


class Taken:
    """What a partition's processor gave, over all batches."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.state = State()
        self.offset = 0
        self.repeats = 0
        self.clean: list[int] = []
        self.rejected: list[tuple[int, str]] = []
        self.dead: list[int] = []
        self.closed: list[tuple[object, ...]] = []
        self.specs: list[tuple[int, object]] = []
        self.events: list[tuple[int, str, str | None]] = []
        self.live: dict[str, tuple[LiveBars, int]] = {}
        self.topic: dict[str, ClosedBar] = {}
        self.bytes: list[bytes] = []

    def take(self, messages: list[Message], small: int) -> None:
        first, given = self.offset, batch(messages, self.offset)
        self.recall(given)
        before = repr(self.state)
        outcome, state = step(self.state, given, RULES, small=small)
        assert repr(self.state) == before, "a step must leave its state as it was"
        self.state, self.offset = state, first + len(messages)
        self.repeats += outcome.repeats
        self.clean += (outcome.clean + first).tolist()
        reasons = [Reason(reason).label for reason in outcome.reasons.tolist()]
        self.rejected += zip((outcome.rejected + first).tolist(), reasons, strict=True)
        self.dead += (first + at for at, _ in outcome.dead)
        self.topic |= {item.bar.key: item for item in outcome.closed}
        self.closed += ((c.cause_offset, c.bar, c.first_offset, c.last_offset) for c in outcome.closed)
        self.specs += ((first + at, spec) for at, spec in outcome.specs)
        self.events += ((first + at, str(event.kind), event.symbol) for at, event in outcome.events)
        self.live |= {record.symbol: (record, offset) for record, offset in outcome.live}
        self.bytes += (CODEC.encode(item.bar) for item in outcome.closed)
        self.bytes += (CODEC.encode(event) for _, event in outcome.events)

    def recall(self, given: Batch) -> None:
        """As a worker does: what is in ``bars`` and ``ticks.clean``, where a correction asks for it."""
        self.state = released(self.state, given.frame)
        wanted = lacking(self.state, given.frame, RULES)
        self.state = recalled(self.state, wanted, {name: self.found(name, lack) for name, lack in wanted.items()})

    def found(self, symbol: str, lack: Lack) -> Found:
        bars = ticks = None
        if (after := lack.closed_after) is not None:
            bars = [c for c in self.topic.values() if c.bar.symbol == symbol and c.bar.ts_close > after]
        if (since := lack.ticks_from) is not None:
            passed = [item for at in self.clean if (item := self.messages[at]).record.symbol == symbol]
            ticks = batch(passed, 0).frame.filter(pl.col("ts_event") >= since)
        return Found(bars, ticks)

    def lose(self, offset: int) -> None:
        self.state, news = lose(self.state, RULES)
        self.live |= {record.symbol: (record, offset - 1) for record in news}
        self.offset = offset

    def restart(self) -> None:
        """As after a crash: from the records alone."""
        live = [cast("LiveBars", CODEC.decode(CODEC.encode(record))) for record, _ in self.live.values()]
        done = cast("Progress", CODEC.decode(CODEC.encode(progress(self.state, self.offset))))
        assert done.next_offset == self.offset
        self.state = restore(live, done, RULES)


def expected(messages: list[Message], lost: range = range(0)) -> Reference:
    reference = Reference(RULES.timeframes, RULES.future_tolerance_ms)
    for at, item in enumerate(messages):
        if at not in lost:
            reference.feed(at, item.record, item.key, item.stamp)
        elif at == lost[-1]:
            reference.lose(at)
    return reference


def check(taken: Taken, reference: Reference) -> None:
    assert taken.dead == reference.dead
    assert taken.clean == reference.clean
    assert taken.rejected == reference.rejected
    assert taken.repeats == reference.repeats
    assert taken.closed == reference.closed
    assert taken.specs == reference.specs
    assert taken.events == reference.events
    assert taken.state.watermarks == reference.marks
    assert taken.live == reference.live()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 900),
    oddity=st.sampled_from([0.0, 0.005, 0.05, 0.4]),
    late=st.sampled_from([0.0, 0.01, 0.3]),
    losing=st.booleans(),
)
def test_any_stream_in_any_cuts_gives_what_the_reference_gives(
    seed: int, count: int, oddity: float, late: float, *, losing: bool
) -> None:
    messages = Maker(seed, oddity, late).make(count)
    pick = random.Random(seed)
    start = pick.randrange(len(messages)) if losing else 0
    lost = range(start, min(len(messages), start + pick.randrange(60)) if losing else 0)
    reference = expected(messages, lost)
    values: list[bytes] = []
    for way in ((COLUMNAR,), (SECTIONS,), (PLAIN,), (COLUMNAR, SECTIONS, PLAIN)):
        taken = Taken(messages)
        while taken.offset < len(messages):
            if lost and taken.offset == lost[0]:
                taken.lose(lost[-1] + 1)
                continue
            size = pick.choice((1, 30, 100, 400, 2_000))
            end = lost[0] if lost and taken.offset < lost[0] else len(messages)
            taken.take(messages[taken.offset : min(end, taken.offset + size)], pick.choice(way))
            if pick.random() < 0.3:
                taken.restart()
        check(taken, reference)
        written = sorted(taken.bytes) + sorted(CODEC.encode(record) for record, _ in taken.live.values())
        assert written == (values := values or written)


def test_controls_leave_the_ticks_after_them_to_the_columns() -> None:
    messages = Maker(3, 0.0).make(1_000)
    ticks = batch(messages, 0).frame
    controls = [(at, item.record) for at, item in enumerate(messages) if isinstance(item.record, Control)]
    first, rest = sections(ticks, controls, SMALL)
    assert (first.columnar, first.ticks.height, rest.columnar) == (False, 0, True)
    assert rest.ticks.equals(ticks)
    assert first.controls + rest.controls == controls
