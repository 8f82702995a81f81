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

from infra.brokers.kafka import KafkaCluster
from tests.acceptance import stack
from tests.support import eventually

NODE = "node"
SPARED = ("broker",)
"""The embedded broker keeps its data in memory: killing it is another test's."""


class Killer:
    """Kills (-9) each child, and with a cluster a node of it, ``times`` times in random order.

    A child is killed again only after it was seen ready again.
    """

    def __init__(self, env: Mapping[str, str], times: int, cluster: KafkaCluster | None) -> None:
        self._env = env
        self._times = times
        self._cluster = cluster
        self._chance = random.Random(7)
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
        self._thread.join(1200)
        if self._failure:
            raise self._failure
        assert not self._thread.is_alive(), f"only these were killed: {self.killed}"

    def _work(self) -> None:
        try:
            names = [name for name in self._children() if name not in SPARED]
            order = (names + [NODE] * (self._cluster is not None)) * self._times
            self._chance.shuffle(order)
            for name in order:
                if self._stop.is_set():
                    return
                self._kill(name)
                self.killed[name] += 1
        except BaseException as failure:  # noqa: BLE001 - handed to the test's thread by finish()
            self._failure = failure

    def _kill(self, name: str) -> None:
        if name == NODE and self._cluster is not None:
            number = self._chance.randint(1, len(self._cluster.nodes))
            self._cluster.kill(number)
            self._cluster.start(number)
        else:
            psutil.Process(eventually(partial(self._pid, name), 90, every=0.3)).kill()

    def _pid(self, name: str) -> int | None:
        return self._children().get(name)

    def _children(self) -> dict[str, int]:
        """Pids of the children that are ready, by name."""
        found = stack.status(self._env)
        return {child["component"]: child["pid"] for child in found.get("components", ()) if child["ready"]}
