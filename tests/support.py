"""What the tests of several packages share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from confluent_kafka import KafkaError, Message
from pydantic import SecretStr

from infra import kafka as clients
from infra.kafka_log import beginnings, partition_count, read_to_end
from infra.process import MANAGED
from infra.settings import RegistrySettings, Settings
from tests.forked import Forked

T = TypeVar("T")
ROOT = Path(__file__).parents[1]


class Out(NamedTuple):
    """One record to produce; ``symbol`` decides the partition when none is given."""

    key: str
    value: bytes | None
    timestamp: int
    partition: int | None = None
    headers: list[tuple[str, str | bytes | None]] | None = None


@contextmanager
def registered(settings: Settings) -> Iterator[Settings]:
    """The settings with a registry of their own, which runs within the block."""
    with Child(settings, "registry") as registry:
        yield settings.model_copy(update={"registry": RegistrySettings(url=registry.ready["url"], port=0)})


def eventually(condition: Callable[[], T], timeout: float = 60.0, *, every: float = 0.05) -> T:
    """The first true value of ``condition``; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout} s"
        time.sleep(every)
    return value


def produce_all(settings: Settings, topic: str, records: Iterable[Out]) -> int:
    """Produce to a full topic name and wait until all are acknowledged; how many."""
    partitions = partition_count(settings.kafka, topic)
    producer = clients.producer(settings.kafka)
    failed: list[KafkaError] = []
    count = 0
    for record in records:
        partition = record.partition
        producer.produce(
            topic,
            key=record.key.encode(),
            value=record.value,
            partition=clients.partition_for(record.key, partitions) if partition is None else partition,
            timestamp=record.timestamp,
            headers=record.headers,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        producer.poll(0)
        count += 1
    assert producer.flush(30) == 0
    assert not failed
    return count


def read_all(settings: Settings, topic: str, **overrides: Any) -> list[Message]:
    """All committed records of a full topic name, partition by partition in order."""
    starts = beginnings(settings.kafka, topic)
    messages = [message for batch in read_to_end(settings.kafka, starts, **overrides) for message in batch]
    return sorted(messages, key=lambda message: (message.partition(), message.offset()))


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child process has the same settings."""
    flat = {name: value for name, value in os.environ.items() if not name.startswith("ARBITREX_")}
    return flat | dict(_flatten("ARBITREX", settings.model_dump(exclude_defaults=True)))


def _flatten(prefix: str, tree: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in tree.items():
        key = f"{prefix}_{name.upper()}" if prefix == "ARBITREX" else f"{prefix}__{name.upper()}"
        if isinstance(value, dict) and name != "storage_options":
            yield from _flatten(key, value)
        elif isinstance(value, (list, tuple)):
            yield key, ",".join(map(str, value))
        elif isinstance(value, dict):
            yield key, json.dumps({option: _shown(text) for option, text in value.items()})
        elif value is not None:
            yield key, _shown(value)


def _shown(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def execute(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the ``arbitrex`` command."""
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )


class Child:
    """A component as `arbitrex up` would start it; a context manager that stops it through its standard input."""

    start: ClassVar[Callable[[Sequence[str], Mapping[str, str]], subprocess.Popen[bytes] | Forked]] = execute
    """How its process is started; pytest's configuration says how in tests."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self.arguments = arguments
        self._environment = environment(settings) | {MANAGED: "1"}
        self.ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.process = type(self).start(self.arguments, self._environment)
        assert self.process.stdout is not None
        while "ready" not in self.ready:  # a producer says that it is alive before
            line = self.process.stdout.readline()
            if not line:
                self.__exit__()
            assert line, f"arbitrex {' '.join(self.arguments)} ended before it was ready"
            self.ready = json.loads(line)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def kill(self) -> None:
        """Kill it the hard way."""
        self.process.kill()
        self.process.wait()
