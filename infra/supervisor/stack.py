"""Runs the children of a stack: readiness in order, restarts, and an end that leaves nothing behind."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from infra import metrics
from infra.supervisor.child import Child, State
from schemas.errors import ComponentError

BROKER: Final = 0
REGISTRY: Final = 1
COMPONENTS: Final = 2
TIERS: Final = (BROKER, REGISTRY, COMPONENTS)
_TICK: Final = 0.05
_NOTICE_SECONDS: Final = 30.0
_HUNG_SECONDS: Final = 180.0
"""A child that is not ready by then never will be: it is ended and started again."""
_TERMINATE_SECONDS: Final = 3.0
_KILLED: Final = 128
_SETTINGS_EXIT: Final = 2
"""The exit code of a child that cannot run as it is configured."""


class Lost(Exception):  # noqa: N818 - not an error: the stack is started over
    """A child ended whose end the others cannot survive."""


class Stack:
    """Children in tiers: the broker's, then, when it is ready and ``before`` has done what they need, the others'.

    The end of a child in ``fatal`` ends the whole stack: `run` then raises Lost.
    """

    def __init__(
        self,
        children: Sequence[Child],
        say: Callable[[str], None],
        *,
        before: Mapping[int, Callable[[], None]],
        fatal: frozenset[str] = frozenset(),
    ) -> None:
        self.children = children
        self._say = say
        self._before = before
        self._fatal = fatal
        self._chance = random.Random()  # noqa: S311 - jitter
        self._noticed: set[str] = set()
        self._ever_ready: set[str] = set()

    def run(self, stopping: threading.Event, when_ready: Callable[[], None]) -> None:
        """Run until ``stopping`` is set; ``when_ready`` is called once all children are. Stops all of them in the end.

        Raises ComponentError when a child refuses its settings at the first start, Lost when a fatal one ends.
        """
        for child in self.children:
            child.rotate_log()
        try:
            for tier in TIERS:
                if tier in self._before:
                    self._before[tier]()
                for child in self.children:
                    if child.command.tier == tier and not child.off:
                        child.start()
                if tier == REGISTRY:
                    continue  # components wait for it themselves, and take longer to start
                while not stopping.is_set() and not all(each.name in self._ever_ready for each in self._wanted(tier)):
                    self._tick(stopping)
                if stopping.is_set():
                    return
            when_ready()
            while not stopping.is_set():
                self._tick(stopping)
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the tiers from the top, each child by its standard input, then by signal, then by force."""
        for tier in reversed(TIERS):
            members = [child for child in self.children if child.command.tier == tier]
            for child in members:
                child.ask_to_stop()
            _wait(members, max((child.command.grace for child in members), default=0))
            for child in members:
                child.insist()
            _wait(members, _TERMINATE_SECONDS)
            for child in members:
                child.kill()

    def snapshot(self) -> list[dict[str, Any]]:
        """All children's states."""
        return [child.snapshot() for child in self.children]

    def _wanted(self, tier: int) -> list[Child]:
        """The children that must be ready before what is above ``tier`` can be."""
        lame = {child.name for child in self.children if child.command.alone and child.restarts.total}
        return [
            child for child in self.children if child.command.tier <= tier and not child.off and child.name not in lame
        ]

    def _tick(self, stopping: threading.Event) -> None:
        for child in self.children:
            if child.state in {State.WAITING, State.OFF}:
                continue
            if child.check_ready():
                self._ever_ready.add(child.name)
                self._say_ready(child)
            elif child.hangs:
                self._say(f"{child.name:<10} hangs: no word for {child.command.silence:g} s; it is killed")
                child.kill()
                self._ended(child, hung=True)
            elif child.state in {State.STARTING, State.READY} and not child.alive:
                self._ended(child)
            elif child.state is State.BACKING_OFF and time.monotonic() >= child.due:
                child.start()
            elif child.state is State.STARTING:
                self._watch_start(child)
        stopping.wait(_TICK)

    def _ended(self, child: Child, *, hung: bool = False) -> None:
        code, words = child.exit_code, child.last_words()
        if child.name in self._fatal and child.name in self._ever_ready:
            raise Lost(f"{child.name} ended (exit code {code}): {words}")
        if code == _SETTINGS_EXIT and child.command.alone:
            child.state = State.OFF
            self._say(f"{child.name:<10} stays off until it is started anew: {words.removeprefix('arbitrex: ')}")
            return
        if code == _SETTINGS_EXIT and child.name not in self._ever_ready:
            raise ComponentError(f"{child.name} cannot run: {words.removeprefix('arbitrex: ')}")
        metrics.COMPONENT_RESTARTS.labels(child.name, "hung" if hung else "ended").inc()
        delay = child.back_off(self._chance.random())
        self._noticed.discard(child.name)
        why = f": {words}" if words and code is not None and 0 < code < _KILLED else ""  # killed, it had no say
        self._say(f"{child.name:<10} ended (exit code {code}), starts again in {delay:.1f} s{why}")

    def _say_ready(self, child: Child) -> None:
        where = child.facts.get("url") or child.facts.get("address") or ""
        about = f" ({child.facts['about']})" if "about" in child.facts else ""
        self._say(f"{child.name:<10} ready in {child.ready_after:4.1f} s  {where}{about}".rstrip())

    def _watch_start(self, child: Child) -> None:
        seconds = time.monotonic() - child.started
        if seconds > _HUNG_SECONDS and (child.command.silence is None or child.heard is None):
            child.kill()
            self._ended(child, hung=True)
        elif seconds > _NOTICE_SECONDS and child.name not in self._noticed:
            self._noticed.add(child.name)
            self._say(
                f"{child.name:<10} not ready yet: {child.last_words() or 'no word of it'} (log: {child.log_file})"
            )


def _wait(children: Sequence[Child], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(child.alive for child in children) and time.monotonic() < deadline:
        time.sleep(_TICK)
