"""Bars around the daylight-saving weekends of 2025: brokers of both rules, FX and around the clock, in UTC.

Those that the processor makes of what a producer publishes, and the server's own as `arbitrex rates` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from infra.market.calendar import default_calendar
from infra.market.zones import ServerZone
from processors.core.state import State
from processors.core.step import step
from processors.core.types import Batch, Rules
from producers.cursor import Cursor
from producers.encoding import TickColumns
from producers.history.rates import TERMINAL_TIMEFRAMES, bars
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from schemas.columns import dtypes
from schemas.records import Bar, Control, ControlKind, SymbolSpec
from tests.producers.test_poll import HOUR, Recorder, StepClock, poller

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
    market, recorder = Market(7, 0.05, copies=11), Recorder(zone)  # of so many symbols, all these blocks are kept
    terminal = SimulatedTerminal(market, zone, clock)
    terminal.initialize()
    terminal.symbol_select(symbol, True)
    start, end = clock.now, ms(sunday) + 2 * 86_400_000
    polls = poller(terminal, clock, recorder, {symbol: Cursor(start)}, patience_seconds=0, reread_minutes=0)
    while clock.now < end:
        clock.now += 3_500_000
        polls.cycle()
    times = np.concatenate([columns.ts_event for columns in recorder.columns])
    expected = np.concatenate(list(market.ticks(symbol, start, clock.now + 1)))
    assert times.tolist() == expected["time_msc"].tolist()

    made = bars_of(symbol, name, recorder.columns, start, clock.now)
    for timeframe, found in made.items():
        first, last = (int(zone.to_server(np.array([moment]))[0]) // 1_000 for moment in (start, clock.now))
        rates = terminal.copy_rates_range(symbol, TERMINAL_TIMEFRAMES[timeframe], first, last)
        assert rates is not None
        own = bars(rates, symbol=symbol, feed="sim", timeframe=timeframe, zone=zone, closed_by=clock.now - 60_000)
        assert found
        assert numbers(found) == numbers(bar for bar in own if bar.ts_open >= start), "the server's own bars"

    opens, closes = ({getattr(bar, edge) for bar in made["D1"]} for edge in ("ts_open", "ts_close"))
    days = [ms(f"2025-{day}") for day in DAYS[name, sunday]]
    assert set(days[1:]) <= opens | closes, "Monday's and Tuesday's days"
    if symbol == "BTCUSD":
        lengths = {bar.ts_open: bar.ts_close for bar in made["D1"]}
        assert lengths[days[0]] == days[1], "a day of 23, 24 or 25 hours"
        hours = [bar.ts_open for bar in made["H1"]]
        assert set(np.diff(hours)) == {HOUR}, "no hour is missing, none is there twice"
    four = {bar.ts_open for bar in made["H4"] if bar.ts_open >= days[1]}
    assert four <= {days[1] + n * 4 * HOUR for n in range(24)}, "four-hour bars go with the server's midnight"


def bars_of(
    symbol: str, zone: str, published: Sequence[TickColumns], since: int, until: int
) -> Mapping[str, Sequence[Bar]]:
    """The bars that the processor makes of what was published, by timeframe."""
    calendar = default_calendar(symbol).to_json()
    named = SymbolSpec(
        symbol=symbol, feed="sim", shard="a", broker_name=symbol, digits=5, point=1e-5, zone=zone, calendar=calendar
    )
    if symbol == "BTCUSD":
        named = replace(named, digits=2, point=0.01)
    control = Control(kind=ControlKind.SYMBOL_SPEC, feed="sim", shard="a", symbol=symbol, time=since)
    frames = [
        pl.DataFrame({field: getattr(columns, field) for field in TickColumns.__slots__}) for columns in published
    ]
    ticks = pl.concat(frames).with_columns(symbol=pl.lit(symbol), feed=pl.lit("sim"), correction=pl.lit(value=False))
    count = len(ticks) + 3
    others = [
        (0, replace(control, spec=named)),
        (1, replace(control, kind=ControlKind.COVERAGE)),
        (count - 1, replace(control, kind=ControlKind.WATERMARK, symbol=None, time=until - 60_000)),
    ]
    frame = (
        ticks.with_columns(index=pl.int_range(2, count - 1))
        .select("index", *dtypes("Tick"))
        .cast(pl.Schema(dtypes("Tick")))
    )
    keys = [symbol.encode()] * (count - 1) + [b"@sim/a"]
    stamps = [since, since, *ticks["ts_event"].to_list(), until - 60_000]
    outcome, _ = step(State(), Batch(frame, others, [], keys, stamps, range(count)), Rules(("H1", "H4", "D1")))
    assert len(outcome.clean) == len(ticks)
    found: dict[str, list[Bar]] = {}
    for closed in outcome.closed:
        found.setdefault(closed.bar.timeframe, []).append(closed.bar)
    return found


def numbers(found: Iterable[Bar]) -> list[tuple[float, ...]]:
    """What a terminal knows of bars too, but for their ticks: it counts one in a minute in which only the ask moved."""
    return [(bar.ts_open, bar.ts_close, bar.open, bar.high, bar.low, bar.close, bar.spread) for bar in found]
