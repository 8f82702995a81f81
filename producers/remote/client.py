"""A terminal beside which an agent runs, as a terminal of this process."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from infra.settings import RemoteSettings
from producers import terminal as api
from producers.remote.wire import CALLS, LONGEST_ANSWER, BrokenFrameError, pack, receive, result
from producers.terminal import Terminal
from schemas.errors import SettingsError

_FALSE: Final = {"initialize", "symbol_select"}
"""Calls that fail with False; the others do with None."""

_CONNECT_SECONDS: Final = 10.0


class RemoteTerminal:
    """The calls of `Terminal`; a broken connection is a broken pipe, mended by ``initialize``.

    Raises SettingsError when the agent refuses the token or its certificate is not the expected one.
    """

    def __init__(self, settings: RemoteSettings, call_seconds: float) -> None:
        self._settings, self._seconds = settings, call_seconds
        self._socket: socket.socket | None = None
        self._error = (api.NO_CONNECTION, "No IPC connection")

    @property
    def terminal(self) -> Terminal:
        return cast("Terminal", self)

    def initialize(self, *path: str, **options: Any) -> bool:
        self._close()
        try:
            self._socket = self._connect()
        except (OSError, BrokenFrameError) as error:
            self._error = (api.IPC_INITIALIZE, f"no agent answers at {self._settings.address}: {error}")
            return False
        return bool(self._call("initialize", path, options))

    def shutdown(self) -> None:
        if self._socket is not None:
            self._call("shutdown", (), {})
            self._close()

    def last_error(self) -> tuple[int, str]:
        return self._error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS:
            raise AttributeError(name)
        return lambda *arguments, **options: self._call(name, arguments, options)

    def _call(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        failed = False if name in _FALSE else None
        if self._socket is None:
            self._error = (api.NO_CONNECTION, "No IPC connection")
            return failed
        try:
            self._socket.sendall(pack({"call": name, "args": arguments, "options": options}))
            value, self._error = result(receive(self._socket, LONGEST_ANSWER))
        except (OSError, BrokenFrameError) as error:
            self._close()
            self._error = (api.IPC_RECEIVE, f"the agent at {self._settings.address} is gone: {error}")
            return failed
        return value

    def _connect(self) -> socket.socket:
        host, _, port = self._settings.address.rpartition(":")
        connection = socket.create_connection((host, int(port)), _CONNECT_SECONDS)
        try:
            if self._settings.ca_file is not None:
                connection = self._secured(connection, host)
            connection.settimeout(self._seconds)
            self._show_token(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _show_token(self, connection: socket.socket) -> None:
        token = self._settings.token
        connection.sendall(pack({"token": "" if token is None else token.get_secret_value()}))
        if result(receive(connection, LONGEST_ANSWER))[0] is not True:
            raise SettingsError(
                f"the agent at {self._settings.address} refuses the token: set ARBITREX_PRODUCER__REMOTE__TOKEN to the "
                "agent's ARBITREX_AGENT__TOKEN"
            )

    def _secured(self, plain: socket.socket, host: str) -> socket.socket:
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file).wrap_socket(plain, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise SettingsError(
                f"the certificate of the agent at {self._settings.address} is not signed by "
                f"ARBITREX_PRODUCER__REMOTE__CA_FILE={self._settings.ca_file}: {error.verify_message}"
            ) from error

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
