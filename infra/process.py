"""What a component's process owes to whoever started it: readiness out, a request to stop in.

A component started by hand stops on Ctrl-C or SIGTERM. One started by ``arbitrex up`` (``ARBITREX_MANAGED=1``)
also stops when its standard input ends, which works on Windows and when the parent was killed, and says that it
is ready with one line of JSON on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from infra import logs
from infra.health import StatusServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Settings

_BEAT_SECONDS: Final = 0.5
MANAGED: Final = "ARBITREX_MANAGED"

log = logs.logger(__name__)


class Process:
    """The life of this process; a context manager around a component's work."""

    def __init__(self, settings: Settings, component: str) -> None:
        self.component = component
        self.stopping = threading.Event()
        """Set when the component is to finish what it holds and return."""
        self._ready = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._settings = settings
        self._managed = os.environ.get(MANAGED) == "1"
        self._out = sys.stdout

    def __enter__(self) -> Self:
        logs.configure(self._settings.log, self.component)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.stop())
        if self._managed:
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()
        self._status = StatusServer(self._settings.status, self._ready.is_set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ready.clear()
        self._status.close()
        log.info("stopped")

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, from any thread, when the process is asked to stop."""
        self._callbacks.append(callback)
        if self.stopping.is_set():
            callback()

    def ready(self, **facts: Any) -> None:
        """Say that the component does its work; ``facts`` (``url``, …) are for the supervisor and for people."""
        self._ready.set()
        if self._managed:
            line = {"ready": self.component, "pid": os.getpid(), "status_port": self._status.port, **facts}
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()
        log.info("ready", **facts)

    def beat(self, healthy: Callable[[], bool]) -> None:
        """Let the supervisor hear every half second that the process gets on, as long as ``healthy`` says so."""
        if self._managed:
            threading.Thread(target=self._beat, args=(healthy,), name="beat", daemon=True).start()

    def _beat(self, healthy: Callable[[], bool]) -> None:
        line = json.dumps({"alive": self.component}) + "\n"
        with contextlib.suppress(OSError, ValueError):  # the parent is gone; its end of the pipe tells the other thread
            while not self.stopping.wait(_BEAT_SECONDS):
                if healthy():
                    self._out.write(line)
                    self._out.flush()

    def stop(self) -> None:
        """Ask the component to stop; harmless when repeated."""
        if not self.stopping.is_set():
            self.stopping.set()
            for callback in self._callbacks:
                callback()

    def _watch_parent(self) -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        self.stop()
