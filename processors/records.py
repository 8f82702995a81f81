"""A record as it comes out of ``ticks.raw``."""

from __future__ import annotations

from typing import Protocol


class RawRecord(Protocol):
    """What the processor uses of aiokafka's record (see `processors.hooks.unpack_in_bulk`)."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """UTC epoch milliseconds; -1 for none."""
