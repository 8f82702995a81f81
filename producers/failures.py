"""What a terminal's error codes mean for us."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from producers import terminal as api
from schemas.errors import ArbitrexError, SettingsError, SourceError

RECONNECT: Final = frozenset(
    {api.IPC_FAILED, api.IPC_SEND, api.IPC_RECEIVE, api.IPC_INITIALIZE, api.NO_CONNECTION, api.IPC_TIMEOUT}
)
_REMEDIES: Final = {
    api.INVALID_VERSION: "the terminal is too old for the MetaTrader5 package: update it (Help, Check for updates)",
    api.AUTH_FAILED: "the broker refuses the account: log in once through the terminal's own window",
    api.TRADING_DISABLED: "algo trading is switched off: press Algo Trading in the terminal's toolbar",
    api.UNSUPPORTED: "the terminal does not have this function: update it",
}


class TerminalAwayError(SourceError):
    """The terminal does not answer, or has no connection; it may come back once it is connected anew."""


class TryAgainError(SourceError):
    """This call failed; the same one may succeed a little later."""


class TooMuchError(SourceError):
    """More was asked for than the terminal can give at once."""


class UnknownSymbolError(SourceError):
    """The broker does not offer the symbol, or not any more."""


_CLASSES: Final = {
    api.FAIL: TryAgainError,
    api.NO_MEMORY: TooMuchError,
    api.NOT_FOUND: UnknownSymbolError,
    **dict.fromkeys(RECONNECT, TerminalAwayError),
}


def failure(call: str, error: tuple[int, str]) -> ArbitrexError:
    """The exception for a failed call; its class says what can help, plain SourceError that nothing does."""
    code, text = error
    if code in _REMEDIES:
        return SourceError(f"{call}: {_REMEDIES[code]} ({code}, {text})")
    return _CLASSES.get(code, SourceError)(f"{call}: the terminal says {text} ({code})")


def near_names(name: str, offered: Iterable[str]) -> list[str]:
    """Those of ``offered`` that ``name`` may have meant, the nearest first."""
    by_shape = {other.casefold(): other for other in offered}
    return [by_shape[shape] for shape in get_close_matches(name.casefold(), by_shape, n=5, cutoff=0.4)]


def unknown_symbol(name: str, offered: Iterable[str], feed: str) -> SettingsError:
    """The error for a symbol of the settings that the broker does not have."""
    near = near_names(name, offered)
    return SettingsError(
        f"ARBITREX_PRODUCER__SYMBOLS: the broker of feed {feed} has no {name}"
        + (f"; near: {', '.join(near)}" if near else "; see the terminal's list (Ctrl+U)")
    )
