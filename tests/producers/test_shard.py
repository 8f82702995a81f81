"""How a series begins: its spec, whole."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest

from infra.market.calendar import Calendar, default_calendar
from infra.market.zones import ServerZone
from infra.settings import ProducerSettings
from infra.symbols import SymbolRule, Symbols
from producers.shard import Shard, begin, choose
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from schemas.errors import SettingsError
from schemas.records import Control, CrossedPolicy, SymbolSpec

NOW = int(datetime(2025, 6, 2, 12, tzinfo=UTC).timestamp() * 1_000)
ZONE = ServerZone.parse("New_York+7")


class Clock:
    def now_ms(self) -> int:
        return NOW

    def now_us(self) -> int:
        return NOW * 1_000


class Recorder:
    feed, shard = "sim", "a"

    def __init__(self) -> None:
        self.specs: dict[str, SymbolSpec] = {}

    def cursor(self, *_: object) -> None: ...

    def flush(self, _: float) -> bool:
        return True

    def control(self, control: Control) -> None:
        if control.spec is not None:
            self.specs[control.spec.symbol] = control.spec


def specs(rules: dict[str, SymbolRule], **settings: Any) -> dict[str, SymbolSpec]:
    terminal, recorder = SimulatedTerminal(Market(7), ZONE, Clock()), Recorder()
    terminal.initialize()
    shard = Shard(terminal, ZONE, Clock(), recorder, ProducerSettings(**settings), Symbols(rules), Event())  # type: ignore[arg-type]
    begin(shard, NOW, choose(shard), {})
    return recorder.specs


def test_the_whole_calendar_is_in_the_spec() -> None:
    found = specs({"GBP*": SymbolRule(calendar="XLON", holidays=("2025-06-03",))}, symbols=("EURUSD", "GBPUSD"))
    assert found["EURUSD"].calendar == default_calendar("EURUSD").to_json()
    london = Calendar.from_json(found["GBPUSD"].calendar)
    assert (london.name, london.years) == ("XLON", (2024, 2027))
    assert {"2025-06-03", "2025-12-24 12:30/16:30", "2027-01-01"} <= set(map(str, london.holidays))


@pytest.mark.parametrize("policy", ["reject", "keep"])
def test_the_feeds_crossed_policy_is_in_the_spec(policy: str) -> None:
    assert specs({}, symbols=("EURUSD",), crossed=policy)["EURUSD"].crossed == CrossedPolicy(policy)


def test_a_calendar_that_cannot_be_had_stops_the_start() -> None:
    with pytest.raises(SettingsError, match=r"EUR\*: no calendar is called 'XLOM'"):
        specs({"EUR*": SymbolRule(calendar="XLOM")}, symbols=("EURUSD",))
