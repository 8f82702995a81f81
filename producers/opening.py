"""A terminal connected, and known to be the right one with the right account."""

from __future__ import annotations

from typing import Any, Final

from infra.settings import TerminalSettings
from producers import terminal as api
from producers.failures import TerminalAwayError, failure
from producers.terminal import AccountInfo, Terminal, TerminalInfo
from schemas.errors import ArbitrexError, SettingsError

_SETTING: Final = "ARBITREX_PRODUCER__TERMINAL__"
_MISSING: Final = ("not found", "process create failed")
"""What the package says after -10003 when there is no terminal to start."""
_PROGRAM: Final = "terminal64.exe"


def open_terminal(terminal: Terminal, wanted: TerminalSettings) -> TerminalInfo:
    """Connect once, and check that it is the terminal and the account of the settings.

    Raises TerminalAwayError when trying again can help, else an error that says what to do: SettingsError where a
    setting is to be changed.
    """
    if not terminal.initialize(*_path(wanted), **_options(wanted)):
        raise _refused(terminal.last_error(), wanted)
    info = terminal.terminal_info()
    if info is None:
        raise failure("terminal_info", terminal.last_error())
    _check_path(info, wanted)
    if wanted.login is not None or wanted.server is not None:
        account = terminal.account_info()
        if account is None:
            raise failure("account_info", terminal.last_error())
        _check_account(account, wanted)
    if not info.connected:
        raise TerminalAwayError("the terminal has no connection to its broker")
    return info


def _path(wanted: TerminalSettings) -> tuple[str, ...]:
    return () if wanted.path is None else (wanted.path,)


def _options(wanted: TerminalSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"timeout": wanted.timeout_seconds * 1_000, "portable": wanted.portable}
    if wanted.login is not None:
        options["login"] = wanted.login
    if wanted.password is not None:
        options["password"] = wanted.password.get_secret_value()
    if wanted.server is not None:
        options["server"] = wanted.server
    return options


def _refused(error: tuple[int, str], wanted: TerminalSettings) -> ArbitrexError:
    code, text = error
    if code == api.AUTH_FAILED and wanted.login is not None:
        server = "its server" if wanted.server is None else f"server {wanted.server}"
        return SettingsError(
            f"the broker refuses account {wanted.login} at {server}: check {_SETTING}LOGIN, {_SETTING}PASSWORD and "
            f"{_SETTING}SERVER (its name as the terminal's login window shows it) ({code}, {text})"
        )
    if code == api.IPC_INITIALIZE and any(words in text.casefold() for words in _MISSING):
        where = "on this machine" if wanted.path is None else f"at {wanted.path}"
        return SettingsError(
            f"there is no MetaTrader 5 terminal {where}: install it, or set {_SETTING}PATH to its {_PROGRAM} "
            f"(spaces are fine, no quotes) ({code}, {text})"
        )
    if code == api.IPC_TIMEOUT:
        return TerminalAwayError(
            f"the terminal does not answer in {wanted.timeout_seconds} s: a fresh one needs one login through its own "
            f"window, a slow one a longer {_SETTING}TIMEOUT_SECONDS ({code}, {text})"
        )
    return failure("initialize", error)


def _check_path(info: TerminalInfo, wanted: TerminalSettings) -> None:
    if wanted.path is not None and _folder(wanted.path) != _folder(info.path):
        raise SettingsError(
            f"the terminal that answers stands in {info.path}, not at {wanted.path}: give each terminal a folder of "
            f"its own and {_SETTING}PORTABLE=true"
        )


def _check_account(account: AccountInfo, wanted: TerminalSettings) -> None:
    if wanted.login not in {None, account.login} or wanted.server not in {None, account.server}:
        login = account.login if wanted.login is None else wanted.login
        raise SettingsError(
            f"the terminal is logged in to account {account.login} at {account.server}, not to {login} at "
            f"{wanted.server or account.server}: log in to that one in its window, or set {_SETTING}LOGIN and "
            f"{_SETTING}SERVER"
        )


def _folder(path: str) -> str:
    return path.replace("/", "\\").casefold().removesuffix(_PROGRAM).rstrip("\\")
