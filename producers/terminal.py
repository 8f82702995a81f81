"""What we need of a terminal: the calls of the ``MetaTrader5`` package, as a protocol.

Data calls give ``None`` and status calls ``False`` when they fail; `Terminal.last_error` says why. An empty array is
an answer, not a failure. All times are the broker server's wall clock written as if it were a UTC epoch.
Source: the package's 5.0 wheel and its documentation (https://www.mql5.com/en/docs/python_metatrader5).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

TICK_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<u8"),
        ("time_msc", "<i8"),
        ("flags", "<u4"),
        ("volume_real", "<f8"),
    ]
)
"""A row of `Terminal.copy_ticks_from`: packed, 60 bytes."""

RATES_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("tick_volume", "<u8"),
        ("spread", "<i4"),
        ("real_volume", "<u8"),
    ]
)
"""A row of `Terminal.copy_rates_range`: packed, 60 bytes."""

Ticks = NDArray[np.void]
Rates = NDArray[np.void]

COPY_TICKS_ALL: Final = -1
COPY_TICKS_INFO: Final = 1
COPY_TICKS_TRADE: Final = 2

FLAG_BID: Final = 0x02
FLAG_ASK: Final = 0x04
FLAGS_KNOWN: Final = 0x7E
"""The documented bits: bid, ask, last, volume, buy, sell. Terminals set further ones that mean nothing to us."""

CHART_MODE_LAST: Final = 1

OK: Final = 1
FAIL: Final = -1
INVALID_PARAMS: Final = -2
NO_MEMORY: Final = -3
NOT_FOUND: Final = -4
INVALID_VERSION: Final = -5
AUTH_FAILED: Final = -6
UNSUPPORTED: Final = -7
TRADING_DISABLED: Final = -8
IPC_FAILED: Final = -10000
IPC_SEND: Final = -10001
IPC_RECEIVE: Final = -10002
IPC_INITIALIZE: Final = -10003
NO_CONNECTION: Final = -10004
IPC_TIMEOUT: Final = -10005


class TickInfo(Protocol):
    """The last quote of a symbol."""

    @property
    def time_msc(self) -> int: ...
    @property
    def bid(self) -> float: ...
    @property
    def ask(self) -> float: ...


class SymbolInfo(Protocol):
    """What the broker says of a symbol."""

    @property
    def name(self) -> str: ...
    @property
    def digits(self) -> int: ...
    @property
    def point(self) -> float: ...
    @property
    def chart_mode(self) -> int: ...


class TerminalInfo(Protocol):
    """The terminal's own state."""

    @property
    def connected(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def maxbars(self) -> int: ...


class AccountInfo(Protocol):
    """The account that a terminal is logged in to."""

    @property
    def login(self) -> int: ...
    @property
    def server(self) -> str: ...


class Terminal(Protocol):
    """One terminal; a process has one."""

    def initialize(self, *path: str, **options: Any) -> bool:
        """Connect to the terminal at ``path``, or to any; every other call fails with `NO_CONNECTION` before.

        Options: ``login``, ``password``, ``server``, ``timeout`` (milliseconds), ``portable``.
        """

    def account_info(self) -> AccountInfo | None:
        """The account."""

    def shutdown(self) -> None:
        """Disconnect."""

    def last_error(self) -> tuple[int, str]:
        """Code and text of the latest call."""

    def terminal_info(self) -> TerminalInfo | None:
        """The terminal's state."""

    def symbols_get(self) -> Sequence[SymbolInfo] | None:
        """Every symbol that the broker offers."""

    def symbol_info(self, symbol: str, /) -> SymbolInfo | None:
        """One symbol."""

    def symbol_select(self, symbol: str, enable: bool = True, /) -> bool:  # noqa: FBT001, FBT002 - the package's signature
        """Put a symbol into the MarketWatch; it has no quotes before."""

    def symbol_info_tick(self, symbol: str, /) -> TickInfo | None:
        """The last quote: a cheap probe; history can lag it."""

    def copy_ticks_from(self, symbol: str, date_from: float | datetime, count: int, flags: int, /) -> Ticks | None:
        """Up to ``count`` ticks forward from ``date_from``, which is truncated to whole seconds."""

    def copy_ticks_range(
        self, symbol: str, date_from: float | datetime, date_to: float | datetime, flags: int, /
    ) -> Ticks | None:
        """The ticks in [``date_from``, ``date_to``], both truncated to whole seconds."""

    def copy_rates_from_pos(self, symbol: str, timeframe: int, start_pos: int, count: int, /) -> Rates | None:
        """``count`` bars, the last one ``start_pos`` bars before the newest."""

    def copy_rates_range(
        self, symbol: str, timeframe: int, date_from: float | datetime, date_to: float | datetime, /
    ) -> Rates | None:
        """The bars that open in [``date_from``, ``date_to``]."""
