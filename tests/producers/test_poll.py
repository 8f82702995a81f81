"""The poll loop against terminals that are asked at awkward moments; what it gives to Kafka is recorded instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from threading import Event
from typing import Any

import numpy as np
import pytest

from infra.market.zones import ServerZone
from infra.settings import ProducerSettings
from infra.symbols import Symbols
from producers.clock import Clock
from producers.cursor import Cursor, from_record
from producers.encoding import TickColumns
from producers.poll import Poller
from producers.publisher import Publisher
from producers.shard import Shard, begin, choose
from producers.simulated.market import Market
from producers.simulated.structs import Tick
from producers.simulated.terminal import SimulatedTerminal
from producers.terminal import TICK_DTYPE, Terminal, Ticks
from schemas.records import Control
from schemas.records import Cursor as CursorRecord

HOUR = 3_600_000
CHANGE = 1_793_512_800_000
"""2026-11-01T06:00Z: New York's clocks go back, and so does a broker's at New York + 7 h, from 09:00 to 08:00."""

ZONE = ServerZone.parse("New_York+7")


class StepClock:
    def __init__(self, now: int) -> None:
        self.now = now

    def now_us(self) -> int:
        return self.now * 1_000

    def now_ms(self) -> int:
        return self.now


class Recorder(Publisher):
    """Keeps what is published."""

    def __init__(self, zone: ServerZone = ZONE) -> None:
        self.feed, self.shard, self.zone = "sim", "a", zone
        self.columns: list[TickColumns] = []
        self.kept: dict[str, Cursor] = {}
        self.late: Counter[str] = Counter()
        self.said: list[Control | TickColumns] = []

    def ticks(self, symbol: str, ticks: TickColumns, *, correction: bool = False) -> None:
        assert symbol
        self.late[symbol] += len(ticks) if correction else 0
        self.columns.append(ticks)
        self.said.append(ticks)

    def control(self, control: Control) -> None:
        self.said.append(control)

    def watermark(self, control: Control, symbols: Iterable[str]) -> None:
        assert list(symbols)
        self.said.append(control)

    def cursor(self, cursor: CursorRecord, time: int) -> None:
        assert cursor.last_msc == self.zone.to_server(np.array([time]))[0]
        self.kept[cursor.symbol] = from_record(cursor, time)

    def flush(self, timeout: float) -> bool:
        return timeout >= 0


def shard_of(terminal: Terminal, clock: Clock, recorder: Recorder, **settings: Any) -> Shard:
    return Shard(terminal, recorder.zone, clock, recorder, ProducerSettings(**settings), Symbols({}), Event())


def poller(terminal: Terminal, clock: Clock, recorder: Recorder, cursors: dict[str, Cursor], **settings: Any) -> Poller:
    return Poller(shard_of(terminal, clock, recorder, **settings), cursors, {name: name for name in cursors})


@pytest.mark.parametrize("restarts", [False, True])
def test_no_tick_is_lost_or_out_of_order_where_the_servers_clock_goes_back(*, restarts: bool) -> None:
    market, clock, recorder = Market(7), StepClock(CHANGE - HOUR - 600_000), Recorder()
    terminal = SimulatedTerminal(market, ZONE, clock)
    terminal.initialize()
    terminal.symbol_select("BTCUSD", True)
    start = clock.now
    polls = poller(terminal, clock, recorder, {"BTCUSD": Cursor(start)})
    while clock.now < CHANGE + HOUR + 600_000:
        clock.now += 411_003
        before = len(recorder.columns)
        assert polls.cycle()
        assert len(recorder.columns) > before, "ticks come in every part of the hour"
        polls.save(force=True)
        if restarts:
            polls = poller(terminal, clock, recorder, dict(recorder.kept))
    got = {name: np.concatenate([getattr(each, name) for each in recorder.columns]) for name in TickColumns.__slots__}
    expected = np.concatenate(list(market.ticks("BTCUSD", start + 1, clock.now + 1)))
    assert got["ts_event"].tolist() == expected["time_msc"].tolist()
    assert got["bid"].tolist() == expected["bid"].tolist()
    assert got["server_time"].tolist() == ZONE.to_server(expected["time_msc"]).tolist()
    assert (np.diff(got["server_time"]) < -HOUR // 2).sum() == 1, "the hour was shown twice"
    identities = list(zip(got["ts_event"].tolist(), got["ordinal"].tolist(), strict=True))
    assert identities == sorted(set(identities))


@pytest.mark.parametrize("since_tick", [-1, 0, 1])
@pytest.mark.parametrize("alone", [False, True])
def test_a_series_begins_with_the_first_tick_of_its_coverage(since_tick: int, *, alone: bool) -> None:
    """Also if that is the only one so far."""
    market, recorder = Market(7), Recorder()
    times = np.unique(np.concatenate(list(market.ticks("BTCUSD", CHANGE, CHANGE + HOUR)))["time_msc"])
    at = int(times[np.flatnonzero(np.diff(times) > 1)[5]])
    clock = StepClock(at if alone else CHANGE + HOUR)
    terminal = SimulatedTerminal(market, ZONE, clock)
    terminal.initialize()
    terminal.symbol_select("BTCUSD", True)
    shard = shard_of(terminal, clock, recorder, symbols=("BTCUSD",))
    cursors = begin(shard, at + since_tick, choose(shard).infos, {})
    assert [each.time for each in recorder.said if isinstance(each, Control)] == [at + since_tick] * 2
    Poller(shard, cursors, {"BTCUSD": "BTCUSD"}).cycle()
    got = [int(time) for each in recorder.columns for time in each.ts_event]
    expected = np.concatenate(
        [[], *(part["time_msc"] for part in market.ticks("BTCUSD", at + since_tick, clock.now + 1))]
    )
    assert got == expected.tolist()
    assert not recorder.late.total()


class Hesitating(SimulatedTerminal):
    """Between the probes of two symbols half a second passes, in which the first one ticks."""

    def __init__(self, clock: StepClock) -> None:
        super().__init__(Market(7), ZONE, clock)
        self.initialize()
        self._now = clock

    def symbol_info_tick(self, symbol: str, /) -> Tick | None:
        if symbol == "B":
            self._now.now += 500
        return Tick.of(time_msc=int(ZONE.to_server(np.array([self._history(symbol)[-1]]))[0]))

    def copy_ticks_from(self, symbol: str, *_: Any) -> Ticks | None:
        times = self._history(symbol)
        ticks = np.zeros(len(times), TICK_DTYPE)
        ticks["time_msc"] = ZONE.to_server(np.array(times))
        return ticks

    def _history(self, symbol: str) -> Sequence[int]:
        every = {"A": [-5_000, 0, 1_300], "B": [-5_000, 0, 1_490]}[symbol]
        return [CHANGE + 5 * HOUR + at for at in every if CHANGE + 5 * HOUR + at <= self._now.now]


def test_no_tick_comes_after_its_watermark_when_a_poll_was_held_up_between_two_probes() -> None:
    clock, recorder = StepClock(CHANGE + 5 * HOUR), Recorder()
    start = Cursor(clock.now - 1)
    polls = poller(
        Hesitating(clock), clock, recorder, {"A": start, "B": start}, watermark_margin_ms=100, patience_seconds=0
    )
    polls.cycle()
    clock.now = CHANGE + 5 * HOUR + 1_000
    for _ in range(3):
        polls.cycle()
        clock.now += 100
    reached = -1
    for said in recorder.said:
        if isinstance(said, Control):
            reached = said.time
        else:
            assert said.ts_event.min() > reached
    assert len(recorder.columns) >= 4
