from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.market.calendar import default_calendar
from infra.market.zones import ServerZone
from producers import terminal as api
from producers.simulated.instruments import INSTRUMENTS
from producers.simulated.market import BLOCK_MS, Market
from producers.simulated.terminal import SimulatedTerminal
from producers.terminal import TICK_DTYPE, Ticks

HOUR = 3_600_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


TUESDAY = at("2026-03-03T14:00")
SATURDAY = at("2026-03-07T14:00")
ZONE = ServerZone.parse("New_York+7")


class Clock:
    def __init__(self, now: int) -> None:
        self.now = now

    def now_us(self) -> int:
        return self.now * 1_000

    def now_ms(self) -> int:
        return self.now


def window(market: Market, symbol: str, start: int, end: int) -> Ticks:
    return np.concatenate([np.empty(0, TICK_DTYPE), *market.ticks(symbol, start, end)])


@given(
    st.sampled_from(sorted(INSTRUMENTS)), st.lists(st.integers(0, 3 * BLOCK_MS), min_size=2, max_size=5), st.integers()
)
@settings(max_examples=20)
def test_any_window_can_be_asked_again_and_joins_its_neighbours(symbol: str, cuts: list[int], seed: int) -> None:
    cuts = [TUESDAY + cut for cut in sorted(cuts)]
    whole = window(Market(seed), symbol, cuts[0], cuts[-1])
    other = Market(seed)
    parts = [window(other, symbol, a, b) for a, b in pairwise(cuts)][::-1]
    assert np.concatenate(parts[::-1]).tobytes() == whole.tobytes()


def test_another_seed_is_another_market() -> None:
    one, other = (window(Market(seed), "EURUSD", TUESDAY, TUESDAY + HOUR) for seed in (1, 2))
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("symbol", sorted(INSTRUMENTS))
def test_ticks_look_like_a_market(symbol: str) -> None:
    instrument = INSTRUMENTS[symbol]
    ticks = window(Market(7), symbol, TUESDAY, TUESDAY + 2 * HOUR)
    times, bid, ask = ticks["time_msc"], ticks["bid"], ticks["ask"]
    assert len(ticks) > 2_000
    assert (np.diff(times) >= 0).all()
    assert (np.diff(times) == 0).any(), "several ticks in a millisecond"
    assert any((np.diff(times) == 0) & (np.diff(bid) == 0) & (np.diff(ask) == 0)), "identical ones too"
    points = np.rint((ask - bid) / instrument.point)
    assert points.min() >= 1, "never crossed or locked"
    assert 0.3 * instrument.spread < np.median(points) < 3 * instrument.spread
    assert np.array_equal(np.round(bid, instrument.digits), bid)
    counts = np.bincount((times - times[0]) // 1_000)
    assert counts.var() > 1.5 * counts.mean(), "bursts: more uneven than chance"
    minutes = np.log(bid[np.searchsorted(times, np.arange(times[0], times[-1], 60_000))])
    yearly = np.diff(minutes).std() * np.sqrt(365.25 * 1_440)
    assert 0.5 * instrument.volatility < yearly < 2 * instrument.volatility


def test_prices_are_continuous_across_blocks() -> None:
    market = Market(7)
    for block in range(TUESDAY // BLOCK_MS, TUESDAY // BLOCK_MS + 6):
        before = market.last_tick("EURUSD", block * BLOCK_MS)
        after = window(market, "EURUSD", block * BLOCK_MS, block * BLOCK_MS + 60_000)[0]
        assert before is not None
        assert abs(float(before[0]["bid"]) - float(after["bid"])) < 0.001


def test_sessions_are_the_calendars() -> None:
    market = Market(7)
    week = at("2026-03-02T00:00")
    for symbol in ("EURUSD", "XAUUSD", "BTCUSD"):
        calendar = default_calendar(symbol)
        times = window(market, symbol, week + 90 * HOUR, week + 170 * HOUR)["time_msc"]
        assert (calendar.closed_reasons(times) == 0).all()
    assert not len(window(market, "EURUSD", SATURDAY, SATURDAY + HOUR))
    assert len(window(market, "BTCUSD", SATURDAY, SATURDAY + HOUR)) > 1_000
    last = market.last_tick("EURUSD", SATURDAY)
    assert last is not None
    assert at("2026-03-06T21:50") < int(last[0]["time_msc"]) < at("2026-03-06T22:00")


def test_rate_multiplies_ticks() -> None:
    usual, busy = (len(window(Market(7, rate), "EURUSD", TUESDAY, TUESDAY + HOUR)) for rate in (1, 5))
    assert busy > 4 * usual


class TestTerminal:
    @pytest.fixture
    def terminal(self) -> SimulatedTerminal:
        return SimulatedTerminal(Market(7), ZONE, Clock(TUESDAY))

    def test_before_initialize_everything_fails(self, terminal: SimulatedTerminal) -> None:
        assert terminal.symbols_get() is None
        assert terminal.last_error()[0] == api.NO_CONNECTION
        assert terminal.symbol_select("EURUSD") is False
        assert terminal.copy_ticks_from("EURUSD", TUESDAY // 1_000, 10, -1) is None
        assert terminal.terminal_info() is None

    def test_a_symbol_has_no_quotes_until_it_is_selected(self, terminal: SimulatedTerminal) -> None:
        assert terminal.initialize()
        assert terminal.symbol_info_tick("EURUSD") is None
        assert terminal.last_error()[0] == api.NOT_FOUND
        assert terminal.symbol_select("EURUSD", True)
        tick = terminal.symbol_info_tick("EURUSD")
        assert tick is not None
        assert terminal.last_error() == (1, "Success")
        shown = int(ZONE.to_server(np.array([TUESDAY]))[0])
        assert shown - 60_000 < tick.time_msc <= shown
        assert shown - TUESDAY == 2 * HOUR
        assert tick._asdict()["bid"] == tick.bid
        assert not hasattr(tick, "_fields")

    def test_arrays_are_as_the_package_makes_them(self, terminal: SimulatedTerminal) -> None:
        terminal.initialize()
        terminal.symbol_select("EURUSD", True)
        second = TUESDAY // 1_000 + 7_200 - 60
        ticks = terminal.copy_ticks_from("EURUSD", second + 0.9, 50, api.COPY_TICKS_ALL)
        assert ticks is not None
        assert ticks.dtype == TICK_DTYPE
        assert ticks.itemsize == 60
        assert not ticks.flags.writeable
        again = terminal.copy_ticks_from("EURUSD", datetime.fromtimestamp(second, UTC), 50, api.COPY_TICKS_ALL)
        assert again is not None
        assert again.tobytes() == ticks.tobytes(), "dates are truncated to whole seconds"
        assert int(ticks["time"][0]) >= second
        later = terminal.copy_ticks_from("EURUSD", second + 86_400, 50, api.COPY_TICKS_ALL)
        assert later is not None
        assert len(later) == 0
        assert terminal.last_error()[0] == api.OK

    @pytest.mark.parametrize("date", [np.int64(1_700_000_000), "2026-01-01", 1_700_000_000_000, 0, None])
    def test_wrong_arguments_are_refused(self, terminal: SimulatedTerminal, date: object) -> None:
        terminal.initialize()
        terminal.symbol_select("EURUSD", True)
        assert terminal.copy_ticks_from("EURUSD", date, 10, -1) is None  # type: ignore[arg-type]
        assert terminal.last_error()[0] == api.INVALID_PARAMS
        assert terminal.symbol_info("X" * 30) is None
        assert terminal.last_error() == (api.INVALID_PARAMS, "Invalid arguments")
        with pytest.raises(TypeError):
            terminal.copy_ticks_from(symbol="EURUSD", date_from=1, count=1, flags=-1)  # type: ignore[call-arg]

    def test_a_probe_is_quick(self, terminal: SimulatedTerminal) -> None:
        terminal.initialize()
        terminal.symbol_select("EURUSD", True)
        terminal.symbol_info_tick("EURUSD")
        began = time.perf_counter()
        for _ in range(200):
            terminal.symbol_info_tick("EURUSD")
        assert (time.perf_counter() - began) / 200 < 0.005
