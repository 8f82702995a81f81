"""The stack's control endpoint on loopback: its status, and a request to stop."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from infra.supervisor.runfile import Run
from schemas.errors import ComponentError

_HEADER: Final = "X-Arbitrex-Token"
_TIMEOUT: Final = 5.0


class Control:
    """Answers ``GET /status`` and ``POST /stop`` for whoever has the token (a web page has not)."""

    def __init__(self, status: Callable[[], dict[str, Any]], stop: Callable[[], None]) -> None:
        self.token = secrets.token_urlsafe(24)
        token = self.token

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self._may("/status"):
                    self._answer(HTTPStatus.OK, status())

            def do_POST(self) -> None:
                if self._may("/stop"):
                    stop()
                    self._answer(HTTPStatus.ACCEPTED, {})

            def _may(self, path: str) -> bool:
                if not hmac.compare_digest(self.headers.get(_HEADER, "").encode(), token.encode()):
                    self._answer(HTTPStatus.FORBIDDEN, {})
                    return False
                if self.path != path:
                    self._answer(HTTPStatus.NOT_FOUND, {})
                    return False
                return True

            def _answer(self, code: HTTPStatus, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Write no line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def ask(run: Run, method: str, path: str) -> dict[str, Any]:
    """Ask a running stack. Raises ComponentError when it does not answer."""
    request = urllib.request.Request(run.control + path, method=method, headers={_HEADER: run.token})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310 - our own loopback address
            answer: dict[str, Any] = json.load(response)
    except (OSError, ValueError) as error:
        raise ComponentError(f"the stack (pid {run.pid}) does not answer at {run.control}: {error}") from error
    return answer
