"""Ctrl-C and SIGTERM as an event, so that a command can end where it stands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERRUPTED: Final = 130
"""The exit code of a command that was asked to stop before it was done."""


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set within the block."""
    event = threading.Event()
    with interruptible(event):
        yield event


@contextmanager
def interruptible(event: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set ``event`` within the block."""
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
