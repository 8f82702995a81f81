"""Killing the children of a running stack, again and again, while data flows."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self

import psutil

from tests.acceptance import stack
from tests.support import eventually

SPARED = ("broker",)
"""The embedded broker keeps its data in memory: killing it is another test's."""


class Killer:
    """Kills (-9) each child ``times`` times in random order, each time after it was seen ready again."""

    def __init__(self, env: Mapping[str, str], times: int) -> None:
        self._env = env
        self._times = times
        self.killed: Counter[str] = Counter()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="killer")
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)

    def finish(self) -> None:
        """Wait until all kills are done. Raises what went wrong on the way."""
        self._thread.join(900)
        if self._failure:
            raise self._failure
        assert not self._thread.is_alive(), f"only these were killed: {self.killed}"

    def _work(self) -> None:
        try:
            names = [name for name in self._children() if name not in SPARED]
            order = names * self._times
            random.Random(7).shuffle(order)
            for name in order:
                if self._stop.is_set():
                    return
                psutil.Process(eventually(partial(self._pid, name), 90, every=0.3)).kill()
                self.killed[name] += 1
        except BaseException as failure:  # noqa: BLE001 - handed to the test's thread by finish()
            self._failure = failure

    def _pid(self, name: str) -> int | None:
        return self._children().get(name)

    def _children(self) -> dict[str, int]:
        """Pids of the children that are ready, by name."""
        found = stack.status(self._env)
        return {child["component"]: child["pid"] for child in found.get("components", ()) if child["ready"]}
