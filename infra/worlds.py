"""A world: all topics, groups and transactions under one prefix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class World:
    """Names within one world."""

    name: str

    def topic(self, name: str) -> str:
        """A topic's full name: ``main.ticks.raw``."""
        return f"{self.name}.{name}"

    def group(self, name: str) -> str:
        """A consumer group's full name: ``main.sink.lake``."""
        return f"{self.name}.{name}"

    def transactional_id(self, partition: int) -> str:
        """The transaction of one source partition's processor; a new owner fences the old one by it."""
        return f"{self.name}.processor.{partition}"
