"""Closed bars are asked for when a correction needs them, once, and kept for a day."""

from __future__ import annotations

import polars as pl

from processors.core.recall import Found, Lack, lacking, recalled, released
from processors.core.state import State, restore
from processors.core.step import step
from processors.core.types import Rules
from schemas.records import Control, Tick
from tests.core.streams import batch, message, spec
from tests.core.test_meaning import MINUTE, MONDAY, RULES, control, tick

DAY = 24 * 60 * MINUTE


def taken(state: State, *records: Tick | Control) -> State:
    return step(state, batch([message(record) for record in records], 0), RULES)[1]


def asked(state: State, *ticks: Tick, rules: Rules = RULES) -> dict[str, Lack]:
    return lacking(state, frame(*ticks), rules)


def frame(*ticks: Tick) -> pl.DataFrame:
    return batch([message(item) for item in ticks], 0).frame


def restarted(state: State) -> State:
    return restore([series.live() for series in state.series.values()], None, RULES)


def started() -> State:
    begin = control("symbol_spec", symbol="BTCUSD", spec=spec("BTCUSD")), control("coverage", "BTCUSD")
    return restarted(taken(State(), *begin, tick(0), tick(DAY)))


def test_only_a_correction_of_the_last_day_asks() -> None:
    state = started()
    assert asked(state, tick(DAY + 1)) == {}
    assert asked(state, tick(-1, correction=True)) == {}
    assert asked(state, tick(-1, correction=True), tick(0, correction=True), tick(DAY + 1)) == {
        "BTCUSD": Lack(MONDAY, None)
    }


def test_it_is_asked_once_until_a_day_passes_without_a_correction() -> None:
    late = tick(DAY - MINUTE, correction=True)
    state = taken(recalled(started(), {"BTCUSD": Lack(MONDAY, None)}, {"BTCUSD": Found([], None)}), tick(DAY + 1), late)
    again = tick(DAY - MINUTE + 1, correction=True)
    state = released(taken(released(state, frame()), tick(2 * DAY - MINUTE)), frame())
    assert asked(state, again) == {}
    state = taken(state, tick(2 * DAY))
    assert asked(released(state, frame()), tick(2 * DAY - 1, correction=True)) == {"BTCUSD": Lack(MONDAY + DAY, None)}


def test_a_symbol_whose_first_tick_has_just_come_needs_nothing() -> None:
    assert asked(State(), tick(0), tick(1, correction=True)) == {}


def test_count_bars_need_the_ticks_of_the_corrections_day_and_the_bars_of_three() -> None:
    rules = Rules(("M1", "T:5"))
    state, late = started(), tick(DAY - MINUTE, correction=True)
    assert asked(state, late, rules=rules) == {"BTCUSD": Lack(MONDAY - 2 * DAY, MONDAY + 21 * 60 * MINUTE)}
    state = recalled(state, asked(state, late, rules=rules), {"BTCUSD": Found([], frame(tick(DAY)))})
    state = step(state, batch([message(late)], 0), rules)[1]
    assert asked(released(state, frame(late)), late, rules=rules) == {}
    assert asked(released(state, frame()), late, rules=rules) == {"BTCUSD": Lack(None, MONDAY + 21 * 60 * MINUTE)}
