"""One shard: its terminal, how it is connected, and how its series begin."""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Final

from infra import logs, metrics
from infra.market.zones import ServerZone
from infra.settings import ProducerSettings
from infra.symbols import Symbols, years_around
from producers.clock import Clock
from producers.cursor import Cursor, to_record
from producers.failures import TerminalAwayError, failure
from producers.publisher import Publisher
from producers.restore import server_time
from producers.terminal import CHART_MODE_LAST, SymbolInfo, Terminal
from schemas.errors import ArbitrexError, SettingsError
from schemas.records import ChartMode, Control, ControlKind, CrossedPolicy, EventKind, FeedEvent, SymbolSpec

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """What one terminal process works with."""

    terminal: Terminal
    zone: ServerZone
    clock: Clock
    publisher: Publisher
    settings: ProducerSettings
    symbols: Symbols
    stopping: Event


def connect(shard: Shard) -> bool:
    """Connect the terminal, trying again as long as that can help; False when asked to stop meanwhile."""
    pause, told, terminal = _FIRST_PAUSE, False, shard.terminal
    while not shard.stopping.is_set():
        info = terminal.terminal_info() if terminal.initialize() else None
        if info is not None and info.connected:
            _tell(shard, EventKind.CONNECTED, info.name)
            return True
        error: ArbitrexError = (
            failure("initialize", terminal.last_error())
            if info is None
            else TerminalAwayError("the terminal has no connection to its broker")
        )
        _count(shard)
        if not isinstance(error, TerminalAwayError):
            raise error
        if not told:
            log.warning("waiting for the terminal", reason=str(error))
            told = True
        shard.stopping.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)
    return False


def disconnected(shard: Shard, error: TerminalAwayError) -> None:
    """Say that the terminal is away, and let go of it."""
    _count(shard)
    _tell(shard, EventKind.DISCONNECTED, str(error))
    shard.terminal.shutdown()


def choose(shard: Shard) -> Mapping[str, SymbolInfo]:
    """The symbols to poll, in the MarketWatch. Raises SettingsError for one that the broker does not have."""
    terminal, settings = shard.terminal, shard.settings
    offered = terminal.symbols_get()
    if offered is None:
        raise failure("symbols_get", terminal.last_error())
    by_name = {info.name: info for info in offered}
    for name in settings.symbols:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=5, cutoff=0.4)
            raise SettingsError(
                f"ARBITREX_PRODUCER__SYMBOLS: the broker of feed {settings.feed} has no {name}"
                + (f"; near: {', '.join(near)}" if near else "")
            )
    chosen = {name: by_name[name] for name in settings.symbols or by_name}
    for name in chosen:
        if not terminal.symbol_select(name, True):
            raise failure(f"symbol_select({name})", terminal.last_error())
    return chosen


def begin(
    shard: Shard, begin_ms: int, infos: Mapping[str, SymbolInfo], known: Mapping[str, Cursor]
) -> dict[str, Cursor]:
    """Publish each series' spec, and coverage where nothing was published yet; where each goes on, in UTC.

    A new series begins at ``begin_ms``, UTC. Its cursor stands in Kafka before its coverage, so that a crash between
    the two, or a stop, cannot move its beginning.
    """
    publisher = shard.publisher
    fresh = Cursor(begin_ms - 1)
    shown = server_time(fresh.last_msc, shard.zone)
    cursors = {symbol: known.get(symbol, fresh) for symbol in infos}
    for symbol in infos.keys() - known.keys():
        record = to_record(fresh, last_msc=shown, feed=publisher.feed, shard=publisher.shard, symbol=symbol)
        publisher.cursor(record, fresh.last_msc)
    while not publisher.flush(1.0):
        if shard.stopping.is_set():
            return cursors
        log.info("waiting for Kafka to take the first records")
    for symbol, info in infos.items():
        cursor = cursors[symbol]
        since = cursor.last_msc + (0 if cursor.taken else 1)
        publisher.control(_control(shard, ControlKind.SYMBOL_SPEC, symbol, since, _spec(shard, info, symbol)))
        if not cursor.taken:
            publisher.control(_control(shard, ControlKind.COVERAGE, symbol, since))
    return cursors


def _control(shard: Shard, kind: ControlKind, symbol: str, time: int, spec: SymbolSpec | None = None) -> Control:
    publisher = shard.publisher
    return Control(kind=kind, feed=publisher.feed, shard=publisher.shard, symbol=symbol, time=time, spec=spec)


def _spec(shard: Shard, info: SymbolInfo, symbol: str) -> SymbolSpec:
    return SymbolSpec(
        symbol=symbol,
        feed=shard.publisher.feed,
        shard=shard.publisher.shard,
        broker_name=info.name,
        digits=info.digits,
        point=info.point,
        chart_mode=ChartMode.LAST if info.chart_mode == CHART_MODE_LAST else ChartMode.BID,
        zone=shard.zone.name,
        crossed=CrossedPolicy(shard.settings.crossed),
        calendar=shard.symbols.calendar(symbol, years_around(shard.clock.now_ms())).to_json(),
    )


def _tell(shard: Shard, kind: EventKind, text: str) -> None:
    publisher = shard.publisher
    publisher.event(
        FeedEvent(time=shard.clock.now_ms(), kind=kind, feed=publisher.feed, shard=publisher.shard, text=text)
    )


def _count(shard: Shard) -> None:
    reason = str(shard.terminal.last_error()[0])
    metrics.SOURCE_ERRORS.labels(shard.publisher.feed, shard.publisher.shard, reason).inc()
