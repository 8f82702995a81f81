"""What a channel brought last, so that a client that was away for a moment finds its place without Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gateway.market import Row
from gateway.protocol import Stream

KEPT: Final = 20_000
"""Rows of a channel."""
_GATHERED: Final = 50_000
"""Rows that are kept for one replay."""


class Part(NamedTuple):
    """Rows of one stream."""

    stream: Stream
    rows: list[Row]


class Step(NamedTuple):
    """What one reading brought, and the cursor after it."""

    cursor: str
    parts: Sequence[Part]


class Gathering:
    """What some streams bring while a replay plays what was there before, until it is too much.

    However much all others bring, and however slowly the past is read, it waits here for the replay to arrive.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._streams = frozenset(streams)
        self.rows: list[Row] | None = []
        """In the order of the log; None: it was too much."""

    def add(self, parts: Iterable[Part]) -> None:
        if self.rows is None:
            return
        for part in parts:
            if part.stream in self._streams:
                self.rows += part.rows
        if len(self.rows) > _GATHERED:
            self.rows = None


class Recent:
    """The last steps of one channel."""

    def __init__(self, cursor: str) -> None:
        self._numbers = {cursor: 0}
        """Of each cursor that is still known, the number of the step after it."""
        self._steps: deque[Step] = deque()
        self._first = 0
        self._rows = 0
        self._before = cursor

    def add(self, step: Step) -> None:
        self._steps.append(step)
        self._rows += _size(step)
        self._numbers[step.cursor] = self._first + len(self._steps)
        while self._rows > KEPT:
            oldest = self._steps.popleft()
            self._rows -= _size(oldest)
            self._first += 1
            self._numbers.pop(self._before, None)
            self._before = oldest.cursor

    def after(self, cursor: str) -> list[Step] | None:
        """The steps from a cursor to now; None when it is not known, or no longer."""
        number = self._numbers.get(cursor)
        return None if number is None else list(self._steps)[number - self._first :]


def _size(step: Step) -> int:
    return 1 + sum(len(part.rows) for part in step.parts)
