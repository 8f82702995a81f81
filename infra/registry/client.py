"""A component's way to the schema registry."""

from __future__ import annotations

import threading
import time
from typing import Final

from infra import logs
from infra.settings import RegistrySettings, Settings
from schemas.codec import Codec
from schemas.errors import RegistryAwayError
from schemas.registry import Registry

WAIT_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0

log = logs.logger(__name__)


def registry(settings: RegistrySettings) -> Registry:
    """The client of the configured registry."""
    password = settings.password.get_secret_value() if settings.password else None
    return Registry(settings.url, settings.username, password)


def connect(
    settings: Settings, stopping: threading.Event | None = None, *, wait_seconds: float = WAIT_SECONDS
) -> Codec:
    """A codec on the configured registry, with all our schemas registered.

    A registry that is away is waited for, until ``stopping`` is set or ``wait_seconds`` have passed; then
    RegistryAwayError is raised. Whatever it refuses is raised at once, as RegistryError or IncompatibleSchemaError.
    """
    stop = stopping or threading.Event()
    client = registry(settings.registry)
    deadline = time.monotonic() + wait_seconds
    pause, told = _FIRST_PAUSE_SECONDS, False
    while True:
        try:
            client.register_all()
        except RegistryAwayError as error:
            if time.monotonic() + pause > deadline or stop.wait(pause):
                raise
            if not told:
                log.warning("waiting for the schema registry", reason=str(error))
                told = True
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        else:
            return Codec(client)
