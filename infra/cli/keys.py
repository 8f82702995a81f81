"""Keys pressed while a command works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

_EVERY_SECONDS: Final = 0.1


def available() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


@contextmanager
def pressed(actions: Mapping[str, Callable[[], object]]) -> Iterator[None]:
    """Call what stands under a key when it is pressed, in a thread of its own; nothing without a terminal."""
    if not available():
        yield
        return
    over = threading.Event()
    with _unbuffered():
        thread = threading.Thread(target=_watch, args=(actions, over), name="keys", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _watch(actions: Mapping[str, Callable[[], object]], over: threading.Event) -> None:
    while not over.is_set():
        action = actions.get(_key(over))
        if action is not None:
            action()


if sys.platform == "win32":
    import msvcrt

    @contextmanager
    def _unbuffered() -> Iterator[None]:
        yield

    def _key(over: threading.Event) -> str:
        """The next key; empty when there was none for a moment."""
        if not msvcrt.kbhit():
            over.wait(_EVERY_SECONDS)
            return ""
        return msvcrt.getwch()

else:
    import os
    import select
    import termios
    import tty

    @contextmanager
    def _unbuffered() -> Iterator[None]:
        """The terminal gives each key at once and does not show it; Ctrl-C and Ctrl-Z stay what they are."""
        descriptor = sys.stdin.fileno()
        if not _in_front(descriptor):
            yield
            return
        before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        try:
            yield
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def _key(over: threading.Event) -> str:
        """The next key; empty when there was none for a moment."""
        descriptor = sys.stdin.fileno()
        if not _in_front(descriptor):  # the system stops a process that reads from behind
            over.wait(_EVERY_SECONDS)
            return ""
        ready, _, _ = select.select([descriptor], [], [], _EVERY_SECONDS)
        return os.read(descriptor, 1).decode("ascii", "ignore") if ready else ""

    def _in_front(descriptor: int) -> bool:
        try:
            return os.tcgetpgrp(descriptor) == os.getpgrp()
        except OSError:  # not the terminal that controls this process: anybody may read from it
            return True
