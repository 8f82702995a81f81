"""The simulated market behind the calls of the ``MetaTrader5`` package, as strict as the package itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from infra.market.zones import ServerZone
from producers import terminal as api
from producers.clock import Clock
from producers.simulated.instruments import INSTRUMENTS, Instrument
from producers.simulated.market import Market
from producers.simulated.structs import SymbolInfo, TerminalInfo, Tick
from producers.terminal import Ticks

_LONGEST_NAME: Final = 29
_LATEST_SECOND: Final = 2**31 - 1
_WANTED: Final = {
    api.COPY_TICKS_ALL: 0xFFFFFFFF,
    api.COPY_TICKS_INFO: api.FLAG_BID | api.FLAG_ASK,
    api.COPY_TICKS_TRADE: 0x08 | 0x10,
}
_TEXT: Final = {
    api.OK: "Success",
    api.INVALID_PARAMS: "Invalid arguments",
    api.NOT_FOUND: "Terminal: Not found",
    api.NO_CONNECTION: "No IPC connection",
}


class SimulatedTerminal:
    """A terminal of the simulated broker; its server's clock runs in ``zone``."""

    def __init__(self, market: Market, zone: ServerZone, clock: Clock) -> None:
        self._market, self._zone, self._clock = market, zone, clock
        self._connected = False
        self._watched: set[str] = set()
        self._error = api.NO_CONNECTION

    def initialize(self) -> bool:
        self._connected = True
        return self._done(api.OK)

    def shutdown(self) -> None:
        self._connected = False
        self._error = api.OK

    def last_error(self) -> tuple[int, str]:
        return self._error, _TEXT[self._error]

    def terminal_info(self) -> TerminalInfo | None:
        if not self._alive():
            return None
        return TerminalInfo.of(
            connected=True,
            build=5260,
            maxbars=100_000,
            codepage=65001,
            ping_last=1_200,
            company="Arbitrex",
            name="Simulated terminal",
            language="English",
        )

    def symbols_get(self) -> Sequence[SymbolInfo] | None:
        if not self._alive():
            return None
        return tuple(self._describe(instrument) for instrument in INSTRUMENTS.values())

    def symbol_info(self, symbol: str, /) -> SymbolInfo | None:
        return self._describe(INSTRUMENTS[symbol]) if self._alive() and self._knows(symbol) else None

    def symbol_select(self, symbol: str, enable: bool = True, /) -> bool:  # noqa: FBT001, FBT002 - the package's
        if not self._alive() or not self._knows(symbol):
            return False
        (self._watched.add if enable else self._watched.discard)(symbol)
        return True

    def symbol_info_tick(self, symbol: str, /) -> Tick | None:
        if not self._alive() or not self._knows(symbol) or not self._sees(symbol):
            return None
        found = self._market.last_tick(symbol, self._clock.now_ms() + 1)
        if found is None:
            return Tick.of()
        row = self._in_server_time(found)[0]
        return Tick.of(**{name: row[name].item() for name in api.TICK_DTYPE.names or ()})

    def copy_ticks_from(self, symbol: str, date_from: float | datetime, count: int, flags: int, /) -> Ticks | None:
        if not self._alive():
            return None
        second = _second(date_from)
        if second is None or type(count) is not int or count < 1 or flags not in _WANTED:
            self._done(api.INVALID_PARAMS)
            return None
        if not self._knows(symbol) or not self._sees(symbol):
            return None
        start = int(self._zone.to_utc(np.array([second * 1_000]))[0])
        pages, missing = [np.empty(0, api.TICK_DTYPE)], count
        for block in self._market.ticks(symbol, start, self._clock.now_ms() + 1):
            page = block[(block["flags"] & _WANTED[flags]) != 0][:missing]
            pages.append(page)
            missing -= len(page)
            if not missing:
                break
        answer = self._in_server_time(np.concatenate(pages))
        answer.flags.writeable = False
        return answer

    def _in_server_time(self, ticks: Ticks) -> Ticks:
        shown = ticks.copy()
        shown["time_msc"] = self._zone.to_server(ticks["time_msc"])
        shown["time"] = shown["time_msc"] // 1_000
        return shown

    def _describe(self, instrument: Instrument) -> SymbolInfo:
        return SymbolInfo.of(
            name=instrument.name,
            description=instrument.description,
            path=f"Simulated\\{instrument.name}",
            digits=instrument.digits,
            point=instrument.point,
            trade_tick_size=instrument.point,
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

    def _alive(self) -> bool:
        return self._done(api.OK if self._connected else api.NO_CONNECTION)

    def _knows(self, symbol: Any) -> bool:
        if not isinstance(symbol, str) or len(symbol) > _LONGEST_NAME:
            return self._done(api.INVALID_PARAMS)
        return self._done(api.OK if symbol in INSTRUMENTS else api.NOT_FOUND)

    def _sees(self, symbol: str) -> bool:
        return self._done(api.OK if symbol in self._watched else api.NOT_FOUND)

    def _done(self, code: int) -> bool:
        self._error = code
        return code == api.OK


def _second(date: Any) -> int | None:
    """The whole second the package makes of a date; None for what it refuses."""
    if isinstance(date, datetime):
        date = date.timestamp()
    if type(date) not in (int, float) or not 0 < date <= _LATEST_SECOND:
        return None
    return int(date)
