from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.rates import timeframe
from infra.mapping import Named, NameMap
from infra.market.zones import ServerZone
from producers.failures import TooMuchError, failure
from producers.files.days import DAY_MS, Day, Span
from producers.history.backfill import Past
from producers.history.choosing import choose
from producers.history.spans import MINUTE_MS, chunks, in_parts, unticked
from producers.history.terminals import Offered, Question, TerminalProcess
from producers.simulated.faults import Faults
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from producers.terminal import COPY_TICKS_ALL, TICK_DTYPE, Ticks
from schemas.errors import SettingsError, UsageError

ZONE = ServerZone.parse("New_York+7")


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1_000)


START, END = ms("2025-10-22T00:00"), ms("2025-10-22T12:00")


class Standing:
    def __init__(self, moment: int) -> None:
        self._moment = moment

    def now_ms(self) -> int:
        return self._moment

    def now_us(self) -> int:
        return self._moment * 1_000


class Direct(TerminalProcess):
    """The simulated terminal, asked without a process between."""

    def __init__(self, *faults: str, most: int | None = None) -> None:
        self.asked: list[Question] = []
        self._most = most
        self._terminal = SimulatedTerminal(Market(3), ZONE, Standing(ms("2025-10-23")), Faults.parse(faults, 1))
        assert self._terminal.initialize()

    def ask(self, question: Question) -> Ticks:
        self.asked.append(question)
        name, first, last = question.broker_name, question.first, question.last
        if self._most is not None and last - first > self._most:
            raise TooMuchError("too much")
        assert self._terminal.symbol_select(name)
        rows = (
            self._terminal.copy_ticks_range(name, first, last, COPY_TICKS_ALL)
            if question.timeframe is None
            else self._terminal.copy_rates_range(name, question.timeframe, first, last)
        )
        if rows is None:
            raise failure(str(question), self._terminal.last_error())
        return rows


def load(terminal: Direct, start: int = START, end: int = END) -> list[Day]:
    past = Past(terminal, ZONE, Event(), patience_seconds=0.0)
    return [day.load() for day in past.days(Named("EURUSD", "EURUSD"), start, end)]


def expected(start: int = START, end: int = END) -> list[int]:
    shown: list[int] = ZONE.to_server(np.concatenate(list(Market(3).ticks("EURUSD", start, end)))["time_msc"]).tolist()
    return shown


def times(days: list[Day]) -> list[int]:
    return [int(time) for day in days for time in day.ticks["time_msc"]]


@pytest.mark.parametrize("end", [END, END + 1, END + 999, ms("2025-10-22T21:00") + 1])
def test_days_hold_all_ticks_of_the_span_and_no_others(end: int) -> None:
    days = load(Direct(), START, end)
    assert times(days) == expected(START, end)
    assert not any(day.missing for day in days)


def test_what_is_too_much_at_once_is_asked_for_in_parts() -> None:
    terminal = Direct(most=3_600)
    assert times(load(terminal)) == expected()
    assert max(question.last - question.first for question in terminal.asked[1:]) > 3_600


def test_ticks_that_the_terminals_bars_tell_of_are_missing_and_said_so() -> None:
    days = load(Direct("forget@2025-10-22T05:10:20Z+600"))
    kept = ms("2025-10-22T05:20:20")
    assert times(days) == expected(kept)
    (span,) = [span for day in days for span in day.missing]
    shown = ZONE.to_server(np.array([START, ms("2025-10-22T05:20")])).tolist()
    assert span == tuple(shown), "whole minutes without a tick"


@given(
    st.integers(0, 40 * DAY_MS), st.integers(1, 40 * DAY_MS), st.sampled_from([1, 5, 60, 1440]), st.integers(1, 10**5)
)
def test_chunks_cover_a_span_and_are_what_a_terminal_gives(start: int, length: int, minutes: int, most: int) -> None:
    end, bar = start + length, minutes * MINUTE_MS
    found = list(chunks(start, end, bar, most))
    assert found[0][0] == start
    assert found[-1][1] == end
    assert all(first[1] == second[0] and first[1] % DAY_MS == 0 for first, second in pairwise(found))
    assert all(until - since <= max(most * bar, DAY_MS) for since, until in found)


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1_000, 10**8))
def test_halves_are_the_whole(start: int, seconds: int, most: int) -> None:
    length = max(1_000, min(seconds, most // 20) * 1_000)

    def ask(span: Span) -> Ticks:
        if span[1] - span[0] > most:
            raise TooMuchError("too much")
        rows = np.zeros(1, TICK_DTYPE)
        rows["time_msc"] = span[0]
        return rows

    cuts = in_parts(ask, (start * 1_000, start * 1_000 + length))["time_msc"].tolist()
    assert cuts[0] == start * 1_000
    assert all(after > before for before, after in pairwise(cuts))


def test_a_second_that_is_too_much_is_an_error() -> None:
    def ask(_: Span) -> Ticks:
        raise TooMuchError("no memory")

    with pytest.raises(TooMuchError):
        in_parts(ask, (0, DAY_MS))


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_every_minute_with_a_bar_has_ticks_or_is_missing(bars: set[int], ticks: set[int]) -> None:
    spans = unticked(np.array(sorted(bars), np.int64) * MINUTE_MS, np.array(sorted(ticks), np.int64) * MINUTE_MS + 17)
    inside = {minute for minute in range(51) if any(a <= minute * MINUTE_MS < b for a, b in spans)}
    assert bars - ticks <= inside
    assert not inside & ticks
    assert all(a // MINUTE_MS in bars and b // MINUTE_MS - 1 in bars for a, b in spans)


OFFERED = [Offered(name, 5, 1e-5, 0, "") for name in ("EURUSD.r", "GBPUSD.r", "GOLD", "XAUUSD.r")]
NAMES = NameMap({"GOLD": "XAUEUR", "*.r": "*"})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["EURUSD"], ["EURUSD"]), (["EURUSD.r"], ["EURUSD"]), (["*USD"], ["EURUSD", "GBPUSD", "XAUUSD"]),
        (["GOLD", "EUR*"], ["EURUSD", "XAUEUR"]), (["*"], ["EURUSD", "GBPUSD", "XAUEUR", "XAUUSD"]),
    ],
)  # fmt: skip
def test_symbols_are_meant_by_either_name_or_a_pattern(wanted: list[str], found: list[str]) -> None:
    assert [named.symbol for named, _ in choose(OFFERED, wanted, NAMES, "f")] == found


def test_a_symbol_that_there_is_not_is_told_with_near_ones() -> None:
    with pytest.raises(UsageError, match="the broker of feed f has no eurusdd; near: EURUSD"):
        choose(OFFERED, ["eurusdd"], NAMES, "f")
    with pytest.raises(SettingsError, match="would all be called XAUUSD"):
        choose(OFFERED, ["*"], NameMap({"GOLD": "XAUUSD", "*.r": "*"}), "f")


@pytest.mark.parametrize(("text", "name"), [("1H", "H1"), ("h4", "H4"), ("15m", "M15"), ("1MN", "MN1"), ("W1", "W1")])
def test_timeframes_are_understood_both_ways(text: str, name: str) -> None:
    assert timeframe(text) == name


@pytest.mark.parametrize("text", ["H5", "5", "1X", "T:1000", ""])
def test_what_is_no_timeframe(text: str) -> None:
    with pytest.raises(UsageError, match="none of MetaTrader's: M1 M2"):
        timeframe(text)
