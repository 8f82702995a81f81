"""Under which name a worker is a member of its group.

Workers are static members. A killed one that is started again takes its own place, and the others go on undisturbed; as
a dynamic member it would be a new one, and until the group had given up the old one (session and rebalance time-outs,
over and over while workers are killed) nobody would have any partitions. What leaves on purpose says so
(`processors.transport.BatchThread`); what never comes back costs a session time-out either way.
"""

from __future__ import annotations

import itertools
import uuid
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
        """The first free seat among the workers of this world and home; no other home has one of the same name."""
        folder = settings.home / "processors"
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            file = (folder / f"{settings.world}.{number}.lock").open("a+b")
            if try_lock(file):
                return cls(f"{settings.world}.processor.{_id_in(file)}", file)
            file.close()
        raise AssertionError("there are numbers enough")


def _id_in(file: IO[bytes]) -> str:
    file.seek(0)
    known = file.read().decode()
    if not known:
        known = uuid.uuid4().hex
        file.write(known.encode())
        file.flush()
    return known
