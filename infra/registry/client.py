"""A component's way to the schema registry."""

from __future__ import annotations

import threading

from infra.settings import RegistrySettings, Settings
from infra.topics import TOPICS
from infra.waiting import WAIT_SECONDS, patiently
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import RegistryAwayError
from schemas.registry import Registry


def registry(settings: RegistrySettings) -> Registry:
    """The client of the configured registry."""
    password = settings.password.get_secret_value() if settings.password else None
    return Registry(settings.url, settings.username, password)


def connect(
    settings: Settings, stopping: threading.Event | None = None, *, wait_seconds: float = WAIT_SECONDS
) -> Codec:
    """A codec on the configured registry, with all our schemas registered.

    They stand under the records' names, and under ``<topic>-value`` for the world's topics of one type, where Connect
    and ksqlDB look.

    A registry that is away is waited for, until ``stopping`` is set or ``wait_seconds`` have passed; then
    RegistryAwayError is raised. Whatever it refuses is raised at once, as RegistryError or IncompatibleSchemaError.
    """
    client = registry(settings.registry)
    world = World(settings.world)

    def register() -> None:
        client.register_all()
        for topic in TOPICS:
            if len(topic.records) == 1:
                client.register_value(world.topic(topic.name), topic.records[0])

    patiently(register, RegistryAwayError, "the schema registry", stopping, seconds=wait_seconds)
    return Codec(client)
