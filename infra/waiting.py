"""Waiting at start for what another process provides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from infra import logs

WAIT_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0

T = TypeVar("T")

log = logs.logger(__name__)


def patiently(
    attempt: Callable[[], T],
    while_: type[Exception],
    what: str,
    stopping: threading.Event | None = None,
    *,
    seconds: float = WAIT_SECONDS,
) -> T:
    """What ``attempt`` returns, tried again with growing pauses while it raises ``while_``.

    The first reason is logged, once. The error is raised when ``stopping`` is set or ``seconds`` have passed.
    """
    stop = stopping or threading.Event()
    deadline = time.monotonic() + seconds
    pause, told = _FIRST_PAUSE_SECONDS, False
    while True:
        try:
            return attempt()
        except while_ as error:
            if time.monotonic() + pause > deadline or stop.wait(pause):
                raise
            if not told:
                log.warning("waiting", for_=what, reason=str(error))
                told = True
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
