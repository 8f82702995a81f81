"""One supervised process: its command, its state, its log."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

from infra.supervisor.policy import Restarts

_TAIL_BYTES: Final = 8_192
_NOT_TELLING: Final = {"", "ready", "stopped"}


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a child. ``serves`` is asked for readiness; None: the child says so on its standard output."""

    name: str
    tier: int
    """A broker's comes first, and ends last: see `infra.supervisor.stack`."""
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    silence: float | None = None
    """Seconds without a word after which it hangs: it is killed and started again. None: it need not say anything."""
    alone: bool = False
    """Where it cannot run, the others go on."""
    grace: float = 10.0
    """Seconds it gets to stop when asked."""
    prepare: Callable[[], object] | None = None
    serves: Callable[[], bool] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    pid: Callable[[], int | None] | None = None
    """The pid that matters, where the process is only a guard."""


class Child:
    """A process of the stack. Not thread-safe but for `snapshot`."""

    def __init__(self, command: Command, logs: Path) -> None:
        self.command = command
        self.state = State.WAITING
        self.restarts = Restarts()
        self.facts: dict[str, Any] = dict(command.facts)
        self.log_file = logs / f"{command.name}.log"
        self.started = 0.0
        self.due = 0.0
        """When a child that backs off is to be started again, by the monotonic clock."""
        self.ready_after: float | None = None
        self.heard: float | None = None
        """When it last said anything, by the monotonic clock; none since its start: then it is starting still."""
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._said_ready = threading.Event()

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def off(self) -> bool:
        """Whether it is not to run at all."""
        return self.state is State.OFF

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def rotate_log(self) -> None:
        """Set the log of an earlier run aside."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # none yet, or someone on Windows reads it: then it is appended to
            self.log_file.replace(self.log_file.with_suffix(".log.1"))

    def start(self) -> None:
        """Start the process; it lives in a session of its own, so that Ctrl-C reaches the supervisor alone."""
        if self.command.prepare is not None:
            self.command.prepare()
        self._said_ready = threading.Event()
        self.ready_after = None
        self.state, self.started = State.STARTING, time.monotonic()
        self.heard = None
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                self.command.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.command.environment},
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        threading.Thread(
            target=self._listen, args=(self._process.stdout, self._said_ready), name=self.name, daemon=True
        ).start()

    @property
    def hangs(self) -> bool:
        """Whether it has been silent for longer than it may."""
        allowed, heard = self.command.silence, self.heard
        if allowed is None or heard is None or not self.alive:
            return False
        return time.monotonic() - heard > allowed

    def check_ready(self) -> bool:
        """Whether it has just become ready."""
        if self.state is not State.STARTING or not self.alive:
            return False
        serves = self.command.serves
        if not (self._said_ready.is_set() if serves is None else serves()):
            return False
        self.state, self.ready_after = State.READY, time.monotonic() - self.started
        return True

    def ask_to_stop(self) -> None:
        """Close its standard input, which it takes as a request to stop."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def insist(self) -> None:
        """Ask by signal; on Windows this ends it."""
        if self.alive and self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it, and wait for that."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self.state = State.STOPPED

    def back_off(self, chance: float) -> float:
        """Note that it ended, and when it is to be started again; the delay in seconds."""
        now = time.monotonic()
        self.ask_to_stop()  # closes our end of the pipe
        self.restarts = self.restarts.after_exit(now - self.started)
        delay = self.restarts.delay(chance)
        self.state, self.due = State.BACKING_OFF, now + delay
        return delay

    def last_words(self) -> str:
        """What the last telling line says that it has logged since its start."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        telling = [text for text in map(_said, lines) if text not in _NOT_TELLING]
        return telling[-1] if telling else ""

    def snapshot(self) -> dict[str, Any]:
        """Its state, for `arbitrex status`."""
        process = self._process
        pid = self.command.pid() if self.command.pid is not None else (process.pid if process is not None else None)
        return {
            "component": self.name,
            "state": str(self.state),
            "pid": pid if self.state in {State.STARTING, State.READY} else None,
            "restarts": self.restarts.total,
            "ready_after": self.ready_after,
            "log": str(self.log_file),
            **self.facts,
        }

    def _listen(self, out: IO[bytes], said_ready: threading.Event) -> None:
        with out:
            for line in out:
                self.heard = time.monotonic()
                with contextlib.suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict) and "ready" in said:
                        self.facts |= {key: value for key, value in said.items() if key not in {"ready", "pid"}}
                        said_ready.set()


def _said(line: str) -> str:
    """What a line of a log says: the event of a JSON line, else the line."""
    try:
        entry = json.loads(line)
        return f"{entry['event']} {entry.get('reason', '')}".strip() if isinstance(entry, dict) else line.strip()
    except (ValueError, KeyError):
        return line.strip()
