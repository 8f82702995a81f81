"""The simulated terminal as a module that stands for the ``MetaTrader5`` package: its functions and constants.

A program written for the package runs on it unchanged:

    sys.modules["MetaTrader5"] = module(terminal)

Trading is as with AutoTrading switched off: there are no orders and positions, and none can be sent.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from producers import terminal as api
from producers.simulated.constants import CONSTANTS
from producers.simulated.structs import BookInfo
from producers.simulated.terminal import SimulatedTerminal

VERSION: Final = "5.0.6231"
FUNCTIONS: Final = (
    *("initialize", "login", "shutdown", "last_error", "version", "terminal_info", "account_info"),
    *("symbols_total", "symbols_get", "symbol_info", "symbol_info_tick", "symbol_select"),
    *("market_book_add", "market_book_get", "market_book_release"),
    *("copy_rates_from", "copy_rates_from_pos", "copy_rates_range", "copy_ticks_from", "copy_ticks_range"),
    *("orders_total", "orders_get", "order_calc_margin", "order_calc_profit", "order_check", "order_send"),
    *("positions_total", "positions_get"),
    *("history_orders_total", "history_orders_get", "history_deals_total", "history_deals_get"),
)
"""All that the package has."""

_CONTRACT: Final = 100_000.0
_LEVERAGE: Final = 100


class TradingTerminal(SimulatedTerminal):
    """The simulated terminal with the calls that collecting ticks does not need."""

    def market_book_add(self, symbol: str, /) -> bool:
        return self._alive() and self._knows(symbol)

    def market_book_release(self, symbol: str, /) -> bool:
        return self._alive() and self._knows(symbol)

    def market_book_get(self, symbol: str, /) -> tuple[BookInfo, ...] | None:
        tick = self.symbol_info_tick(symbol)
        if tick is None:
            return None
        sides = ((CONSTANTS["BOOK_TYPE_SELL"], tick.ask), (CONSTANTS["BOOK_TYPE_BUY"], tick.bid))
        return tuple(BookInfo.of(type=side, price=price, volume=1, volume_dbl=1.0) for side, price in sides)

    def orders_total(self) -> int | None:
        return 0 if self._alive() else None

    def orders_get(self, **_filter: Any) -> tuple[()] | None:
        return () if self._alive() else None

    def positions_total(self) -> int | None:
        return 0 if self._alive() else None

    def positions_get(self, **_filter: Any) -> tuple[()] | None:
        return () if self._alive() else None

    def history_orders_total(self, _date_from: Any, _date_to: Any, /) -> int | None:
        return 0 if self._alive() else None

    def history_orders_get(self, *_dates: Any, **_filter: Any) -> tuple[()] | None:
        return () if self._alive() else None

    def history_deals_total(self, _date_from: Any, _date_to: Any, /) -> int | None:
        return 0 if self._alive() else None

    def history_deals_get(self, *_dates: Any, **_filter: Any) -> tuple[()] | None:
        return () if self._alive() else None

    def order_calc_margin(self, action: int, symbol: str, volume: float, price: float, /) -> float | None:
        if not self._trades(action, symbol):
            return None
        return round(volume * _CONTRACT * price / _LEVERAGE, 2)

    def order_calc_profit(
        self, action: int, symbol: str, volume: float, price_open: float, price_close: float, /
    ) -> float | None:
        if not self._trades(action, symbol):
            return None
        gain = (price_close - price_open) * (1 if action == CONSTANTS["ORDER_TYPE_BUY"] else -1)
        return round(gain * volume * _CONTRACT, 2)

    def order_check(self, _request: dict[str, Any], /) -> None:
        if self._alive():
            self._done(api.TRADING_DISABLED)

    def order_send(self, _request: dict[str, Any], /) -> None:
        if self._alive():
            self._done(api.TRADING_DISABLED)

    def _trades(self, action: int, symbol: str) -> bool:
        if not self._alive() or not self._knows(symbol):
            return False
        known = action in {CONSTANTS["ORDER_TYPE_BUY"], CONSTANTS["ORDER_TYPE_SELL"]}
        return self._done(api.OK if known else api.INVALID_PARAMS)


def module(terminal: TradingTerminal) -> ModuleType:
    """The module that ``import MetaTrader5`` would give."""
    made = ModuleType("MetaTrader5", __doc__)
    made.__dict__.update(CONSTANTS)
    made.__dict__.update({name: getattr(terminal, name) for name in FUNCTIONS})
    made.__dict__.update(__version__=VERSION, __author__="MetaQuotes Ltd.")
    return made
