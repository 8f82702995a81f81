"""How fast one program goes through ``ticks.raw``, and what it takes for that."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions

from benchmarks.stage import Stage
from infra import kafka as clients
from infra.settings import Settings
from tests.support import Child

_PROCESSED = "arbitrex_records_processed_total "
_EVERY_SECONDS = 0.05
_STUCK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    """From the first commit that was seen to the last."""

    records: int
    seconds: float
    cpu_seconds: float
    """User and system, of all of the program's processes."""
    peak_rss: int

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds for a million records."""
        return self.cpu_seconds / self.records * 1e6


@dataclass(frozen=True, slots=True)
class Spent:
    """What a program's processes have used of the CPU."""

    seconds: float
    moment: float

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Up to now, user and system."""
        return cls(_cpu(process), time.perf_counter())

    def since(self, before: Spent) -> float:
        """Cores used in between."""
        return (self.seconds - before.seconds) / (self.moment - before.moment)


def run_worker(stage: Stage, total: int) -> Result:
    """One worker of ours, which says itself how many records its committed transactions hold."""
    return run_component(stage.settings, ("processor",), _PROCESSED, total)


def run_component(settings: Settings, arguments: Sequence[str], counter: str, total: int) -> Result:
    """A component of ours until one of its metrics has reached ``total``."""
    with Child(settings, *arguments) as child:
        url = f"http://127.0.0.1:{child.ready['status_port']}/metrics"

        def done() -> int:
            with urllib.request.urlopen(url) as response:
                lines = response.read().decode().splitlines()
            return int(float(next((line.split()[-1] for line in lines if line.startswith(counter)), 0)))

        return _watch(psutil.Process(child.process.pid), done, total)


def run_group(stage: Stage, command: list[str], environment: dict[str, str], group: str, total: int) -> Result:
    """A program that commits its consumer group's offsets."""
    admin = clients.admin(stage.settings.kafka)

    def done() -> int:
        future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
        places = future.result().topic_partitions
        return sum(place.offset for place in places if place.topic == stage.raw and place.offset > 0)

    with _process(command, environment) as process:
        return _watch(process, done, total)


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[psutil.Process]:
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        try:
            yield watched
        finally:
            family = _family(watched)
            for member in family:
                with suppress(psutil.Error):
                    member.terminate()
            for member in psutil.wait_procs(family, 20)[1]:
                with suppress(psutil.Error):
                    member.kill()


def _watch(process: psutil.Process, done: Callable[[], int], total: int) -> Result:
    started = time.perf_counter()
    while not (first := done()):
        _check(process, started)
        time.sleep(_EVERY_SECONDS)
    start, spent, reached, peak = time.perf_counter(), _cpu(process), first, 0
    heard = start
    while reached < total:
        time.sleep(_EVERY_SECONDS)
        peak = max(peak, _rss(process))
        now, before, reached = time.perf_counter(), reached, done()
        heard = now if reached > before else heard
        _check(process, heard)
    return Result(reached - first, time.perf_counter() - start, _cpu(process) - spent, peak)


def _check(process: psutil.Process, since: float) -> None:
    if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
        raise SystemExit("the program ended before it was through; its errors stand above")
    if time.perf_counter() - since > _STUCK_SECONDS:
        raise SystemExit(f"no progress for {_STUCK_SECONDS:.0f} s")


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu(process: psutil.Process) -> float:
    return _sum(process, lambda member: sum(member.cpu_times()[:2]))


def _rss(process: psutil.Process) -> int:
    return int(_sum(process, lambda member: member.memory_info().rss))


def _sum(process: psutil.Process, measure: Callable[[psutil.Process], float]) -> float:
    """Over the program's processes; one may end in between."""
    total = 0.0
    for member in _family(process):
        with suppress(psutil.NoSuchProcess):
            total += measure(member)
    return total
