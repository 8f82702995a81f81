"""The simulated market behind the calls of the ``MetaTrader5`` package, as strict as the package itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np

from infra.market.zones import ServerZone, Times
from producers import terminal as api
from producers.clock import Clock
from producers.simulated.constants import CONSTANTS
from producers.simulated.faults import Faults, Kind
from producers.simulated.history import History
from producers.simulated.instruments import Instrument
from producers.simulated.market import Market
from producers.simulated.rates import RatesStore
from producers.simulated.structs import AccountInfo, SymbolInfo, TerminalInfo, Tick
from producers.simulated.troubles import Troubles
from producers.terminal import Rates, Ticks

MAX_BARS: Final = 100_000
_LONGEST_NAME: Final = 29
_LATEST_SECOND: Final = 2**31 - 1
_LONGEST_COUNT: Final = 2**31 - 1
_WANTED: Final = {
    api.COPY_TICKS_ALL: 0xFFFFFFFF,
    api.COPY_TICKS_INFO: api.FLAG_BID | api.FLAG_ASK,
    api.COPY_TICKS_TRADE: 0x08 | 0x10,
}
_TIMEFRAMES: Final = {
    value: name.removeprefix("TIMEFRAME_") for name, value in CONSTANTS.items() if name.startswith("TIMEFRAME_")
}
_TEXT: Final = {
    api.OK: "Success",
    api.FAIL: "Terminal: Call failed",
    api.INVALID_PARAMS: "Invalid arguments",
    api.NO_MEMORY: "Terminal: Out of memory",
    api.NOT_FOUND: "Terminal: Not found",
    api.AUTH_FAILED: "Terminal: Authorization failed",
    api.TRADING_DISABLED: "Terminal: AutoTrading disabled",
    api.IPC_SEND: "IPC send failed",
    api.IPC_RECEIVE: "IPC recv failed",
    api.IPC_INITIALIZE: "IPC initialize failed, MetaTrader 5 x64 not found",
    api.NO_CONNECTION: "No IPC connection",
    api.IPC_TIMEOUT: "IPC timeout",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the terminal stands, and the account it knows."""

    path: str = "C:\\Program Files\\Simulated Terminal"
    login: int = 1_000_001
    password: str = "simulated"  # noqa: S105 - of nothing
    server: str = "Arbitrex-Simulated"

    def is_at(self, path: str) -> bool:
        """Whether ``path`` names its folder, or the program in it."""
        given = path.replace("/", "\\").rstrip("\\").removesuffix("\\terminal64.exe")
        return given.casefold() == self.path.casefold()


class SimulatedTerminal:
    """A terminal of the simulated broker; its server's clock runs in ``zone``."""

    def __init__(
        self,
        market: Market,
        zone: ServerZone,
        clock: Clock,
        faults: Faults | None = None,
        installation: Installation | None = None,
    ) -> None:
        self._zone = zone
        self._faults = faults or Faults()
        self._installation = installation or Installation()
        self._instruments = market.instruments
        self._past = History(market, self._faults)
        self._rates = RatesStore(self._past)
        self._troubles = Troubles(self._faults, clock)
        self._connected = False
        self._watched: set[str] = set()
        self._error = api.NO_CONNECTION

    def initialize(self, *path: str, **options: Any) -> bool:
        unknown = options.keys() - {"login", "password", "server", "timeout", "portable", "path"}
        if unknown or len(path) > 1 or not isinstance(options.get("login", 0), int):
            return self._done(api.INVALID_PARAMS)
        self._connected = False
        where = path[0] if path else options.get("path")
        if where is not None and not self._installation.is_at(where):
            return self._done(api.IPC_INITIALIZE)
        code = self._troubles.initializing()
        if code == api.OK and options.get("login"):
            code = self._log_in(options["login"], options.get("password"), options.get("server"))
        self._connected = code == api.OK
        return self._done(code)

    def login(self, login: Any, password: str | None = None, server: str | None = None, timeout: Any = 60_000) -> bool:
        if not self._alive():
            return False
        if not isinstance(login, int) or not isinstance(timeout, int):
            return self._done(api.INVALID_PARAMS)
        return self._done(self._log_in(login, password, server))

    def shutdown(self) -> None:
        self._connected = False
        self._error = api.OK

    def last_error(self) -> tuple[int, str]:
        return self._error, _TEXT[self._error]

    def version(self) -> tuple[int, int, str] | None:
        return (500, 5260, "19 Sep 2026") if self._alive() else None

    def terminal_info(self) -> TerminalInfo | None:
        if not self._alive():
            return None
        path = self._installation.path
        return TerminalInfo.of(
            connected=not self._troubles.offline,
            build=5260,
            maxbars=MAX_BARS,
            codepage=65001,
            ping_last=1_200,
            company="Arbitrex",
            name="Simulated terminal",
            language="English",
            path=path,
            data_path=path,
            commondata_path=path,
        )

    def account_info(self) -> AccountInfo | None:
        if not self._alive():
            return None
        other = self._troubles.active(Kind.ACCOUNT)
        return AccountInfo.of(
            login=self._installation.login if other is None else int(float(other)),
            server=self._installation.server,
            leverage=100,
            currency="USD",
            currency_digits=2,
            balance=100_000.0,
            equity=100_000.0,
            margin_free=100_000.0,
            margin_mode=2,
            name="Simulated account",
            company="Arbitrex",
        )

    def symbols_total(self) -> int:
        return len(self._offered()) if self._alive() else 0

    def symbols_get(self, group: str | None = None) -> tuple[SymbolInfo, ...] | None:
        if not self._alive():
            return None
        return tuple(self._describe(self._instruments[name]) for name in self._offered() if _in_group(name, group))

    def symbol_info(self, symbol: str, /) -> SymbolInfo | None:
        return self._describe(self._instruments[symbol]) if self._alive() and self._knows(symbol) else None

    def symbol_select(self, symbol: str, enable: bool = True, /) -> bool:  # noqa: FBT001, FBT002 - the package's
        if not self._alive() or not self._knows(symbol):
            return False
        (self._watched.add if enable else self._watched.discard)(symbol)
        return True

    def symbol_info_tick(self, symbol: str, /) -> Tick | None:
        if not self._alive() or not self._knows(symbol) or not self._sees(symbol) or not self._answers():
            return None
        found = self._past.last_tick(symbol, self._troubles.now + 1)
        if found is None:
            return Tick.of()
        row = self._shown(found)[0]
        return Tick.of(**{name: row[name].item() for name in api.TICK_DTYPE.names or ()})

    def copy_ticks_from(self, symbol: str, date_from: float | datetime, count: int, flags: int, /) -> Ticks | None:
        second = _second(date_from)
        valid = second is not None and type(count) is int and 0 < count <= _LONGEST_COUNT and flags in _WANTED
        if not self._may_read(symbol, valid=valid, rows=count if valid else 0) or second is None:
            return None
        return self._ticks(symbol, second, self._troubles.history_now + 1, count, _WANTED[flags])

    def copy_ticks_range(
        self, symbol: str, date_from: float | datetime, date_to: float | datetime, flags: int, /
    ) -> Ticks | None:
        first, last = _second(date_from), _second(date_to)
        valid = first is not None and last is not None and flags in _WANTED
        if not self._may_read(symbol, valid=valid) or first is None or last is None:
            return None
        end = min(self._utc(last) + 1, self._troubles.history_now + 1)
        return self._ticks(symbol, first, end, _LONGEST_COUNT, _WANTED[flags])

    def copy_rates_from(self, symbol: str, timeframe: int, date_from: float | datetime, count: int, /) -> Rates | None:
        second = _second(date_from)
        valid = second is not None and _is_timeframe(timeframe) and _is_count(count)
        if not self._may_read(symbol, valid=valid, rows=count if valid else 0) or second is None:
            return None
        now, name = self._troubles.history_now, _TIMEFRAMES[timeframe]
        return _sealed(
            self._rates.before(symbol, name, min(self._utc(second), now), count, now=now, zone=self._zone_now())
        )

    def copy_rates_from_pos(self, symbol: str, timeframe: int, start_pos: int, count: int, /) -> Rates | None:
        valid = _is_timeframe(timeframe) and _is_count(count) and type(start_pos) is int and start_pos >= 0
        if not self._may_read(symbol, valid=valid, rows=count if valid else 0):
            return None
        now = self._troubles.history_now
        bars = self._rates.before(
            symbol, _TIMEFRAMES[timeframe], now, count + start_pos, now=now, zone=self._zone_now()
        )
        return _sealed(bars[: max(len(bars) - start_pos, 0)][-count:])

    def copy_rates_range(
        self, symbol: str, timeframe: int, date_from: float | datetime, date_to: float | datetime, /
    ) -> Rates | None:
        first, last = _second(date_from), _second(date_to)
        valid = first is not None and last is not None and _is_timeframe(timeframe)
        if not self._may_read(symbol, valid=valid) or first is None or last is None:
            return None
        start, end, now = self._utc(first), self._utc(last), self._troubles.history_now
        bars = self._rates.between(symbol, _TIMEFRAMES[timeframe], start, end, now=now, zone=self._zone_now())
        if len(bars) > MAX_BARS:
            self._done(api.INVALID_PARAMS)
            return None
        return _sealed(bars)

    def _ticks(self, symbol: str, second: int, end: int, count: int, wanted: int) -> Ticks | None:
        start = self._utc(second)
        now = self._troubles.now
        start = max(start, self._troubles.floor(symbol) or 0)
        pages, missing, begun = [np.empty(0, api.TICK_DTYPE)], count, False
        for block in self._past.ticks(symbol, start, end, now):
            shown = self._shown(block[(block["flags"] & wanted) != 0])
            if not begun:
                reached = shown["time"] >= second
                begun = bool(reached.any())
                shown = shown[int(np.argmax(reached)) :] if begun else shown[:0]
            pages.append(shown[:missing])
            missing -= len(pages[-1])
            if not missing:
                break
        return _sealed(np.concatenate(pages))

    def _shown(self, ticks: Ticks) -> Ticks:
        """Ticks by the server's clock."""
        shown = ticks.copy()
        times = ticks["time_msc"]
        shown["time_msc"] = self._zone.to_server(times)
        if len(times):
            for since, until, name in self._faults.spans(Kind.ZONE, int(times[0]), int(times[-1]) + 1):
                then = (times >= since) & (times < until)
                shown["time_msc"][then] = ServerZone.parse(name).to_server(times[then])
        shown["time"] = shown["time_msc"] // 1_000
        return shown

    def _utc(self, second: int) -> int:
        """The first moment at which the server's clock showed ``second``, whatever its zone was then."""
        reading: Times = np.array([second * 1_000])
        names = {fault.value for fault in self._faults.script if fault.kind is Kind.ZONE}
        zones = [self._zone, *map(ServerZone.parse, names)]
        return min(int(zone.to_utc(reading)[0]) for zone in zones)

    def _zone_now(self) -> ServerZone:
        name = self._troubles.active(Kind.ZONE)
        return self._zone if name is None else ServerZone.parse(name)

    def _log_in(self, login: int, password: str | None, server: str | None) -> int:
        known = self._installation
        right = (login, password or known.password, server or known.server) == (
            known.login,
            known.password,
            known.server,
        )
        return self._troubles.logging_in() if right else api.AUTH_FAILED

    def _offered(self) -> Sequence[str]:
        dropped = self._troubles.dropped
        return [name for name in self._instruments if name not in dropped]

    def _describe(self, instrument: Instrument) -> SymbolInfo:
        return SymbolInfo.of(
            name=instrument.name,
            description=instrument.description,
            path=f"Simulated\\{instrument.name}",
            digits=instrument.digits,
            point=instrument.point,
            trade_tick_size=instrument.point,
            trade_contract_size=100_000.0,
            spread=round(instrument.spread),
            spread_float=True,
            chart_mode=0,
            trade_mode=4,
            select=instrument.name in self._watched,
            visible=instrument.name in self._watched,
            currency_base=instrument.name[:3],
            currency_profit=instrument.name[3:],
            volume_min=0.01,
            volume_max=100.0,
            volume_step=0.01,
        )

    def _may_read(self, symbol: Any, *, valid: bool, rows: int = 0) -> bool:
        """Whether a data call goes through; else why not is the last error."""
        if not self._alive():
            return False
        if not valid:
            return self._done(api.INVALID_PARAMS)
        return self._knows(symbol) and self._sees(symbol) and self._answers(symbol, rows)

    def _answers(self, symbol: str | None = None, rows: int = 0) -> bool:
        """Whether no fault stands against a call; ``symbol`` and ``rows`` are those of a history call."""
        code = self._troubles.calling(symbol, rows)
        if code in {api.IPC_SEND, api.IPC_RECEIVE}:
            self._connected = False
        return self._done(code)

    def _alive(self) -> bool:
        return self._done(api.OK if self._connected else api.NO_CONNECTION)

    def _knows(self, symbol: Any) -> bool:
        if not isinstance(symbol, str) or len(symbol) > _LONGEST_NAME:
            return self._done(api.INVALID_PARAMS)
        return self._done(api.OK if symbol in self._offered() else api.NOT_FOUND)

    def _sees(self, symbol: str) -> bool:
        return self._done(api.OK if symbol in self._watched else api.NOT_FOUND)

    def _done(self, code: int) -> bool:
        self._error = code
        return code == api.OK


def _sealed(rows: Ticks) -> Ticks:
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


def _is_timeframe(value: Any) -> bool:
    return type(value) is int and value in _TIMEFRAMES


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_BARS


def _in_group(name: str, group: str | None) -> bool:
    """MetaTrader's filter: patterns with commas between them, those with ``!`` exclude."""
    if group is None:
        return True
    chosen = False
    for pattern in map(str.strip, group.split(",")):
        if fnmatchcase(name, pattern.removeprefix("!")):
            chosen = not pattern.startswith("!")
    return chosen


def _second(date: Any) -> int | None:
    """The whole second the package makes of a date; None for what it refuses."""
    if isinstance(date, datetime):
        date = date.timestamp()
    if type(date) not in (int, float) or not 0 < date <= _LATEST_SECOND:
        return None
    return int(date)
