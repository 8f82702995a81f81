"""What the rules mean, one by one, in both ways of working."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processors.core.recall import Found, lacking, recalled
from processors.core.state import State, lose, progress, restore
from processors.core.step import step
from processors.core.terms import terms_of
from processors.core.types import Outcome, Rules
from schemas.errors import DecodeError
from schemas.records import Bar, BarStatus, Control, ControlKind, LiveBars, Tick
from tests.core.streams import batch, message, spec

MONDAY = 1_741_564_800_000  # 2025-03-10 00:00 UTC
MINUTE = 60_000
RULES = Rules(("M1", "H1"))


@pytest.fixture(params=[0, 1_000], ids=["columnar", "plain"])
def partition(request: pytest.FixtureRequest) -> Partition:
    return Partition(request.param)


class Partition:
    def __init__(self, small: int) -> None:
        self.small, self.state, self.offset, self.rules = small, State(), 0, RULES
        self.outcome: Outcome

    def take(self, *records: Tick | Control) -> list[Bar]:
        messages = [message(record) for record in records]
        self.outcome, self.state = step(self.state, batch(messages, self.offset), self.rules, small=self.small)
        self.offset += len(records)
        return [closed.bar for closed in self.outcome.closed]

    def lose(self) -> list[LiveBars]:
        self.state, news = lose(self.state, self.rules)
        return news

    def begin(self, **changes: object) -> None:
        self.take(
            control("symbol_spec", symbol="BTCUSD", spec=spec("BTCUSD", **changes)), control("coverage", "BTCUSD")
        )


def control(kind: str, symbol: str | None = None, **fields: object) -> Control:
    values: dict[str, object] = {"feed": "sim", "shard": "a", "time": MONDAY} | fields
    return Control(kind=ControlKind(kind), symbol=symbol, **values)  # type: ignore[arg-type]


def tick(after: int, bid: float = 1.1, ask: float = 1.2, **fields: object) -> Tick:
    ts = MONDAY + after
    values: dict[str, object] = {
        "ordinal": 0,
        "flags": 6,
        "feed": "sim",
        "server_time": ts,
        "ts_recv": ts * 1_000,
    } | fields
    return Tick(symbol="BTCUSD", ts_event=ts, bid=bid, ask=ask, **values)  # type: ignore[arg-type]


def watermark(after: int, **fields: Any) -> Control:
    return control("watermark", time=MONDAY + after, **fields)


def test_a_watermark_closes_what_ends_by_it_and_nothing_before(partition: Partition) -> None:
    partition.begin()
    assert partition.take(tick(10), tick(MINUTE - 1, 1.3, 1.4)) == []
    assert partition.take(watermark(MINUTE - 2)) == []
    assert partition.take(watermark(10 * MINUTE, shard="b")) == []
    (bar,) = partition.take(watermark(MINUTE - 1))
    assert (bar.timeframe, bar.open, bar.close, bar.tick_count, bar.status) == ("M1", 1.1, 1.3, 2, BarStatus.FINAL)
    (closed,) = partition.outcome.closed
    assert (closed.first_offset, closed.last_offset, closed.cause_offset) == (2, 3, 6)


def test_the_next_tick_closes_a_bar_but_a_rejected_one_does_not(partition: Partition) -> None:
    partition.begin()
    assert partition.take(tick(0), tick(MINUTE, 1.5, 1.4), tick(MINUTE + 1, -1.0)) == []
    assert len(partition.outcome.rejected) == 2
    assert [bar.ts_open for bar in partition.take(tick(3 * MINUTE))] == [MONDAY]


def test_a_watermark_closes_the_bars_of_a_symbol_of_which_only_repeats_came(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0), tick(1_000))
    mark = control("watermark", time=MONDAY + MINUTE)
    assert [bar.timeframe for bar in partition.take(tick(1_000), mark, tick(0))] == ["M1"]
    assert partition.outcome.repeats == 2


def test_controls_among_ticks_count_from_where_they_stand(partition: Partition) -> None:
    partition.begin()
    ticks = [tick(at * MINUTE) for at in range(6)]
    gap = control("gap", "BTCUSD", from_=MONDAY + 2 * MINUTE, to=MONDAY + 3 * MINUTE)
    bars = [bar for bar in partition.take(*ticks[:4], gap, *ticks[4:]) if bar.timeframe == "M1"]
    assert [bar.feed_gap_ms for bar in bars] == [0, 0, 0, 0, 0]  # closed before the gap was told, or not in it
    late = control("gap", "BTCUSD", from_=MONDAY + 5 * MINUTE + 10, to=MONDAY + 5 * MINUTE + 20)
    bars = [bar for bar in partition.take(late, tick(6 * MINUTE), tick(7 * MINUTE)) if bar.timeframe == "M1"]
    assert [(bar.feed_gap_ms, bar.status) for bar in bars] == [(10, BarStatus.PARTIAL), (0, BarStatus.FINAL)]


def test_a_tick_that_comes_after_its_bar_closed_is_too_late(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0), watermark(MINUTE - 1), tick(500))
    assert partition.outcome.reasons.tolist() == [5]
    partition.take(tick(500))
    assert partition.outcome.repeats == 1


def test_a_bar_that_began_before_coverage_is_live_and_partial_but_not_published(partition: Partition) -> None:
    partition.take(control("symbol_spec", symbol="BTCUSD", spec=spec("BTCUSD")))
    partition.take(control("coverage", "BTCUSD", time=MONDAY + 5_000))
    partition.take(tick(6_000))
    ((live, _),) = partition.outcome.live
    assert [bar.status for bar in live.bars] == [BarStatus.PARTIAL] * 2
    assert partition.take(tick(MINUTE)) == []
    assert [bar.ts_open for bar in partition.take(tick(2 * MINUTE))] == [MONDAY + MINUTE]


def test_overlapping_gaps_count_once_and_make_bars_partial(partition: Partition) -> None:
    partition.begin()
    spans = [(10_000, 20_000), (15_000, 30_000), (50_000, 90_000)]
    gaps = [control("gap", "BTCUSD", from_=MONDAY + start, to=MONDAY + end) for start, end in spans]
    bars = partition.take(tick(0), *gaps, tick(MINUTE + 1), tick(2 * MINUTE), tick(3 * MINUTE))
    assert [(bar.status, bar.feed_gap_ms) for bar in bars] == [
        (BarStatus.PARTIAL, 30_000), (BarStatus.PARTIAL, 30_000), (BarStatus.FINAL, 0)
    ]  # fmt: skip
    assert [event.kind for _, event in partition.outcome.events] == ["gap"] * 3


def test_a_correction_goes_into_open_bars_and_is_known_the_second_time(partition: Partition) -> None:
    partition.begin()
    late = tick(100, 1.0, 1.4, correction=True, ordinal=1)
    partition.take(tick(200), tick(300), late, late)
    assert partition.outcome.repeats == 1
    (bar,) = partition.take(watermark(MINUTE))
    assert (bar.open, bar.close, bar.low, bar.tick_count, bar.first_tick_ts) == (1.0, 1.1, 1.0, 3, MONDAY + 100)


def test_a_correction_of_a_closed_bar_publishes_it_anew(partition: Partition) -> None:
    partition.begin()
    (first,) = partition.take(tick(200), tick(300, 1.3, 1.4), tick(MINUTE))
    (second, third) = partition.take(
        tick(100, 1.0, 1.1, correction=True), tick(400, 1.2, 1.3, correction=True, flags=16, volume=2.5)
    )
    assert (first.status, first.revision, first.open, first.close) == (BarStatus.FINAL, 0, 1.1, 1.3)
    assert (second.status, second.revision, second.open, second.close) == (BarStatus.REVISED, 1, 1.0, 1.3)
    assert (third.revision, third.close, third.real_volume, third.tick_count, third.tick_volume) == (2, 1.2, 2.5, 4, 3)
    assert {bar.key for bar in (first, second, third)} == {f"BTCUSD|M1|{MONDAY}"}
    last = partition.outcome.closed[-1]
    assert (last.first_offset, last.last_offset, last.cause_offset) == (2, 6, 6)
    texts = [event.text.rpartition(", ")[2] for _, event in partition.outcome.events]
    assert texts == ["was taken into the open bars and revised M1"] * 2
    assert [bar.tick_count for bar in partition.take(watermark(60 * MINUTE)) if bar.timeframe == "H1"] == [5]


def test_a_correction_where_no_tick_was_makes_revision_1(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0), tick(5 * MINUTE))
    (bar,) = partition.take(tick(2 * MINUTE, correction=True))
    assert (bar.ts_open - MONDAY, bar.status, bar.revision, bar.tick_count) == (2 * MINUTE, BarStatus.REVISED, 1, 1)


def test_a_correction_is_too_late_when_it_is_a_day_older_than_the_last_tick(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0), tick(1), tick(24 * 60 * MINUTE))
    bars = partition.take(tick(0, correction=True, ordinal=1))
    assert [(bar.timeframe, bar.revision) for bar in bars] == [("M1", 1), ("H1", 1)]
    partition.take(tick(24 * 60 * MINUTE + 1), tick(0, correction=True, ordinal=2))
    assert partition.outcome.reasons.tolist() == [5]


def test_a_bar_that_was_not_published_is_not_revised(partition: Partition) -> None:
    partition.take(control("symbol_spec", symbol="BTCUSD", spec=spec("BTCUSD")), tick(0), tick(MINUTE))
    partition.take(control("coverage", "BTCUSD", time=MONDAY - 60 * MINUTE))
    assert [bar.revision for bar in partition.take(tick(1, correction=True))] == []
    assert len(partition.outcome.clean) == 1
    assert [bar.tick_count for bar in partition.take(tick(2 * MINUTE)) if bar.timeframe == "M1"] == [1]


def test_a_revised_bar_tells_its_gap(partition: Partition) -> None:
    partition.begin()
    gap = control("gap", "BTCUSD", from_=MONDAY + 10_000, to=MONDAY + 20_000)
    (bar,) = partition.take(tick(0), gap, tick(MINUTE))
    (revised,) = partition.take(tick(15_000, correction=True))
    assert (bar.status, revised.status) == (BarStatus.PARTIAL, BarStatus.REVISED)
    assert bar.feed_gap_ms == revised.feed_gap_ms == 10_000


def test_lost_records_are_a_gap_up_to_the_next_tick(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0), tick(30_000))
    assert [bar.lost_from for bar in partition.lose()] == [MONDAY + 30_000]
    assert partition.lose() == []
    bars = partition.take(tick(3 * MINUTE + 10_000), tick(4 * MINUTE), tick(5 * MINUTE))
    assert [(bar.ts_open - MONDAY, bar.status, bar.feed_gap_ms) for bar in bars] == [
        (0, BarStatus.PARTIAL, 30_000),
        (3 * MINUTE, BarStatus.PARTIAL, 10_000),
        (4 * MINUTE, BarStatus.FINAL, 0),
    ]
    ((_, event),) = partition.outcome.events
    assert (event.kind, event.from_, event.to) == ("gap", MONDAY + 30_000, MONDAY + 3 * MINUTE + 10_000)


def test_lost_records_are_a_gap_up_to_the_next_watermark(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0), watermark(30_000 - 1))
    partition.lose()
    (bar,) = partition.take(watermark(2 * MINUTE))
    assert (bar.status, bar.feed_gap_ms) == (BarStatus.PARTIAL, 30_000)
    partition.take(tick(2 * MINUTE + 1))
    assert partition.outcome.events == []
    (bar,) = partition.take(watermark(3 * MINUTE))
    assert (bar.status, bar.feed_gap_ms) == (BarStatus.PARTIAL, 1)


def test_one_tick_from_the_future_does_not_make_repeats_of_the_rest(partition: Partition) -> None:
    partition.begin()
    future = tick(10 * MINUTE, ts_recv=MONDAY * 1_000)
    partition.take(future, tick(100), future)
    assert (partition.outcome.reasons.tolist(), len(partition.outcome.clean), partition.outcome.repeats) == ([6], 1, 1)


def test_a_timeframe_added_by_a_setting_starts_with_its_next_whole_bar(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0))
    partition.rules = Rules(("M1", "M5", "H1"))
    bars = partition.take(tick(MINUTE), watermark(5 * MINUTE), tick(5 * MINUTE + 1), watermark(10 * MINUTE))
    assert [(bar.timeframe, bar.ts_open - MONDAY) for bar in bars if bar.timeframe == "M5"] == [("M5", 5 * MINUTE)]


def test_a_change_of_spec_is_copied_once_and_leaves_open_bars_their_rules(partition: Partition) -> None:
    partition.begin()
    partition.take(tick(0))
    changed = control("symbol_spec", symbol="BTCUSD", spec=spec("BTCUSD", point=1e-3))
    (first, second) = partition.take(changed, changed, tick(MINUTE), tick(2 * MINUTE))
    assert len(partition.outcome.specs) == 1
    assert [event.text for _, event in partition.outcome.events] == ["point 1e-05 -> 0.001"]
    assert (first.rules, second.rules) == tuple(terms_of(s, 60_000).hash for s in (spec("BTCUSD"), changed.spec) if s)


def test_bars_of_the_last_price_count_trades_only(partition: Partition) -> None:
    partition.begin(chart_mode="last")
    trade = {"flags": 8 | 16, "volume": 2.5}
    bars = partition.take(
        tick(0),
        tick(1, last=7.0, **trade),
        tick(2, 0.0, 0.0, last=6.0, **trade),
        tick(3),
        tick(4, flags=8),
        tick(MINUTE),
    )
    assert partition.outcome.reasons.tolist() == [3]
    (bar,) = bars
    assert (bar.open, bar.close, bar.tick_volume, bar.real_volume, bar.tick_count) == (7.0, 6.0, 2, 5.0, 2)


def test_a_zero_has_no_sign(partition: Partition) -> None:
    partition.begin(chart_mode="last")
    nothing = {"last": 1.0, "flags": 24, "volume": -0.0}
    (bar,) = partition.take(tick(0, -0.0, -0.0, **nothing), tick(1, 0.0, 0.0, **nothing), tick(MINUTE))
    assert str([bar.ask_open, bar.ask_high, bar.ask_low, bar.ask_close, bar.real_volume]) == str([0.0] * 5)


@pytest.mark.parametrize(
    "broken",
    [{"point": 0.0}, {"point": float("nan")}, {"zone": "Mars"}, {"calendar": "{"}, {"symbol": "OTHER"}, {"feed": "b"}],
)
def test_a_spec_that_cannot_be_worked_with_is_a_dead_letter(partition: Partition, broken: dict[str, object]) -> None:
    partition.begin()
    wrong = replace(spec("BTCUSD"), **broken)  # type: ignore[arg-type]
    partition.take(control("symbol_spec", symbol="BTCUSD", spec=wrong), tick(0))
    assert [type(error) for _, error in partition.outcome.dead] == [DecodeError]
    assert len(partition.outcome.clean) == 1


def test_the_hash_is_of_rules_and_not_of_names() -> None:
    usual = terms_of(spec("EURUSD"), 60_000).hash
    assert terms_of(spec("EURUSD", shard="b", broker_name="EURUSD.x", feed="f"), 60_000).hash == usual
    for change in ({"zone": "UTC"}, {"point": 1e-4}, {"crossed": "keep"}, {"chart_mode": "last"}, {"calendar": ""}):
        assert terms_of(spec("EURUSD", **change), 60_000).hash != usual


def test_progress_says_where_to_go_on() -> None:
    state = State(watermarks={"f/b": 2, "f/a": 1})
    assert [mark.shard for mark in progress(state, 7).watermarks] == ["f/a", "f/b"]
    assert restore([], progress(state, 7), RULES).watermarks == state.watermarks


NIGHT = 21 * 60 * MINUTE
"""Midnight of the server's Tuesday, New York being on summer time."""


def counted(partition: Partition, *names: str, **changes: object) -> None:
    partition.rules = Rules(names)
    partition.begin(**changes)
    partition.take(control("coverage", "BTCUSD", time=MONDAY - 86_400_000))


def shown(bars: list[Bar]) -> list[tuple[int | None, int, int, int, int]]:
    return [
        ((b.day or 0) - MONDAY - NIGHT, b.number, b.ts_open - MONDAY - NIGHT, b.ts_close - MONDAY - NIGHT, b.tick_count)
        for b in bars
    ]


def test_a_tick_bar_closes_with_the_tick_that_fills_it_and_at_midnight(partition: Partition) -> None:
    counted(partition, "T:2")
    bars = partition.take(*(tick(NIGHT + at) for at in (5, 9, 20, 30, 40)), watermark(NIGHT + 86_400_000))
    assert shown(bars) == [(0, 0, 0, 10, 2), (0, 1, 10, 31, 2), (0, 2, 31, 86_400_000, 1)]
    assert [bar.key for bar in bars] == [f"BTCUSD|T:2|{MONDAY + NIGHT}.{number}" for number in range(3)]
    assert {bar.status for bar in bars} == {BarStatus.FINAL}
    assert [closed.cause_offset for closed in partition.outcome.closed] == [4, 6, 8]
    partition.take(tick(NIGHT + 86_399_999))
    assert partition.outcome.reasons.tolist() == [5]
    assert shown(partition.take(tick(NIGHT + 86_400_000), tick(NIGHT + 86_400_000, ordinal=1))) == [
        (86_400_000, 0, 86_400_000, 86_400_001, 2)
    ]


def test_volume_is_the_exchanges_or_tick_volume_and_value_is_price_times_volume(partition: Partition) -> None:
    counted(partition, "V:2", "N:2.1")
    bars = partition.take(
        tick(NIGHT), tick(NIGHT + 1, flags=4, volume=9.0), tick(NIGHT + 2), tick(NIGHT + 3), tick(NIGHT + 4)
    )
    assert [(b.timeframe, b.tick_count, b.tick_volume) for b in bars] == [
        ("V:2", 3, 2), ("N:2.1", 3, 2), ("V:2", 2, 2), ("N:2.1", 2, 2)
    ]  # fmt: skip


def test_volume_and_value_of_trades(partition: Partition) -> None:
    counted(partition, "V:5", "N:30", chart_mode="last")
    trades = [tick(NIGHT + at, last=4.0, flags=24, volume=2.0) for at in range(4)]
    bars = partition.take(tick(NIGHT), *(replace(each, ordinal=1) for each in trades))
    assert [(b.timeframe, b.tick_count, b.real_volume) for b in bars] == [("V:5", 3, 6.0), ("N:30", 4, 8.0)]


def test_a_gap_is_in_the_count_bar_that_it_may_have_shortened(partition: Partition) -> None:
    counted(partition, "T:2")
    gap = control("gap", "BTCUSD", from_=MONDAY + NIGHT + 500, to=MONDAY + NIGHT + 800)
    first, second, third = partition.take(
        tick(NIGHT), tick(NIGHT + 1), gap, *(tick(NIGHT + at) for at in (900, 910, 920, 930))
    )
    assert [(b.status, b.feed_gap_ms) for b in (first, second, third)] == [
        (BarStatus.FINAL, 0), (BarStatus.PARTIAL, 300), (BarStatus.FINAL, 0)
    ]  # fmt: skip


def test_a_day_that_began_before_coverage_has_no_count_bars(partition: Partition) -> None:
    partition.rules = Rules(("T:1",))
    partition.begin()
    assert partition.take(tick(0), tick(1)) == []
    ((live, _),) = partition.outcome.live
    assert [(count.number, count.since - MONDAY) for count in live.counts] == [(2, 2)]
    partition.rules = Rules(("T:1", "T:2"))
    bars = partition.take(tick(NIGHT - 2), tick(NIGHT - 1), tick(NIGHT), tick(NIGHT + 1))
    assert [(bar.timeframe, bar.number) for bar in bars] == [("T:1", 0), ("T:1", 1), ("T:2", 0)]


def test_a_correction_revises_the_rest_of_its_day(partition: Partition) -> None:
    counted(partition, "T:2")
    partition.take(*(tick(NIGHT + at) for at in (0, 10, 20, 30, 40, 50, 60)))
    bars = partition.take(tick(NIGHT + 25, 1.3, 1.4, correction=True))
    assert shown(bars) == [(0, 1, 11, 26, 2), (0, 2, 26, 41, 2), (0, 3, 41, 61, 2)]
    assert [(bar.status, bar.revision) for bar in bars] == [
        (BarStatus.REVISED, 1), (BarStatus.REVISED, 1), (BarStatus.FINAL, 0)
    ]  # fmt: skip
    ((_, event),) = partition.outcome.events
    assert event.text.endswith(", revised T:2")
    (bar,) = partition.take(tick(NIGHT + 70), tick(NIGHT + 80))
    assert (bar.number, bar.tick_count) == (4, 2)


def test_a_correction_of_a_day_that_has_closed_leaves_the_next_alone(partition: Partition) -> None:
    counted(partition, "T:2")
    partition.take(*(tick(NIGHT + at) for at in (0, 10, 20)), tick(NIGHT + 86_400_000))
    bars = partition.take(tick(NIGHT + 86_399_000, correction=True))
    assert shown(bars) == [(0, 1, 11, 86_399_001, 2)]
    assert [bar.revision for bar in partition.take(tick(NIGHT + 86_399_500, correction=True))] == [1]


@pytest.mark.parametrize("lost", [0, 1])
def test_count_bars_stay_where_their_ticks_are_gone(partition: Partition, lost: int) -> None:
    counted(partition, "T:2")
    ticks = [tick(NIGHT + at) for at in (0, 10, 20, 30, 40)]
    topic = [(c.bar, c) for _ in [partition.take(*ticks)] for c in partition.outcome.closed]
    live = [series.live() for series in partition.state.series.values()]
    late = tick(NIGHT + 15, correction=True)
    given = batch([message(late)], partition.offset)
    partition.state = restore(live, None, partition.rules)
    wanted = lacking(partition.state, given.frame, partition.rules)
    there = batch([message(item) for item in ticks if item not in ticks[2 : 2 + lost]], 0).frame
    partition.state = recalled(partition.state, wanted, {"BTCUSD": Found([c for _, c in topic], there)})
    bars = partition.take(late)
    ((_, event),) = partition.outcome.events
    if lost:
        assert (bars, len(partition.outcome.clean)) == ([], 1)
        assert event.text.endswith(", left T:2 as cut before")
    else:
        assert [bar.number for bar in bars] == [1, 2]
