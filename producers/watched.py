"""A terminal whose calls are timed, so that one that hangs is seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, cast

from producers.terminal import Terminal

LONG_SECONDS: Final = 1.0
"""A call that takes longer makes its process fall silent until it returns."""


class Watched:
    """Stands before a terminal."""

    def __init__(self) -> None:
        self._inner: Terminal | None = None
        self._since: float | None = None

    def over(self, terminal: Terminal) -> Terminal:
        """What to call instead of ``terminal``."""
        self._inner = terminal
        return cast("Terminal", self)

    def answers(self) -> bool:
        """Whether no call has been going on for long; from any thread."""
        since = self._since
        return since is None or time.monotonic() - since < LONG_SECONDS

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._inner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._since = time.monotonic()
            try:
                return call(*arguments, **options)
            finally:
                self._since = None

        self.__dict__[name] = timed
        return timed
