"""The fire test's recomputation, held against the step itself without a broker, and against outputs tampered with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from processors.core.recall import Found, lacking, recalled, released
from processors.core.state import State, progress
from processors.core.step import step
from processors.core.types import Batch, ClosedBar, Reason, Rules
from processors.isolation import isolate
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.records import LiveBars, SymbolSpec
from tests.acceptance.fire_check import RECORD, Observed, compare
from tests.acceptance.fire_generator import SHARDS, Stream
from tests.acceptance.fire_oracle import BAR, TIMEFRAMES, Expected, recompute
from tests.schemas.strategies import MemoryStore
from tests.support import Out

CODEC = Codec(MemoryStore())
RULES = Rules(TIMEFRAMES)
BLOCKS = 400
"""Of ten minutes: almost three days."""


def source() -> pl.DataFrame:
    """All shards in turns, a symbol each."""
    streams = [Stream(CODEC, number, seed=5, partitions=1, step_ms=15_000) for number in range(len(SHARDS))]
    records: list[Out] = [record for stream in streams for record in stream.begin()]
    for _ in range(BLOCKS):
        records += [record for stream in streams for record in stream.block()]
    records += [record for stream in streams for record in stream.finish()]
    columns = {"key": [r.key.encode() for r in records], "value": [r.value for r in records]}
    frame = pl.DataFrame(columns | {"timestamp": [r.timestamp for r in records]}, schema=RECORD)
    return frame.with_columns(offset=2 * pl.int_range(pl.len()))  # transactions leave holes


def stepped(raw: pl.DataFrame) -> Observed:
    """What the step makes of it, in batches of any size."""
    chance = np.random.default_rng(1)
    state, start = State(), 0
    keys, values, stamps, offsets = (raw[name].to_list() for name in ("key", "value", "timestamp", "offset"))
    topic: dict[str, ClosedBar] = {}
    live: dict[str, LiveBars] = {}
    rows: list[tuple[object, ...]] = []
    bars: list[dict[str, object]] = []
    dead: list[int] = []
    events: list[tuple[int, str, str]] = []
    specs: list[tuple[int, SymbolSpec]] = []
    clean: list[int] = []
    while start < len(values):
        end = start + int(chance.choice((7, 150, 900, 20_000)))
        decoded = decode_batch(values[start:end], CODEC)
        batch = Batch(
            decoded.frame, decoded.others, decoded.bad, keys[start:end], stamps[start:end], offsets[start:end]
        )
        state = released(state, batch.frame)
        wanted = lacking(state, batch.frame, RULES)
        found = {name: Found([c for c in topic.values() if c.bar.symbol == name], None) for name in wanted}
        state = recalled(state, wanted, found)
        outcome, state = isolate(lambda state, batch: step(state, batch, RULES), state, batch)
        at = batch.offsets
        clean += [at[place] for place in outcome.clean.tolist()]
        rows += zip((at[p] for p in outcome.rejected.tolist()), map(_label, outcome.reasons.tolist()), strict=True)
        dead += [at[place] for place, _ in outcome.dead]
        events += [(at[place], event.kind.value, event.symbol or "") for place, event in outcome.events]
        specs += [(at[place], spec) for place, spec in outcome.specs]
        topic |= {closed.bar.key: closed for closed in outcome.closed}
        live |= {record.symbol: record for record, _ in outcome.live}
        bars += [_row(closed) for closed in outcome.closed]
        start = end
    rejected = pl.DataFrame(rows, schema={"offset": pl.Int64, "reason": pl.String}, orient="row")
    return Observed(
        clean=_of(raw, pl.DataFrame({"offset": clean})),
        rejected=_of(raw, rejected),
        dead=_of(raw, pl.DataFrame({"offset": dead})),
        bars=pl.DataFrame(bars).select(BAR),
        events=sorted(events),
        specs=specs,
        live=live,
        progress=progress(state, offsets[-1] + 1),
    )


def _label(reason: int) -> str:
    return Reason(reason).label


def _row(closed: ClosedBar) -> dict[str, object]:
    fields = {name: getattr(closed.bar, name) for name in closed.bar.__dataclass_fields__}
    placed = {"first_offset": closed.first_offset, "last_offset": closed.last_offset, "offset": closed.cause_offset}
    return fields | placed


def _of(raw: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.join(raw, on="offset", how="left", maintain_order="left")


@pytest.fixture(scope="module")
def world() -> tuple[pl.DataFrame, Expected, Observed]:
    raw = source()
    return raw, recompute(raw, CODEC), stepped(raw)


def test_the_recomputation_is_what_the_step_makes(world: tuple[pl.DataFrame, Expected, Observed]) -> None:
    found = compare(*world, partition=1)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.clean + found.rejected + found.repeats + found.dead <= found.records
    assert min(found.repeats, found.revisions, found.partial, found.dead) > 20
    reasons = set(world[1].rejected["reason"].to_list())
    assert reasons == {"future", "not_positive", "crossed", "market_closed", "holiday", "too_late"}


def without(frame: pl.DataFrame, at: int) -> pl.DataFrame:
    return pl.concat([frame[:at], frame[at + 1 :]])


def swapped(frame: pl.DataFrame, at: int) -> pl.DataFrame:
    return pl.concat([frame[:at], frame[at + 1 : at + 2], frame[at : at + 1], frame[at + 2 :]])


def twice(frame: pl.DataFrame, at: int) -> pl.DataFrame:
    return pl.concat([frame[: at + 1], frame[at:]])


def dearer(bars: pl.DataFrame, at: int) -> pl.DataFrame:
    row = bars[at : at + 1].with_columns(pl.col("high") + 0.01)
    return pl.concat([bars[:at], row, bars[at + 1 :]])


@pytest.mark.parametrize("topic", ["clean", "rejected", "dead", "bars"])
@pytest.mark.parametrize("harm", [without, swapped, twice])
def test_what_is_lost_doubled_or_out_of_order_is_found(
    world: tuple[pl.DataFrame, Expected, Observed], topic: str, harm: Callable[[pl.DataFrame, int], pl.DataFrame]
) -> None:
    raw, expected, observed = world
    harmed = replace(observed, **{topic: harm(getattr(observed, topic), 7)})  # type: ignore[arg-type]
    found = compare(raw, expected, harmed, partition=3)
    assert len(found.wrong) == 1
    assert topic in found.wrong[0]
    assert (found.lost, found.doubled) == (int(harm is without), int(harm is twice))


def test_another_price_state_or_event_is_found(world: tuple[pl.DataFrame, Expected, Observed]) -> None:
    raw, expected, observed = world
    name, live = next(iter(observed.live.items()))
    for harmed in (
        replace(observed, bars=dearer(observed.bars, 7)),
        replace(observed, live=observed.live | {name: replace(live, last_ts=live.last_ts + 1)}),
        replace(observed, live={name: live}),
        replace(observed, events=observed.events[1:]),
        replace(observed, specs=observed.specs * 2),
        replace(observed, progress=replace(observed.progress, next_offset=5)),
        replace(observed, progress=replace(observed.progress, watermarks=())),
    ):
        assert compare(raw, expected, harmed, partition=3).wrong
