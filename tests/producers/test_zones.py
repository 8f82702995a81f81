"""The broker's zone found from its bars, and noticed when it is moved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from infra.market.zones import ServerZone
from producers import zones
from producers.clocks import ServerClockError, check_ahead, check_fallen, offset
from producers.failures import TryAgainError
from producers.restore import server_time
from producers.simulated.faults import Faults
from producers.simulated.history import History
from producers.simulated.market import Market
from producers.simulated.rates import RatesStore
from producers.simulated.terminal import SimulatedTerminal
from producers.terminal import RATES_DTYPE
from schemas.errors import SettingsError

NOW = int(datetime(2026, 3, 3, 14, tzinfo=UTC).timestamp() * 1_000)


class Clock:
    def now_us(self) -> int:
        return NOW * 1_000

    def now_ms(self) -> int:
        return NOW


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture(scope="module")
def store(market: Market) -> RatesStore:
    """Bars in UTC, made once for all zones."""
    return RatesStore(History(market, Faults()))


@pytest.mark.parametrize("name", ["New_York+7", "Europe/Athens", "UTC", "UTC+3", "Europe/London"])
def test_the_ends_of_the_weeks_tell_the_zone(name: str, market: Market, store: RatesStore) -> None:
    terminal = SimulatedTerminal(market, ServerZone.parse(name), Clock())
    terminal._rates = store
    terminal.initialize()
    assert zones.detect(terminal, ["XAUUSD", "EURUSD"], NOW).name == name


def test_without_a_currency_pair_the_setting_is_asked_for(market: Market) -> None:
    terminal = SimulatedTerminal(market, ServerZone.parse("UTC"), Clock())
    terminal.initialize()
    with pytest.raises(SettingsError, match=r"ZONE=auto: the broker offers no currency pair.*New_York"):
        zones.detect(terminal, ["BTCUSD"], NOW)


class Cold(SimulatedTerminal):
    """Its history is still being fetched."""

    def copy_rates_range(self, *_: Any) -> Any:
        return np.empty(0, RATES_DTYPE)


def test_bars_that_are_not_there_yet_are_waited_for(market: Market) -> None:
    terminal = Cold(market, ServerZone.parse("UTC"), Clock())
    terminal.initialize()
    with pytest.raises(TryAgainError, match=r"ZONE=auto: the terminal has no hourly bars of EURUSD yet"):
        zones.detect(terminal, ["EURUSD"], NOW)


def test_the_weeks_asked_for_tell_all_candidates_apart_that_differ_at_all() -> None:
    found = [ServerZone.parse(name) for name in zones.CANDIDATES]
    weeks = zones.telling_weeks(NOW, found)
    assert len(weeks) <= 10
    assert all(datetime.fromtimestamp(week / 1_000, UTC).weekday() == 4 for week in weeks)
    seen = [tuple(server_time(week, zone) - week for week in weeks) for zone in found]
    assert len(set(seen)) == len(found)


def test_a_clock_that_was_moved_is_of_the_commonest_zone_that_fits() -> None:
    zone = ServerZone.parse("New_York+7")
    assert zones.by_offset(1_200, NOW, other_than=zone) is ServerZone.parse("UTC")
    assert zones.by_offset(7_200_000, NOW, other_than=zone) is ServerZone.parse("Europe/Athens")
    assert zones.by_offset(600_000, NOW, other_than=zone) is None


def test_what_is_wrong_with_which_clock_is_said() -> None:
    zone = ServerZone.parse("UTC")
    with pytest.raises(ServerClockError, match=r"3600 s ahead .* ARBITREX_PRODUCER__ZONE"):
        check_ahead(NOW + 3_600_000, NOW, zone)
    with pytest.raises(ServerClockError, match=r"1000 s ahead .* this machine's clock is wrong"):
        check_ahead(NOW + 1_000_000, NOW, zone)
    with pytest.raises(ServerClockError, match=r"set back by 7200 s.* ARBITREX_PRODUCER__ZONE"):
        check_fallen(NOW - 7_200_000, NOW, zone)
    check_fallen(NOW - 60_000, NOW, zone)
    assert offset(3_000) is None
    assert "300 s behind this machine's: this machine's clock is wrong" in str(offset(300_000))
    assert "3600 s behind this machine's: set ARBITREX_PRODUCER__ZONE" in str(offset(3_600_000))
