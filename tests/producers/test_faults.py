"""Each fault of the simulated terminal, alone: what a client of the package sees of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.zones import ServerZone
from producers import terminal as api
from producers.simulated.faults import Faults, Kind
from producers.simulated.history import LATE_BY_MS
from producers.simulated.market import Market
from producers.simulated.terminal import Installation, SimulatedTerminal
from producers.terminal import COPY_TICKS_ALL, Ticks
from schemas.errors import SettingsError

ZONE = ServerZone.parse("New_York+7")
NOW = int(datetime(2026, 3, 3, 14, tzinfo=UTC).timestamp() * 1_000)
BEGAN = "2026-03-03T14:00:00Z"


class Clock:
    now = NOW

    def now_us(self) -> int:
        return self.now * 1_000

    def now_ms(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def terminal(clock: Clock, *script: str) -> SimulatedTerminal:
    made = SimulatedTerminal(Market(7), ZONE, clock, Faults.parse(script, seed=7))
    made.initialize()
    made.symbol_select("EURUSD", True)
    return made


def ticks(of: SimulatedTerminal, since: int, count: int = 100_000) -> Ticks | None:
    shown = int(ZONE.to_server(np.array([since]))[0]) // 1_000
    return of.copy_ticks_from("EURUSD", shown, count, COPY_TICKS_ALL)


def test_a_cold_symbol_gives_nothing_then_its_newest_part_then_all(clock: Clock) -> None:
    whole = ticks(terminal(clock), NOW - 600_000)
    cold = terminal(clock, "cold=20")
    assert ticks(cold, NOW - 600_000) is None
    assert cold.last_error()[0] == api.FAIL
    clock.now += 12_000
    part = ticks(cold, NOW - 600_000)
    clock.now += 12_000
    again = ticks(cold, NOW - 600_000)
    assert whole is not None
    assert part is not None
    assert again is not None
    assert 0 < len(part) < len(whole) < len(again)
    assert part["time_msc"][0] > whole["time_msc"][0]
    assert again[: len(whole)].tobytes() == whole.tobytes()


def test_a_broken_pipe_needs_initialize(clock: Clock) -> None:
    broken = terminal(clock, f"pipe@{BEGAN}+5")
    assert broken.symbol_info_tick("EURUSD") is None
    assert broken.last_error()[0] in {api.IPC_SEND, api.IPC_RECEIVE}
    clock.now += 6_000
    assert broken.symbol_info_tick("EURUSD") is None
    assert broken.last_error()[0] == api.NO_CONNECTION
    assert broken.initialize()
    assert broken.symbol_info_tick("EURUSD") is not None


@pytest.mark.parametrize(
    ("fault", "code"), [("timeout", api.IPC_TIMEOUT), ("refused", api.AUTH_FAILED)], ids=["timeout", "refused"]
)
def test_initialize_fails(fault: str, code: int, clock: Clock) -> None:
    made = terminal(clock, fault)
    assert made.initialize() is False
    assert made.last_error()[0] == code
    assert made.symbols_get() is None
    assert made.last_error()[0] == api.NO_CONNECTION


def test_offline_cached_data_still_answers(clock: Clock) -> None:
    made = terminal(clock, f"offline@{BEGAN}+60")
    clock.now += 30_000
    info, tick = made.terminal_info(), made.symbol_info_tick("EURUSD")
    assert info is not None
    assert not info.connected
    assert tick is not None
    assert tick.time_msc <= ZONE.to_server(np.array([NOW]))[0]
    rows = ticks(made, NOW - 10_000)
    assert rows is not None
    assert (rows["time_msc"] <= ZONE.to_server(np.array([NOW]))[0]).all()
    clock.now += 60_000
    newer = ticks(made, NOW - 10_000)
    assert newer is not None
    assert len(newer) > len(rows)


def test_history_lags_the_probe(clock: Clock) -> None:
    made = terminal(clock, "lag=30")
    tick, rows = made.symbol_info_tick("EURUSD"), ticks(made, NOW - 120_000)
    assert tick is not None
    assert rows is not None
    assert rows["time_msc"][-1] <= tick.time_msc - 25_000


def test_late_ticks_stand_in_their_place_in_the_end(clock: Clock) -> None:
    late = terminal(clock, "late=0.3")
    first = ticks(late, NOW - LATE_BY_MS)
    clock.now += LATE_BY_MS + 1
    then, whole = ticks(late, NOW - LATE_BY_MS), ticks(terminal(clock), NOW - LATE_BY_MS)
    assert first is not None
    assert then is not None
    assert whole is not None
    end = ZONE.to_server(np.array([NOW]))[0]
    in_time, at_last, ever = (int((rows["time_msc"] <= end).sum()) for rows in (first, then, whole))
    assert in_time < at_last == ever


def test_a_flood_is_more_than_a_page_in_one_second(clock: Clock) -> None:
    made = terminal(clock, f"flood=12000@{BEGAN}+1")
    clock.now += 5_000
    rows = ticks(made, NOW)
    assert rows is not None
    assert np.bincount(rows["time"] - rows["time"][0]).max() >= 12_000
    assert (np.diff(rows["time_msc"]) >= 0).all()
    page = ticks(made, NOW, 10_000)
    assert page is not None
    assert page.tobytes() == rows[:10_000].tobytes()


def test_what_is_forgotten_is_gone_from_the_history(clock: Clock) -> None:
    made, whole = terminal(clock, f"forget@{BEGAN}+5"), terminal(clock)
    before, all_before = ticks(made, NOW - 900_000), ticks(whole, NOW - 900_000)
    assert before is not None
    assert all_before is not None
    assert before.tobytes() == all_before.tobytes()
    clock.now += 60_000
    rows, ever = ticks(made, NOW - 900_000), ticks(whole, NOW - 900_000)
    assert rows is not None
    assert ever is not None
    assert rows.tobytes() == ever[ever["time_msc"] >= ZONE.to_server(np.array([NOW + 5_000]))[0]].tobytes()


def test_the_broker_moves_to_another_zone(clock: Clock) -> None:
    made = terminal(clock, f"zone=UTC@{BEGAN}+86400")
    clock.now += 60_000
    rows = ticks(made, NOW - 60_000)
    assert rows is not None
    assert (np.diff(rows["time_msc"]) < -7_000_000).sum() == 1
    tick = made.symbol_info_tick("EURUSD")
    assert tick is not None
    assert abs(tick.time_msc - clock.now) < 30_000
    last = int(rows["time"][np.diff(rows["time_msc"], append=0) < 0][0])
    asked = made.copy_ticks_from("EURUSD", last, 10, COPY_TICKS_ALL)
    assert asked is not None
    assert int(asked["time"][0]) == last, "nothing from before, whatever the clock shows since"


def test_other_switches(clock: Clock) -> None:
    account = terminal(clock, "account=7").account_info()
    assert account is not None
    assert account.login == 7
    dropped = terminal(clock, "drop=EURUSD")
    assert dropped.symbol_info("EURUSD") is None
    assert dropped.last_error()[0] == api.NOT_FOUND
    small = terminal(clock, "memory=100")
    assert ticks(small, NOW - 60_000, 101) is None
    assert small.last_error()[0] == api.NO_MEMORY
    assert ticks(small, NOW - 60_000, 100) is not None
    failing = terminal(clock, "fail=0.5")
    answers = [ticks(failing, NOW - 1_000) is None for _ in range(40)]
    assert 5 < sum(answers) < 35


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"login": 1, "password": "simulated"}, api.AUTH_FAILED),
        ({"login": 1_000_001, "password": "wrong"}, api.AUTH_FAILED),
        ({"login": 1_000_001, "server": "Other-Live"}, api.AUTH_FAILED),
        ({"path": "C:\\nowhere\\terminal64.exe"}, api.IPC_INITIALIZE),
        ({"path": Installation().path + "\\terminal64.exe"}, api.OK),
        ({"login": "1000001"}, api.INVALID_PARAMS),
    ],
)
def test_initialize_takes_what_the_terminal_knows(options: dict[str, Any], code: int, clock: Clock) -> None:
    made = SimulatedTerminal(Market(7), ZONE, clock)
    assert made.initialize(**options) is (code == api.OK)
    assert made.last_error()[0] == code


@given(st.integers(0, 10**6), st.integers(1, 50), st.integers(0, 3 * 10**7))
def test_a_recurring_fault_holds_once_in_each_interval_and_is_the_same_again(seed: int, length: int, at: int) -> None:
    faults = Faults.parse([f"hang@every60+{length}"], seed)
    found = list(faults.spans(Kind.HANG, at, at + 600_000))
    assert 9 <= len(found) <= 12
    assert all(until - since == length * 1_000 for since, until, _ in found)
    assert found == list(Faults.parse([f"hang@every60+{length}"], seed).spans(Kind.HANG, at, at + 600_000))
    for since, until, _ in found:
        assert faults.active(Kind.HANG, since) is not None
        assert faults.active(Kind.HANG, until - 1) is not None


@pytest.mark.parametrize(
    "entry", ["nonsense", "hang@tomorrow+5", "zone", "lag=much", "hang@2026-03-03T14:00:00Z", "hang=", "cold=@every5+1"]
)
def test_a_wrong_script_is_named(entry: str) -> None:
    with pytest.raises(SettingsError, match=entry.split("=", maxsplit=1)[0].split("@", maxsplit=1)[0]):
        Faults.parse([entry])
