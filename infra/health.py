"""Health, readiness and metrics of one process over HTTP."""

from __future__ import annotations

import threading
import urllib.request
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client import MetricsHandler

from infra.settings import StatusSettings
from schemas.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable


class StatusServer:
    """Serves ``/health``, ``/ready`` and ``/metrics`` from a daemon thread."""

    def __init__(self, settings: StatusSettings, ready: Callable[[], bool]) -> None:
        class Handler(MetricsHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    super().do_GET()
                elif self.path in ("/health", "/ready"):
                    good = self.path == "/health" or ready()
                    self.send_response(200 if good else 503)
                    self.send_header("Content-Type", "text/plain")
                    self.end_headers()
                    self.wfile.write(b"ok\n" if good else b"not ready\n")
                else:
                    self.send_error(404)

        try:
            self._server = ThreadingHTTPServer((settings.host, settings.port), Handler)
        except OSError as error:
            raise SettingsError(
                f"ARBITREX_STATUS__PORT={settings.port}: cannot listen on {settings.host} ({error.strerror}); "
                "choose another port, or 0 for any free one"
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def is_ready(url: str, timeout: float = 2.0) -> bool:
    """Whether the process whose status is served at ``url`` says that it does its work."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=timeout) as answer:  # noqa: S310 - our own address
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False
