"""Under which name a worker is a member of its group."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import IO, Self

from infra.locks import try_lock
from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Seat:
    """A name that a worker holds while it runs, and that its successor gets again."""

    name: str
    lock: IO[bytes]

    @classmethod
    def take(cls, settings: Settings) -> Self:
        """The first free seat among the workers of this world and home."""
        folder = settings.home / "processors"
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            file = (folder / f"{settings.world}.{number}.lock").open("a+b")
            if try_lock(file):
                return cls(f"{settings.world}.processor.{number}", file)
            file.close()
        raise AssertionError("there are numbers enough")


def seat_of(settings: Settings) -> Seat | None:
    """A seat on the embedded broker, none elsewhere.

    The embedded broker never removes a leader that died while its group rebalances: the group is stuck for good. A
    static member that comes back takes its own place again, which works. On a real Kafka dynamic members are better:
    they tell the group when they leave, and a killed one costs a session time-out at most.
    """
    return Seat.take(settings) if settings.kafka.embedded else None
