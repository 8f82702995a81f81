"""``arbitrex up``: the stack from a home folder's lock to its last child's end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infra import provision
from infra.supervisor import continuity
from infra.supervisor.assembly import BROKER_CHILD, PRODUCER_CHILD, Assembly, assemble
from infra.supervisor.child import Child, State
from infra.supervisor.control import Control
from infra.supervisor.policy import Restarts
from infra.supervisor.runfile import Lock, Run
from infra.supervisor.stack import COMPONENTS, REGISTRY, Lost, Stack

if TYPE_CHECKING:
    from infra.settings import Settings


class Up:
    """One run of ``arbitrex up``; `run` returns when it was asked to stop and nothing is left."""

    def __init__(self, settings: Settings, broker: str | None, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._broker = broker
        self._say = say
        self._stopping = threading.Event()
        self._stack: Stack | None = None
        self._began = time.monotonic()

    def stop(self) -> None:
        """Ask for the end; from any thread."""
        self._stopping.set()

    def run(self, when_ready: Callable[[str], None]) -> None:
        """Run the stack; ``when_ready`` gets the page's address once all children are ready.

        Raises UsageError when a stack of this home runs already, and what `assemble` and `Stack.run` raise.
        """
        with Lock(self._settings.home) as lock:
            assembly = assemble(self._settings, self._broker)
            control = Control(self._status, self.stop)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self.stop())
            try:
                lock.publish(_run(assembly, control))
                assembly.configure()
                self._keep_running(assembly, when_ready)
            finally:
                control.close()

    def _keep_running(self, assembly: Assembly, when_ready: Callable[[str], None]) -> None:
        restarts = Restarts()
        while True:
            began = time.monotonic()
            try:
                self._run_once(assembly, when_ready)
            except Lost as lost:
                restarts = restarts.after_exit(time.monotonic() - began)
                delay = restarts.delay(random.random())  # noqa: S311 - jitter
                self._say(f"{lost}; the broker may have forgotten its last second: all starts over in {delay:.1f} s")
                self._stopping.wait(delay)
            if self._stopping.is_set():
                return

    def _run_once(self, assembly: Assembly, when_ready: Callable[[str], None]) -> None:
        logs = assembly.settings.home / "logs"
        children = [Child(command, logs) for command in assembly.commands]
        first = REGISTRY if any(child.command.tier == REGISTRY for child in children) else COMPONENTS
        self._stack = Stack(
            children,
            self._say,
            before={first: lambda: self._provision(assembly, children)},
            fatal=frozenset({BROKER_CHILD} if assembly.volatile else ()),
        )
        self._stack.run(self._stopping, lambda: when_ready(assembly.page))

    def _provision(self, assembly: Assembly, children: list[Child]) -> None:
        settings, began = assembly.settings, time.monotonic()
        if assembly.volatile and (lines := continuity.ahead(settings)):
            self._say("topics     are shorter than what was read from them: the broker was killed and lost records")
            for line in [*lines, *continuity.start_fresh(settings), "a fresh world starts"]:
                self._say(f"topics     {line}")
        live = settings.simulator.start is None and settings.producer.source != "none"
        historical = True if settings.world != "main" and not live else None
        changes = provision.apply(settings, historical=historical)
        made = f", {len(changes)} created or changed" if changes else ""
        self._say(
            f"{'topics':<10} ready in {time.monotonic() - began:4.1f} s  world {settings.world} "
            f"({provision.partitions(settings)} partitions{made})"
        )
        if why := _without_producer(settings):
            for child in children:
                if child.name.startswith(PRODUCER_CHILD):
                    child.state = State.OFF
            self._say(f"{'producer':<10} off: {why}")

    def _status(self) -> dict[str, Any]:
        return {
            "world": self._settings.world,
            "home": str(self._settings.home),
            "seconds": round(time.monotonic() - self._began, 1),
            "components": self._stack.snapshot() if self._stack is not None else [],
        }


def _without_producer(settings: Settings) -> str | None:
    """Why this world gets no producer; None when it does."""
    if settings.producer.source == "none":
        return "ARBITREX_PRODUCER__SOURCE=none"
    if settings.world != "main" and settings.simulator.start is None and provision.is_historical(settings):
        return f"world {settings.world} holds history, into which no live ticks belong"
    return None


def _run(assembly: Assembly, control: Control) -> Run:
    settings = assembly.settings
    return Run(
        pid=os.getpid(),
        world=settings.world,
        control=control.url,
        token=control.token,
        kafka=settings.kafka.bootstrap_servers,
        embedded=settings.kafka.embedded,
        registry=settings.registry.url,
        page=assembly.page,
    )
