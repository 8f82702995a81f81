"""One broker process on this machine: started under a guard, watched, stopped, never left behind."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import psutil
from confluent_kafka import KafkaException

from infra import kafka as clients
from infra.brokers import guard
from infra.ports import answers
from infra.settings import KafkaSettings
from schemas.errors import ComponentError

if TYPE_CHECKING:
    from collections.abc import Sequence

_STARTUP_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 5.0
_LAST_LINES: Final = 3


class Node:
    """A broker program with a data folder and a port. Start and stop it as often as needed.

    ``mark`` is a part of its command line that no other program's has: a stale process is recognised by it.
    """

    def __init__(self, name: str, command: Sequence[str], *, mark: str, port: int, folder: Path, grace: float) -> None:
        self.name = name
        self.port = port
        self.log_file = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"
        self._mark = mark
        self.grace = grace
        """Seconds it gets to save its data."""
        self.command = [
            *(sys.executable, "-I", guard.__file__, str(self._pid_file), str(self.log_file), str(grace)),
            *command,
        ]
        """The whole command, guard included: its standard input must be a pipe held by whoever wants it to live."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's own pid, while it runs."""
        try:
            pid = int(self._pid_file.read_text("ascii"))
            process = psutil.Process(pid)
            return pid if any(self._mark in word for word in process.cmdline()) else None
        except (OSError, ValueError, psutil.Error):
            return None

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def prepare(self) -> bool:
        """Stop a broker of the same folder that was left behind, and set its log aside; whether there was one."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        stale = self.pid
        if stale is not None:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(stale)
                process.terminate()
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(self.grace)
                process.kill()
        with contextlib.suppress(OSError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        return stale is not None

    def start(self) -> None:
        """Start it and wait until it serves. Raises ComponentError with its last words if it does not."""
        self.launch()
        self.await_serving()

    def launch(self) -> None:
        """Start it without waiting."""
        self.ask_to_stop()  # closes our end of an ended one's pipe
        self.prepare()
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def await_serving(self) -> None:
        """Wait until it serves. Raises ComponentError with its last words if it does not."""
        deadline = time.monotonic() + _STARTUP_SECONDS
        while not self.serves():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ComponentError(f"{self.name} did not start: {self.last_words()} (log: {self.log_file})")
            time.sleep(0.05)

    def serves(self) -> bool:
        """Whether a client sees its metadata."""
        if not answers("127.0.0.1", self.port):
            return False
        try:
            cluster = clients.admin(KafkaSettings(bootstrap_servers=self.bootstrap_servers)).list_topics(timeout=1)
        except KafkaException:
            return False
        return any(broker.port == self.port for broker in cluster.brokers.values())

    def kill(self) -> None:
        """Kill the broker the hard way."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
        if self._process is not None:
            self._process.wait(_PATIENCE_SECONDS)
            self.ask_to_stop()  # closes our end of the pipe

    def ask_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Ask it to save its data and end; kill it after its grace."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(self.grace + _PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log_file.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return "no output"
        return " | ".join(line.strip() for line in lines[-_LAST_LINES:] if line.strip()) or "no output"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
