"""What a terminal's error codes mean for us."""

from __future__ import annotations

from typing import Final

from producers import terminal as api
from schemas.errors import ArbitrexError, SourceError

RECONNECT: Final = frozenset(
    {api.IPC_FAILED, api.IPC_SEND, api.IPC_RECEIVE, api.IPC_INITIALIZE, api.NO_CONNECTION, api.IPC_TIMEOUT}
)

_FINAL: Final = {
    api.INVALID_VERSION: "the terminal is too old for the MetaTrader5 package: update it",
    api.AUTH_FAILED: "the broker refuses the account: log in once through the terminal's own window",
}


class TerminalAwayError(SourceError):
    """The terminal does not answer, or has no connection; it may come back."""


def failure(call: str, error: tuple[int, str]) -> ArbitrexError:
    """The exception for a failed call: TerminalAwayError when trying again can help, else SourceError."""
    code, text = error
    if code in _FINAL:
        return SourceError(f"{call}: {_FINAL[code]} ({code}, {text})")
    kind = TerminalAwayError if code in RECONNECT or code in (api.FAIL, api.NO_MEMORY) else SourceError
    return kind(f"{call}: the terminal says {text} ({code})")
