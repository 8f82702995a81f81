"""The terminal of the settings."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from infra.market.zones import ServerZone
from infra.settings import ProducerSettings, Settings, SimulatorSettings
from producers.clock import Clock, FastClock, RealClock
from producers.cursor import Cursor
from producers.remote.client import RemoteTerminal
from producers.simulated.faults import Faults
from producers.simulated.market import Market, Quotes
from producers.simulated.package import TradingTerminal
from producers.simulated.recorded import Recorded
from producers.terminal import Terminal
from producers.zones import AUTO
from schemas.errors import SettingsError, SourceError, UsageError

FIRST_START_MS: Final = 1_800_000
"""How far back a first start begins, at the least."""

_OF_CALL_SECONDS: Final = 0.8
"""A remote terminal's call is given up before this process is taken to hang."""

_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Source:
    """A terminal, the clock of its world, and where a series begins that was never begun."""

    terminal: Terminal
    clock: Clock
    begin_ms: int
    """UTC, a full hour, so that no bar of an hour or less begins truncated."""


def zone(settings: Settings) -> ServerZone | None:
    """The zone of the broker's clock; None when the terminal is to tell it. Raises SettingsError."""
    if settings.producer.zone == AUTO:
        return None
    simulated = settings.producer.source == "simulated" and "zone" not in settings.producer.model_fields_set
    return ServerZone.parse(settings.simulator.zone if simulated else settings.producer.zone)


def open_source(settings: Settings, reached: Callable[[], Mapping[str, Cursor]]) -> Source:
    """The source of the settings; ``reached``: the cursors (in UTC) that one with a clock of its own goes on after.

    Raises SettingsError.
    """
    if settings.producer.source == "mt5":
        clock = RealClock()
        return Source(metatrader(), clock, _full_hour(clock.now_ms() - FIRST_START_MS))
    if settings.producer.source == "remote":
        return _remote(settings.producer)
    return _simulated(settings, reached)


def check(settings: Settings) -> None:
    """Raise SettingsError for what no source can do."""
    simulator = settings.simulator
    if simulator.start is None:
        if simulator.speed != 1.0:
            raise SettingsError(
                f"ARBITREX_SIMULATOR__SPEED={simulator.speed:g} needs ARBITREX_SIMULATOR__START, a moment in the past"
            )
        return
    start = _start_ms(simulator.start)
    if start > RealClock().now_ms():
        raise SettingsError(f"ARBITREX_SIMULATOR__START={simulator.start} is in the future: give a moment in the past")
    if settings.world == "main":
        raise SettingsError(
            f"ARBITREX_SIMULATOR__START={simulator.start} needs a world of its own, since nothing old enters the live "
            "one: set ARBITREX_WORLD, or start with --world NAME"
        )


def _remote(producer: ProducerSettings) -> Source:
    _, _, port = producer.remote.address.rpartition(":")
    if not port.isdigit():
        raise SettingsError(f"ARBITREX_PRODUCER__REMOTE__ADDRESS={producer.remote.address}: write HOST:PORT")
    clock = RealClock()
    patience = producer.call_seconds * _OF_CALL_SECONDS
    return Source(
        RemoteTerminal(producer.remote, patience).terminal, clock, _full_hour(clock.now_ms() - FIRST_START_MS)
    )


def simulated_clock(simulator: SimulatorSettings) -> Clock:
    """The clock of a simulated terminal that stands by itself."""
    return RealClock() if simulator.start is None else FastClock(_start_ms(simulator.start), simulator.speed)


def _simulated(settings: Settings, reached: Callable[[], Mapping[str, Cursor]]) -> Source:
    simulator = settings.simulator
    clock: Clock = RealClock()
    begin = _full_hour(clock.now_ms() - FIRST_START_MS)
    if simulator.start is not None:
        begin = _full_hour(_start_ms(simulator.start))
        last = max((cursor.last_msc for cursor in reached().values()), default=begin)
        clock = FastClock(max(begin, last), simulator.speed)
    return Source(simulated_terminal(simulator, clock), clock, begin)


def simulated_terminal(simulator: SimulatorSettings, clock: Clock) -> TradingTerminal:
    """The terminal of the settings. Raises SettingsError."""
    try:
        faults = Faults.parse(simulator.faults, simulator.seed)
    except SettingsError as error:
        raise SettingsError(f"ARBITREX_SIMULATOR__FAULTS: {error}") from error
    zone = ServerZone.parse(simulator.zone)
    return TradingTerminal(_quotes(simulator, zone), zone, clock, faults)


def _quotes(simulator: SimulatorSettings, zone: ServerZone) -> Quotes:
    if simulator.ticks is None:
        return Market(simulator.seed, simulator.rate, simulator.copies)
    try:
        return Recorded(simulator.ticks, zone)
    except (UsageError, SourceError) as error:
        raise SettingsError(f"ARBITREX_SIMULATOR__TICKS: {error}") from error


def metatrader() -> Terminal:
    try:
        return cast("Terminal", importlib.import_module("MetaTrader5"))
    except ImportError as error:
        where = (
            "install it with: pip install 'arbitrex[mt5]'"
            if sys.platform == "win32"
            else "it exists for Windows only: run the producer there, with ARBITREX_KAFKA__BOOTSTRAP_SERVERS set to "
            "these brokers, or use ARBITREX_PRODUCER__SOURCE=simulated"
        )
        raise SettingsError(f"ARBITREX_PRODUCER__SOURCE=mt5 needs the MetaTrader5 package; {where}") from error


def _start_ms(text: str) -> int:
    try:
        start = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"ARBITREX_SIMULATOR__START={text} is not a moment: write it like 2026-03-02T08:00:00Z"
        ) from error
    return int((start if start.tzinfo else start.replace(tzinfo=UTC)).timestamp() * 1_000)


def _full_hour(ms: int) -> int:
    return ms // _HOUR_MS * _HOUR_MS
