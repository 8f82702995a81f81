"""Logging: structlog over the standard library, to standard error, in UTC."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Final

import structlog

from infra.settings import LogSettings

Logger = structlog.stdlib.BoundLogger

_EVERY_SECONDS: Final = 60.0
_MOST_KINDS: Final = 1_000
_NUMBER: Final = re.compile(r"\d+")


class Repeats:
    """Lets one line of a kind pass in a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds."""
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}
        """When one passed, and how many did not since."""

    def left_out(self, kind: str) -> int | None:
        """How many of the ``kind`` were left out since one passed; None: leave this one out, too."""
        now = self._clock()
        passed, left = self._kinds.get(kind, (-_EVERY_SECONDS, 0))
        if now - passed < _EVERY_SECONDS:
            self._kinds[kind] = passed, left + 1
            return None
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = now, 0
        return left


class ClientsRepeats(logging.Filter):
    """What Kafka's clients say again and again while a node is away, up to fifty times a second."""

    def __init__(self, repeats: Repeats | None = None) -> None:
        super().__init__()
        self._repeats = repeats or Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        """Lines that differ in numbers only are of a kind."""
        if not record.name.startswith(("aiokafka", "librdkafka")):
            return True
        text = record.getMessage()
        left = self._repeats.left_out(_NUMBER.sub("", text))
        if left:
            record.msg, record.args = f"{text} (and {left} like it since the last one shown)", ()
        return left is not None


def configure(settings: LogSettings, component: str) -> None:
    """Set up logging of this process; every line carries ``component``."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ClientsRepeats())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    for chatty in ("httpx", "httpx2", "httpcore"):  # a line for every request to the registry
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(component=component)


def logger(name: str) -> Logger:
    """The logger of a module."""
    log: Logger = structlog.stdlib.get_logger(name)
    return log
