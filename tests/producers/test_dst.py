"""Bars around the daylight-saving weekends of 2025: brokers of both rules, FX and around the clock, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from producers.cursor import Cursor
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from tests.producers.test_poll import Recorder, StepClock, poller

DAYS = {  # the last server midnight before each change and the two after it, UTC
    ("New_York+7", "2025-03-09"): ["03-08T22:00", "03-09T21:00", "03-10T21:00"],
    ("New_York+7", "2025-11-02"): ["11-01T21:00", "11-02T22:00", "11-03T22:00"],
    ("Europe/Athens", "2025-03-30"): ["03-29T22:00", "03-30T21:00", "03-31T21:00"],
    ("Europe/Athens", "2025-10-26"): ["10-25T21:00", "10-26T22:00", "10-27T22:00"],
    ("New_York+7", "2025-03-30"): ["03-29T21:00", "03-30T21:00", "03-31T21:00"],  # the other rule's weekend
    ("Europe/Athens", "2025-11-02"): ["11-01T22:00", "11-02T22:00", "11-03T22:00"],
}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("name", "sunday", "symbol"),
    [(*weekend, "BTCUSD") for weekend in DAYS] + [(*weekend, "EURUSD") for weekend in list(DAYS)[1:3]],
)
def test_days_and_hours_open_when_they_should(name: str, sunday: str, symbol: str) -> None:
    zone, clock = ServerZone.parse(name), StepClock(ms(sunday) - 86_400_000)
    market, recorder = Market(7, 0.2), Recorder(zone)
    terminal = SimulatedTerminal(market, zone, clock)
    terminal.initialize()
    terminal.symbol_select(symbol, True)
    start, end = clock.now, ms(sunday) + 2 * 86_400_000
    polls = poller(terminal, clock, recorder, {symbol: Cursor(start - 1)}, patience_seconds=0, reread_minutes=0)
    while clock.now < end:
        clock.now += 3_500_000
        polls.cycle()
    times = np.concatenate([columns.ts_event for columns in recorder.columns])
    expected = np.concatenate(list(market.ticks(symbol, start, clock.now + 1)))
    assert times.tolist() == expected["time_msc"].tolist()

    opens, closes = (set(edges.tolist()) for edges in bounds("D1", times, zone))
    days = [ms(f"2025-{day}") for day in DAYS[name, sunday]]
    assert set(days[1:]) <= opens, "Monday's and Tuesday's days"
    if symbol == "BTCUSD":
        assert set(days) <= opens | closes
        lengths = dict(zip(*bounds("D1", times, zone), strict=True))
        assert lengths[days[0]] == days[1], "a day of 23, 24 or 25 hours"
        hours = sorted(set(bounds("H1", times, zone)[0].tolist()))
        assert set(np.diff(hours)) == {3_600_000}, "no hour is missing, none is there twice"
    four = {opening for opening in bounds("H4", times, zone)[0].tolist() if opening >= days[1]}
    whole = {days[1] + n * int(timedelta(hours=4).total_seconds()) * 1_000 for n in range(-6, 24)}
    assert four <= whole, "four-hour bars go with the server's midnight"
