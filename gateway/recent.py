"""What a channel brought last, so that a client that was away for a moment finds its place without Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.market import Row
from gateway.protocol import Stream

KEPT: Final = 20_000
"""Rows of a channel."""


class Part(NamedTuple):
    """Rows of one stream."""

    stream: Stream
    rows: list[Row]


class Step(NamedTuple):
    """What one reading brought, and the cursor after it."""

    cursor: str
    parts: Sequence[Part]


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
