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
from producers.failures import TryAgainError
from producers.shard import Shard, begin, choose, enter
from producers.simulated.faults import Faults
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from schemas.errors import SettingsError
from schemas.records import Control, CrossedPolicy, EventKind, FeedEvent, SymbolSpec

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
        self.told: list[tuple[EventKind, str | None]] = []

    def cursor(self, *_: object) -> None: ...

    def flush(self, _: float) -> bool:
        return True

    def control(self, control: Control) -> None:
        if control.spec is not None:
            self.specs[control.spec.symbol] = control.spec

    def event(self, event: FeedEvent) -> None:
        self.told.append((event.kind, event.symbol))


def opened(recorder: Recorder, *faults: str, rules: dict[str, SymbolRule] | None = None, **settings: Any) -> Shard:
    terminal = SimulatedTerminal(Market(7), ZONE, Clock(), Faults.parse(faults))
    terminal.initialize()
    return Shard(terminal, ZONE, Clock(), recorder, ProducerSettings(**settings), Symbols(rules or {}), Event())  # type: ignore[arg-type]


def specs(rules: dict[str, SymbolRule], **settings: Any) -> dict[str, SymbolSpec]:
    recorder = Recorder()
    shard = opened(recorder, rules=rules, **settings)
    begin(shard, NOW, choose(shard).infos, {})
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


@pytest.mark.parametrize("pattern", ["USDJPY", "USDJ*"])
def test_a_symbol_that_the_broker_dropped_while_the_shard_was_off_does_not_end_it(pattern: str) -> None:
    shard = opened(Recorder(), "drop=USDJPY", symbols=("EURUSD", pattern))
    with pytest.raises(SettingsError, match="has no USDJ"):
        choose(shard)
    chosen = choose(shard, ["EURUSD", "USDJPY"])
    assert set(chosen.infos) == {"EURUSD"}
    assert chosen.absent == {"USDJPY"}


def test_a_terminal_that_fails_while_it_is_looked_at_is_connected_and_looked_at_again() -> None:
    recorder, left = Recorder(), [TryAgainError("copy_rates_range: Call failed"), TryAgainError("again")]

    def look() -> str:
        if left:
            raise left.pop()
        return "seen"

    shard = opened(recorder)
    assert enter(shard, look) == "seen"
    assert recorder.told == [(EventKind.CONNECTED, None)]
    shard.stopping.set()
    assert enter(shard, look) is None
