from __future__ import annotations

import math
from threading import Event

import pytest

from producers import pace as paces
from producers.pace import Pace


class Time:
    """Stands for the module, in ``producers.pace``."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Waits(Event):
    """An event on which to wait takes no time but the clock's."""

    def __init__(self, clock: Time) -> None:
        super().__init__()
        self.clock, self.waited = clock, 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.clock.now += timeout
        self.waited += timeout
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(paces, "time", clock)
    return clock


def test_event_time_runs_at_its_multiple_and_stands_while_held(clock: Time) -> None:
    pace = Pace(10, Event())
    assert pace.moment() == -math.inf
    pace.begin(5_000)
    clock.now += 2
    assert pace.moment() == 25_000
    assert pace.toggle()
    clock.now += 3_600
    assert pace.held
    assert pace.moment() == 25_000
    assert not pace.toggle()
    clock.now += 1
    assert pace.moment() == 35_000


def test_reach_waits_as_long_as_the_speed_says(clock: Time) -> None:
    stopping = Waits(clock)
    pace = Pace(2, stopping)
    pace.reach(1_000)
    assert stopping.waited == 0
    pace.reach(5_000)
    assert stopping.waited == pytest.approx(2)
    pace.reach(4_000)
    assert stopping.waited == pytest.approx(2)
    stopping.set()
    pace.reach(10**9)
    assert Pace(None, stopping).moment() == math.inf
