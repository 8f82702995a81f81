"""A simulated terminal that plays files of real ticks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from infra.market.zones import ServerZone
from infra.settings import SimulatorSettings
from producers.simulated.recorded import Recorded
from producers.sources import simulated_terminal
from producers.terminal import COPY_TICKS_ALL
from schemas.errors import SettingsError

DAY = 86_400_000
FIRST = int(datetime(2024, 5, 1, 8, tzinfo=UTC).timestamp() * 1_000)
ZONE = ServerZone.parse("UTC")


class Clock:
    now = FIRST + 9 * DAY + 3_600_000 - 3 * 3_600_000

    def now_us(self) -> int:
        return self.now * 1_000

    def now_ms(self) -> int:
        return self.now


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two symbols; EURUSD on two days with a day between them, a tick each ten minutes for three hours."""
    for name, days in (("EURUSD", (0, 2)), ("DE40", (0,))):
        lines = ["time,bid,ask"]
        for day in days:
            for number in range(18):
                moment = datetime.fromtimestamp((FIRST + day * DAY + number * 600_000) / 1_000, UTC)
                lines.append(f"{moment:%Y-%m-%d %H:%M:%S.000},{1.08 + day / 100 + number / 1e5:.5f},{1.0902:.5f}")
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def times(market: Recorded, start: int, end: int) -> list[int]:
    return [time for block in market.ticks("EURUSD", start, end) for time in block["time_msc"].tolist()]


def test_ticks_are_as_they_are_at_their_own_time_and_come_again(files: Path) -> None:
    market = Recorded(files, ZONE)
    assert market.period == 3 * DAY
    own = [FIRST + day * DAY + number * 600_000 for day in (0, 2) for number in range(18)]
    assert times(market, FIRST, FIRST + 3 * DAY - 1) == own
    for rounds in (-4, 1, 250):
        shift = rounds * market.period
        assert times(market, FIRST + shift, FIRST + shift + 3 * DAY - 1) == [time + shift for time in own]
    assert len(times(market, FIRST - 10 * market.period, FIRST + 10 * market.period)) == 20 * len(own)
    bids = [np.concatenate(list(market.ticks("EURUSD", own[0] + s, own[-1] + s + 1)))["bid"] for s in (0, 3 * DAY)]
    assert bids[0].tolist() == bids[1].tolist()


def test_the_last_tick_before_any_moment_is_the_last_of_those_before_it(files: Path) -> None:
    market = Recorded(files, ZONE)
    every = times(market, FIRST - 6 * DAY, FIRST + 9 * DAY)
    for moment in range(FIRST, FIRST + 6 * DAY, 7_777_777):
        last = market.last_tick("EURUSD", moment)
        assert last is not None
        assert last["time_msc"].tolist() == [max(time for time in every if time < moment)]
        assert last["time"][0] == last["time_msc"][0] // 1_000


def test_a_terminal_plays_them_now_by_its_own_clock(files: Path) -> None:
    terminal = simulated_terminal(SimulatorSettings(ticks=files, zone="UTC+3"), Clock())
    assert terminal.initialize()
    offered = {info.name: info.digits for info in terminal.symbols_get() or ()}
    assert offered == {"EURUSD": 5, "DE40": 5}
    assert terminal.symbol_select("EURUSD", True)
    now = Clock.now + 3 * 3_600_000
    tick = terminal.symbol_info_tick("EURUSD")
    ticks = terminal.copy_ticks_from("EURUSD", now // 1_000 - 2_400, 100, COPY_TICKS_ALL)
    assert tick is not None
    assert ticks is not None
    assert ticks["time_msc"].tolist() == [now - minutes * 60_000 for minutes in (40, 30, 20, 10, 0)]
    assert tick.time_msc == now
    bars = terminal.copy_rates_from_pos("EURUSD", 16_385, 0, 2)
    assert bars is not None
    assert bars["tick_volume"].sum() == 7


def test_what_is_no_tick_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing", "utf-8")
    with pytest.raises(SettingsError, match=r"ARBITREX_SIMULATOR__TICKS: .*no tick file"):
        simulated_terminal(SimulatorSettings(ticks=tmp_path), Clock())
