"""One shard: its terminal, how it is connected, and how its series begin."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from threading import Event
from typing import Final, TypeVar

from infra import logs, metrics
from infra.market.zones import ServerZone
from infra.settings import ProducerSettings
from infra.symbols import Symbols, years_around
from producers.clock import Clock
from producers.cursor import Cursor, to_record
from producers.failures import TerminalAwayError, TryAgainError, UnknownSymbolError, failure, unknown_symbol
from producers.opening import open_terminal
from producers.publisher import Publisher
from producers.restore import server_time
from producers.terminal import CHART_MODE_LAST, OK, SymbolInfo, Terminal
from schemas.records import ChartMode, Control, ControlKind, CrossedPolicy, EventKind, FeedEvent, SymbolSpec

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0

Found = TypeVar("Found")

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of the shard's symbols the broker offers."""

    infos: Mapping[str, SymbolInfo]
    """By the broker's name."""
    absent: frozenset[str]
    """Canonical names of those that it offered once."""


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
    return enter(shard, lambda: True) is not None


def enter(shard: Shard, look: Callable[[], Found]) -> Found | None:
    """Connect the terminal and ``look`` what it has, both again as long as that can help; None when asked to stop."""
    pause, told, terminal = _FIRST_PAUSE, False, shard.terminal
    while not shard.stopping.is_set():
        try:
            info = open_terminal(terminal, shard.settings.terminal)
            found = look()
        except (TerminalAwayError, TryAgainError) as error:
            count_error(shard, terminal.last_error()[0])
            if not told:
                log.warning("waiting for the terminal", reason=str(error))
                told = True
        else:
            tell(shard, EventKind.CONNECTED, info.name)
            return found
        shard.stopping.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)
    return None


def disconnected(shard: Shard, error: TerminalAwayError) -> None:
    """Say that the terminal is away, and let go of it."""
    count_error(shard, shard.terminal.last_error()[0])
    tell(shard, EventKind.DISCONNECTED, str(error))
    shard.terminal.shutdown()


def choose(shard: Shard, known: Collection[str] = ()) -> Chosen:
    """The symbols to poll, in the MarketWatch; ``known``: canonical names of those that the shard had before.

    Raises SettingsError for one that the broker does not have and never had.
    """
    terminal, settings = shard.terminal, shard.settings
    offered = terminal.symbols_get()
    if offered is None:
        raise failure("symbols_get", terminal.last_error())
    by_name = {info.name: info for info in offered}
    names = shard.symbols.names(settings.feed)
    absent = frozenset(known) - {names.name(name).symbol for name in by_name}
    chosen: dict[str, SymbolInfo] = {}
    for pattern in settings.symbols or ("*",):
        found = [name for name in by_name if fnmatchcase(name, pattern)]
        meant = names.name(pattern).symbol
        if not found and not any(fnmatchcase(symbol, pattern) or symbol == meant for symbol in absent):
            raise unknown_symbol(pattern, by_name, settings.feed)
        chosen |= {name: by_name[name] for name in found}
    reselect(shard, chosen)
    return Chosen(chosen, absent)


def newly_offered(shard: Shard, known: AbstractSet[str]) -> Mapping[str, SymbolInfo]:
    """What the broker offers that the shard's patterns choose, but for its symbols ``known``, in the MarketWatch.

    Raises what `choose` raises for the terminal.
    """
    patterns = shard.settings.symbols or ("*",)
    if known >= set(patterns):
        return {}  # they are names, and all are there
    offered = shard.terminal.symbols_get()
    if offered is None:
        raise failure("symbols_get", shard.terminal.last_error())
    fresh = {
        info.name: info
        for info in offered
        if info.name not in known and any(fnmatchcase(info.name, pattern) for pattern in patterns)
    }
    reselect(shard, fresh)
    return fresh


def reselect(shard: Shard, infos: Mapping[str, SymbolInfo]) -> None:
    """Put the shard's symbols into the MarketWatch; one that the broker has dropped shows when it is polled."""
    terminal = shard.terminal
    for info in infos.values():
        if not terminal.symbol_select(info.name, True):
            error = failure(f"symbol_select({info.name})", terminal.last_error())
            if not isinstance(error, UnknownSymbolError):
                raise error


def specify(shard: Shard, infos: Mapping[str, SymbolInfo], since: int) -> None:
    """Publish each series' spec, as it is from ``since`` on, UTC."""
    for symbol, info in infos.items():
        shard.publisher.control(_control(shard, ControlKind.SYMBOL_SPEC, symbol, since, _spec(shard, info, symbol)))


def begin(
    shard: Shard, begin_ms: int, infos: Mapping[str, SymbolInfo], known: Mapping[str, Cursor]
) -> dict[str, Cursor]:
    """Publish each series' spec, and coverage where nothing was published yet; where each goes on, in UTC.

    A new series begins at ``begin_ms``, UTC. Its cursor stands in Kafka before its coverage, so that a crash between
    the two, or a stop, cannot move its beginning.
    """
    publisher = shard.publisher
    fresh = Cursor(begin_ms)
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
        since = cursor.last_msc
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


def tell(shard: Shard, kind: EventKind, text: str, symbol: str | None = None) -> None:
    """Write a line of the feed's ledger."""
    publisher = shard.publisher
    publisher.event(
        FeedEvent(
            time=shard.clock.now_ms(),
            kind=kind,
            feed=publisher.feed,
            shard=publisher.shard,
            symbol=symbol,
            text=text,
        )
    )


def dropped(shard: Shard, symbol: str) -> None:
    """Say that the broker does not offer a symbol that it did offer."""
    tell(shard, EventKind.DISCONNECTED, "the broker does not offer it any more", symbol)
    log.warning("the broker does not offer a symbol any more", symbol=symbol)


def count_error(shard: Shard, code: int) -> None:
    """Count a failed call by its code; what fails without one is the connection to the broker."""
    reason = "offline" if code == OK else str(code)
    metrics.SOURCE_ERRORS.labels(shard.publisher.feed, shard.publisher.shard, reason).inc()


def count_recovery(shard: Shard, reason: str) -> None:
    """Count what is right again, by what it took."""
    metrics.SOURCE_RECOVERIES.labels(shard.publisher.feed, shard.publisher.shard, reason).inc()
