"""TCP ports of this machine."""

from __future__ import annotations

import contextlib
import socket

from schemas.errors import SettingsError


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def claim(setting: str, port: int, host: str = "127.0.0.1") -> int:
    """``port`` if it is free, any free one for 0. Raises SettingsError naming ``setting`` when it is taken."""
    if port == 0:
        return free_port(host)
    with socket.socket() as probe:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"{setting}: cannot listen on {host}:{port} ({error.strerror}); "
                "stop what uses that port, or set another one there, or 0 for any free one"
            ) from error
    return port


def answers(host: str, port: int, timeout: float = 0.5) -> bool:
    """Whether something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout):
        return True
    return False


def url(host: str, port: int, *, tls: bool = False) -> str:
    """Where this machine reaches what listens on ``host``."""
    reachable = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - compared, not bound
    return f"{'https' if tls else 'http'}://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"
