"""The proof's derivation against the aggregator's core, without a broker: the same bars, however the log is read."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import polars as pl
import pytest

from infra.market.counts import is_count
from infra.proof.comparing import RECORD_KEY, Book, Comparison
from infra.proof.counts import CountBook
from infra.proof.matching import TICK, Matching
from infra.proof.partition import Part, Partition, Terrain
from infra.proof.terms import terms_of
from processors.core import terms
from processors.core.state import State
from processors.core.step import step
from processors.core.types import Outcome, Reason, Rules
from schemas.columns import dtypes
from schemas.records import Bar, Control, ControlKind, SymbolSpec, Tick
from tests.core.streams import SYMBOLS, Maker, Message, batch, message, spec

TIMEFRAMES = ("M1", "M5", "H1", "H4", "D1", "W1", "MN1")
COUNTS = ("T:3", "V:2", "N:2.3")
TOLERANCE = 60_000
FOREVER = 2**62


class OneZone(Maker):
    """Streams of everything; a series stays in its zone: what moves it more than once within a bar is out of scope."""

    def spec(self, symbol: str) -> Any:
        return replace(
            super().spec(symbol), zone=("New_York+7", "UTC", "UTC+3", "UTC", "New_York+7")[SYMBOLS.index(symbol)]
        )


def bars_of(outcome: Outcome) -> pl.DataFrame:
    """The last revision of each bar, with its headers."""
    rows = [
        {field.name: getattr(closed.bar, field.name) for field in fields(Bar)}
        | {"cause": closed.cause_offset, "first_offset": closed.first_offset, "last_offset": closed.last_offset}
        for closed in outcome.closed
    ]
    headers = dict.fromkeys(("cause", "first_offset", "last_offset"), pl.Int64)
    frame = pl.DataFrame(
        [row | {"status": str(row["status"])} for row in rows], schema={**dtypes("Bar"), **headers}, orient="row"
    )
    return frame.unique(RECORD_KEY, keep="last", maintain_order=True)


class World:
    """What a processor would have made of a stream, as one partition."""

    def __init__(self, messages: list[Message], counts: tuple[str, ...] = ()) -> None:
        raw = batch(messages, 0)
        self.outcome, state = step(State(), raw, Rules((*TIMEFRAMES, *counts), TOLERANCE))
        self.made = {symbol: one.since for symbol, one in state.series.items()}
        dead = {at for at, _ in self.outcome.dead}
        fates: dict[int, str] = dict.fromkeys(dead, "dead")
        for at, reason in zip(self.outcome.rejected.tolist(), self.outcome.reasons.tolist(), strict=True):
            fates[at] = Reason(reason).label
        self.raw = raw.frame.rename({"index": "source"}).with_columns(
            fate=pl.Series([fates.get(at) for at in raw.frame["index"].to_list()], dtype=pl.String)
        )
        self.clean = self.raw.filter(pl.col("source").is_in(self.outcome.clean.tolist())).select(TICK)
        self.controls = [(at, each) for at, each in raw.others if isinstance(each, Control) and at not in dead]
        self.bars = bars_of(self.outcome)
        self.count = len(messages)

    def prove(self, cut: int = 10**9, *, raw_from: int = 0) -> tuple[Comparison, Partition]:
        """Read in parts of ``cut`` records; ``ticks.raw`` is gone before ``raw_from``."""
        parts = iter([self.clean[at : at + cut] for at in range(0, self.clean.height, cut)])
        matching = Matching(parts, to=FOREVER, told_since=0, truncated=raw_from > 0)
        partition = Partition(Terrain(0, FOREVER, {}, TIMEFRAMES, TOLERANCE), matching)
        comparison = Comparison()
        book = Book(self.bars.filter(pl.col("day").is_null()), [], [], comparison)
        counts = CountBook(self.bars.filter(pl.col("day").is_not_null()), [], self.made, 0, FOREVER)
        partition.watch = counts.take
        for at, control in self.controls:  # the copies in symbols and feed.events
            if at < raw_from and control.spec:
                partition.specified(control.spec, at)
            elif at < raw_from and control.kind == ControlKind.COVERAGE and control.symbol:
                partition.covered(control.symbol, at, control.time)
        began = False
        for start in range(raw_from, self.count, cut):
            end = min(start + cut, self.count)
            ticks = self.raw.filter(pl.col("source").is_between(start, end, closed="left"))
            if not began and ticks.height:
                for bars in partition.begin(ticks):
                    book.hold(bars)
                began = True
            controls = [placed for placed in self.controls if start <= placed[0] < end]
            for bars in partition.take(Part(ticks, controls)):
                book.hold(bars)
        for bars in partition.finish(iter([])):
            book.hold(bars)
        book.finish(0, [symbol for symbol, item in partition.series.items() if item.terms])
        counts.compare(partition.series, comparison)
        return comparison, partition


@pytest.mark.parametrize(("seed", "oddity", "cut"), [(1, 0.0, 400), (2, 0.05, 97), (3, 0.3, 700), (4, 0.3, 1_500)])
def test_the_proof_agrees_with_the_core(seed: int, oddity: float, cut: int) -> None:
    world = World(OneZone(seed, oddity).make(1_500))
    comparison, partition = world.prove(cut)
    account = partition.matching.account
    assert not comparison.differences
    assert comparison.wrong == 0
    assert sum(tally.equal for tally in comparison.tallies.values()) == world.bars.height > 100
    assert (account.clean, account.repeats) == (len(world.outcome.clean), world.outcome.repeats)
    assert account.rejected.total() == len(world.outcome.rejected)
    assert (account.wrong, account.raw) == (0, world.raw.height)


@pytest.mark.parametrize(
    ("seed", "oddity", "late", "cut"),
    [(27, 0.0, 0.0, 400), (30, 0.02, 0.0, 97), (38, 0.0, 0.1, 1_500), (24, 0.2, 0.0, 97), (44, 0.2, 0.1, 1_500)],
)
def test_tick_volume_and_value_bars_are_proved_and_each_that_is_taken_out_is_missed(
    seed: int, oddity: float, late: float, cut: int
) -> None:
    world = World(OneZone(seed, oddity, late).make(1_500), COUNTS)
    comparison, _ = world.prove(cut)
    assert not comparison.differences
    counted = [tally for (_, name), tally in comparison.tallies.items() if is_count(name)]
    equal = sum(tally.equal for tally in counted)
    assert equal > 200
    assert equal + sum(tally.gone for tally in counted) == world.bars["day"].count()
    world.bars = world.bars.filter(pl.col("day").is_null())
    comparison, _ = world.prove(cut)
    assert comparison.wrong == sum(tally.missing for tally in comparison.tallies.values()) == equal


def test_a_tick_bar_of_a_day_without_ticks_is_extra() -> None:
    world = World(OneZone(27, 0.0).make(1_500), COUNTS)
    world.bars = world.bars.with_columns(pl.col("day") + 7 * 86_400_000)
    comparison, _ = world.prove()
    assert sum(tally.extra for tally in comparison.tallies.values()) == world.bars["day"].count()


def test_bars_whose_sources_have_left_the_log_are_still_proved() -> None:
    world = World(OneZone(5, 0.0).make(1_500))
    comparison, partition = world.prove(200, raw_from=700)
    assert not comparison.differences
    assert sum(tally.equal for tally in comparison.tallies.values()) == world.bars.height
    assert partition.matching.account.wrong == 0


@pytest.mark.parametrize("field", ["open", "ask_low", "spread", "tick_count", "rules", "first_tick_ts", "last_offset"])
def test_any_field_that_was_changed_is_found(field: str) -> None:
    world = World(OneZone(6, 0.05).make(600))
    changed = pl.lit("x") if field == "rules" else pl.col(field) + 1
    world.bars = world.bars.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(changed).otherwise(field).alias(field)
    )
    comparison, _ = world.prove()
    (found,) = comparison.differences
    assert [name for name, _, _ in found.fields] == [field]
    assert comparison.wrong == 1


def test_ticks_that_are_lost_changed_or_made_up_are_found() -> None:
    honest = World(OneZone(7, 0.0).make(400))
    opener = honest.bars.select("symbol", ts_event="first_tick_ts", ordinal="first_tick_ordinal")[:1]

    lost = World(OneZone(7, 0.0).make(400))
    lost.clean = lost.clean.join(opener, on=opener.columns, how="anti", maintain_order="left")
    comparison, partition = lost.prove(50)
    assert (partition.matching.account.lost, partition.matching.account.wrong) == (1, 1)
    assert comparison.wrong > 0

    altered = World(OneZone(7, 0.0).make(400))
    altered.clean = altered.clean.with_columns(
        bid=pl.when(pl.int_range(pl.len()) == 10).then(pl.col("bid") / 2).otherwise("bid")
    )
    assert altered.prove(50)[1].matching.account.altered == 1

    doubled = World(OneZone(7, 0.0).make(400))
    doubled.clean = pl.concat([doubled.clean[:30], honest.clean[20:21], doubled.clean[30:]])
    account = doubled.prove(50)[1].matching.account
    assert (account.foreign, account.lost) == (1, 0)

    swapped = World(OneZone(7, 0.0).make(400))
    swapped.clean = pl.concat([swapped.clean[:10], swapped.clean[10:60].reverse(), swapped.clean[60:]])
    assert swapped.prove(50)[1].matching.account.disordered > 0


def test_a_zone_that_changes_leaves_open_bars_their_bounds() -> None:
    start = 1_741_600_800_000  # Monday 10:00 UTC

    def control(kind: ControlKind, one: SymbolSpec | None = None) -> Message:
        return message(Control(kind=kind, feed="sim", shard="a", symbol="BTCUSD", time=start, spec=one))

    messages = [
        control(ControlKind.SYMBOL_SPEC, spec("BTCUSD", zone="UTC")),
        control(ControlKind.COVERAGE),
    ]
    for number in range(600):
        if number == 300:
            messages.append(control(ControlKind.SYMBOL_SPEC, spec("BTCUSD", zone="UTC+1")))
        ts = start + number * 97_000
        tick = Tick(
            symbol="BTCUSD", ts_event=ts, ordinal=0, bid=1.1 + number % 7 / 1e5, ask=1.2, flags=6, feed="sim",
            server_time=ts, ts_recv=ts * 1_000,
        )  # fmt: skip
        messages.append(message(tick))
    world = World(messages)
    assert {"final", "partial"} <= set(world.bars["status"])
    comparison, _ = world.prove(100)
    assert not comparison.differences


def test_the_rules_are_hashed_as_the_aggregator_hashes_them() -> None:
    for symbol in SYMBOLS:
        for zone in ("New_York+7", "UTC"):
            one = spec(symbol, zone=zone)
            assert terms_of(one, TOLERANCE).rules == terms.terms_of(one, TOLERANCE).hash
