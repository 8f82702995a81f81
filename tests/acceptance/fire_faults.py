"""The faults of the fire test: when which happens, to whom, and what was seen of it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError

from infra import kafka as clients
from infra import topics
from infra.brokers.kafka import KafkaCluster
from infra.kafka_log import beginnings
from infra.process import MANAGED
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Progress
from tests.support import ROOT, environment, eventually

KILL, FREEZE, NODE, JOIN, LEAVE = "kill -9", "SIGSTOP", "node lost", "worker added", "clean leave"
_QUIET_SECONDS: Final = 12.0
"""At the beginning and at the end nothing happens."""
_NODE_AWAY_SECONDS: Final = 10.0
_PER_MINUTE: Final = {KILL: 6.4, FREEZE: 1.1, NODE: 0.3, JOIN: 0.4}
_RESTART_SECONDS: Final = 0.3
_PAUSE_SECONDS: Final = (1.0, 6.0)
"""Between two faults of a kind, at the least."""


@dataclass(order=True)
class Fault:
    """Something that happens, so many seconds after the beginning."""

    at: float
    kind: str
    lasts: float = 0.0
    """Until a frozen worker is thawed, a lost node started again, an added worker asked to leave."""
    happened: float = field(default=0.0, compare=False)
    """On the monotonic clock."""


def plan(minutes: float, seed: int) -> list[Fault]:
    """What happens in so many minutes, in order; freezes and lost nodes spread, the rest at any time."""
    if not minutes:
        return []
    chance = random.Random(seed)
    span = minutes * 60 - 2 * _QUIET_SECONDS
    found = []
    for kind, each in _PER_MINUTE.items():
        count = max(1, round(each * minutes))
        slot = span / count
        for number in range(count):
            at = number * slot + chance.uniform(0, slot * 0.6) if kind != KILL else chance.uniform(0, span)
            lasts = {KILL: 0.0, FREEZE: chance.uniform(8, 11), NODE: _NODE_AWAY_SECONDS}.get(
                kind, chance.uniform(10, 20)
            )
            found.append(Fault(_QUIET_SECONDS + at, kind, min(lasts, span / 2)))
            if kind == JOIN:
                found.append(Fault(_QUIET_SECONDS + at + found[-1].lasts, LEAVE))
    return sorted(found)


class Component:
    """A component's process, its log in a file."""

    def __init__(self, settings: Settings, name: str, log: Path) -> None:
        self._said = log.with_suffix(".ready")
        with log.open("ab") as errors, self._said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", name],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                env=environment(settings) | {MANAGED: "1", "ARBITREX_LOG__FORMAT": "json"},
                cwd=ROOT,
            )
        self.frozen = False

    @property
    def gone(self) -> bool:
        return self.process.poll() is not None

    @property
    def ready(self) -> bool:
        """Whether it said that it does its work."""
        return self._said.stat().st_size > 0

    def ask_to_stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.ask_to_stop()

    def signal(self, number: signal.Signals) -> None:
        self.frozen = number == signal.SIGSTOP
        self.process.send_signal(number)


class Workers:
    """So many workers that are started again whenever they are gone."""

    def __init__(self, settings: Settings, count: int, chance: random.Random) -> None:
        self._settings, self._chance = settings, chance
        self._numbers = iter(range(1_000_000))
        self.running = [self._start() for _ in range(count)]
        self._gone: list[tuple[float, Component]] = []
        self._leaving: list[Component] = []
        self.left_by_themselves = 0

    @property
    def logs(self) -> list[Path]:
        return sorted(self._settings.home.glob("worker-*.log"))

    def one(self) -> Component | None:
        """Any that has begun its work."""
        ready = [worker for worker in self.running if worker.ready and not worker.frozen and not worker.gone]
        return self._chance.choice(ready) if ready else None

    def add(self) -> None:
        self.running.append(self._start())

    def remove(self, worker: Component) -> None:
        """Ask it to leave."""
        self.running.remove(worker)
        self._leaving.append(worker)
        worker.ask_to_stop()

    def tend(self) -> None:
        """Start again what is gone, as the supervisor would."""
        now = time.monotonic()
        for worker in [worker for worker in self.running if worker.gone]:
            self.running.remove(worker)
            if worker.process.returncode != -signal.SIGKILL:
                self.left_by_themselves += 1
                worker.ask_to_stop()
            self._gone.append((now + _RESTART_SECONDS, worker))
        for due, worker in list(self._gone):
            if now >= due:
                self._gone.remove((due, worker))
                self.running.append(self._start())

    def stop(self) -> None:
        for worker in self.running:
            if worker.frozen:
                worker.signal(signal.SIGCONT)
            if not worker.gone:
                worker.ask_to_stop()
        for worker in [*self.running, *self._leaving]:
            try:
                worker.process.wait(30)
            finally:
                worker.process.kill()
                worker.process.wait()

    def _start(self) -> Component:
        return Component(self._settings, "processor", self._settings.home / f"worker-{next(self._numbers):03}.log")


class Faults:
    """Makes the planned faults happen when their time has come."""

    def __init__(
        self, planned: Sequence[Fault], workers: Workers, cluster: KafkaCluster, chance: random.Random
    ) -> None:
        self._ahead = list(planned)
        self._workers, self._cluster, self._chance = workers, cluster, chance
        self._to_thaw: list[tuple[float, Component]] = []
        self._node: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.began = time.monotonic()
        self.done: list[Fault] = []

    @property
    def over(self) -> bool:
        node = self._node is not None and self._node.is_alive()
        return not self._ahead and not self._to_thaw and not node

    def tend(self) -> None:
        """What is due by now. Raises what went wrong with a node."""
        if self._failure:
            raise self._failure
        now = time.monotonic()
        for due, worker in [item for item in self._to_thaw if item[0] <= now]:
            self._to_thaw.remove((due, worker))
            worker.signal(signal.SIGCONT)
        for fault in {fault.kind: fault for fault in reversed(self._ahead)}.values():  # the first of each kind
            if fault.at > now - self.began:
                continue
            fault.happened = now
            if self._happened(fault):
                self._ahead.remove(fault)
                self.done.append(fault)
                pause = now - self.began + self._chance.uniform(*_PAUSE_SECONDS)
                for other in self._ahead:  # what had to wait for somebody to befall does not come all at once
                    if other.kind == fault.kind:
                        other.at = max(other.at, pause)

    def _happened(self, fault: Fault) -> bool:
        """Make it happen; False when there is nobody at the moment to whom it could."""
        if fault.kind == JOIN:
            self._workers.add()
            return True
        if fault.kind == NODE:
            if self._node and self._node.is_alive():
                return False
            self._node = threading.Thread(target=self._lose_a_node, args=(fault.lasts,))
            self._node.start()
            return True
        worker = self._workers.one()
        if worker is None:
            return False
        if fault.kind == KILL:
            worker.kill()
        elif fault.kind == FREEZE:
            worker.signal(signal.SIGSTOP)
            self._to_thaw.append((fault.happened + fault.lasts, worker))
        else:
            self._workers.remove(worker)
        return True

    def _lose_a_node(self, seconds: float) -> None:
        node = self._chance.choice(self._cluster.nodes)
        try:
            node.kill()
            time.sleep(seconds)  # so long it is away
            node.launch()
            eventually(node.serves, 240, every=0.5)
        except BaseException as failure:  # noqa: BLE001 - handed to the test's thread by tend()
            self._failure = failure


class Watch:
    """Reads ``processors.progress`` as it is committed: how far each partition is, and when it moved."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        name = World(settings.world).topic(topics.PROGRESS.name)
        self._codec = codec
        self._consumer = clients.consumer(
            settings.kafka, group="fire", **{"auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}
        )
        places = beginnings(settings.kafka, name)
        self._consumer.assign(places)
        self.partitions = len(places)
        self.next_offset: dict[int, int] = dict.fromkeys(range(len(places)), 0)
        self.moved: dict[int, list[float]] = defaultdict(list)
        self.transactions = 0
        self._over = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        self._over = True
        self._thread.join(30)
        self._consumer.close()

    def silences(self, since: float, until: float) -> list[float]:
        """For each partition, how long after ``since`` it moved again; of those that did before ``until``."""
        found = []
        for moments in self.moved.values():
            later = [moment for moment in moments if since < moment <= until]
            if later:
                found.append(later[0] - since)
        return found

    def longest(self, since: float, until: float) -> float:
        """The longest time in which a partition did not move."""
        return max(
            after - before
            for moments in self.moved.values()
            for before, after in pairwise([since, *(moment for moment in moments if since < moment < until), until])
        )

    def _work(self) -> None:
        while not self._over:
            for message in self._consumer.consume(1_000, 0.1):
                error = message.error()
                if error is not None:
                    assert error.code() != KafkaError._AUTO_OFFSET_RESET, error
                    continue
                record = self._codec.decode(message.value() or b"")
                assert isinstance(record, Progress)
                partition = message.partition() or 0
                self.next_offset[partition] = record.next_offset
                self.moved[partition].append(time.monotonic())
                self.transactions += 1
