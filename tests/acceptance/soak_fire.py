"""The soak's fire: what it does, and to whom."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import psutil

from infra.brokers.kafka import KafkaCluster
from infra.settings import Settings, SimulatorSettings
from producers.simulated.faults import Kind
from producers.simulated.instruments import offered
from schemas.errors import ComponentError
from tests.acceptance.fire_faults import Component
from tests.acceptance.soak_faults import KINDS, script
from tests.support import eventually

SHORT_SECONDS: Final = (2.0, 20.0)
LONG_SECONDS: Final = 70.0
"""How long a shard lives before it is killed: short, or up to so long after its start should be over."""
LEAST_START: Final = 20.0
STARTS: Final = 2.0
"""How many times what the processor's start takes here a shard's may take, beside kills and faults."""
BETWEEN_SECONDS: Final = 3.0
ALIVE_SECONDS: Final = 50.0
"""So long before the end nobody kills the shard that is to find another account then."""
KAFKA_SECONDS: Final = 75.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a soak does."""

    minutes: float
    symbols: int
    """Of each shard."""
    rate: float
    shards: tuple[str, ...] = tuple(KINDS)
    spared: str | None = "a"
    """The shard that is never killed."""
    seed: int = 1
    head: float = 60.0
    """Seconds before the first fault, in which the shards catch up with what there was."""
    patience: float = 15.0

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    @property
    def copies(self) -> int:
        return -(-self.symbols * len(self.shards) // len(offered(1)))

    def symbols_of(self, shard: str) -> list[str]:
        names = sorted(offered(self.copies), key=lambda name: (not name.startswith("BTC"), name))
        return names[self.shards.index(shard) :: len(self.shards)][: self.symbols]

    def simulator(self, shard: str, begin: float) -> SimulatorSettings:
        faults = script(shard, self.symbols_of(shard), begin, self.seconds, self.seed)
        return SimulatorSettings(seed=ord(shard), rate=self.rate, copies=self.copies, faults=faults)


@dataclass
class Told:
    """What was done, and what was seen of memory."""

    kills: dict[str, int] = field(default_factory=dict)
    kafka: int = 0
    processors: int = 0
    """How often the processor was started again."""
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """By shard: seconds since the first fault, and MB."""
    processes: dict[str, set[int]] = field(default_factory=dict)

    def quarter(self, shard: str, number: int, seconds: float) -> float:
        """The median memory of a shard in a quarter of the time; 0 when it never ran then."""
        width = seconds / 4
        found = [mb for at, mb in self.memory.get(shard, []) if number * width <= at < (number + 1) * width]
        return median(found) if found else 0.0


class Fire:
    """Kills shards and restarts Kafka, and starts the processor again when it has left."""

    def __init__(self, base: Settings, plan: Plan, cluster: KafkaCluster | None) -> None:
        self._base, self._plan, self._cluster = base, plan, cluster
        self._chance = random.Random(plan.seed)
        self._names: dict[int, str] = {}
        self._lives: dict[int, float] = {}
        self._pool = ThreadPoolExecutor(1)
        self._restarting: Future[None] | None = None
        self._start = LEAST_START
        self.told = Told(dict.fromkeys(plan.shards, 0))
        self.processor = self._processor()

    def await_processor(self) -> float:
        """Wait until the processor is ready; how many seconds it took to start."""
        began = time.monotonic()
        eventually(lambda: self.processor.ready or self.processor.gone, 300, every=0.1)
        took = time.monotonic() - began
        self._start = max(LEAST_START, STARTS * took)
        return took

    def burn(self, producer: Component, began: float) -> Iterator[Told]:
        """From a moment of the monotonic clock on, or from now; what was done so far, some times a second."""
        begin = max(began, time.monotonic())
        until = begin + self._plan.seconds
        next_kill, next_kafka = begin, begin + KAFKA_SECONDS / 2
        while (now := time.monotonic()) < until:
            shards = self._shards(producer)
            self._look(shards, now - begin)
            if now >= next_kill and self._kill(shards, until - now):
                next_kill = now + BETWEEN_SECONDS
            if self._cluster is not None and now >= next_kafka and until - now > KAFKA_SECONDS / 2:
                self._check_restart()
                self._restarting = self._pool.submit(self._restart, self._cluster, self._chance.uniform(0, 6))
                next_kafka = now + KAFKA_SECONDS
            self.tend()
            assert not producer.gone, "the producer has ended"
            yield self.told
            time.sleep(0.2)  # the pace of looking
        self._check_restart()

    def tend(self) -> None:
        """Start the processor again, as the supervisor would."""
        if self.processor.gone:
            self.processor.ask_to_stop()
            self.told.processors += 1
            self.processor = self._processor()

    def stop(self) -> None:
        self._pool.shutdown()
        self.processor.ask_to_stop()
        self.processor.process.wait(60)

    def _processor(self) -> Component:
        return Component(self._base, "processor", self._base.home / "processor.log")

    def _shards(self, producer: Component) -> dict[str, psutil.Process]:
        found = {}
        for process in psutil.Process(producer.process.pid).children():
            try:
                name = self._names.get(process.pid) or process.cmdline()[-1]
            except (psutil.Error, IndexError):
                continue
            if name in self._plan.shards:
                self._names[process.pid] = name
                long = (self._start, self._start + LONG_SECONDS)
                life = self._chance.uniform(*self._chance.choice((SHORT_SECONDS, long)))
                self._lives.setdefault(process.pid, min(life, self._plan.seconds / 3))
                found[name] = process
        return found

    def _look(self, shards: Mapping[str, psutil.Process], at: float) -> None:
        for name, process in shards.items():
            try:
                self.told.memory.setdefault(name, []).append((at, process.memory_info().rss >> 20))
                self.told.processes.setdefault(name, set()).add(process.pid)
            except psutil.Error:
                continue

    def _kill(self, shards: Mapping[str, psutil.Process], left: float) -> bool:
        """Kill a shard whose time has come; whether there was one."""
        for name, process in shards.items():
            safe = name == self._plan.spared or (Kind.ACCOUNT in KINDS[name] and left < ALIVE_SECONDS)
            if not safe and time.time() - process.create_time() > self._lives[process.pid]:
                process.kill()
                self.told.kills[name] += 1
                return True
        return False

    def _restart(self, cluster: KafkaCluster, away: float) -> None:
        if self.told.kafka % 2:
            cluster.kill(1)
        else:
            cluster.nodes[0].stop()
        time.sleep(away)  # how long it is away, not a synchronisation
        try:
            cluster.start(1)
        except ComponentError:  # it took too long beside all the rest
            cluster.start(1)
        self.told.kafka += 1

    def _check_restart(self) -> None:
        """Raise what went wrong with the last restart, once it is over."""
        if self._restarting is not None:
            self._restarting.result(120)
