"""The worlds of a Kafka: what there is, and dropping one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException

from infra import kafka as clients
from infra import provision
from infra.topics import TICKS_RAW, TOPICS
from infra.worlds import World
from schemas.errors import BrokerError, StoreError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from infra.settings import KafkaSettings, Settings

MAIN: Final = "main"
_TIMEOUT: Final = 15.0
_GONE_SECONDS: Final = 30.0
_ABSENT: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND}


@dataclass(frozen=True, slots=True)
class Found:
    """A world as Kafka has it."""

    name: str
    topics: int
    partitions: int
    historical: bool
    """Its ticks are kept for good: an import, a replay or a backfill."""


def worlds_in(topics: Iterable[str]) -> list[str]:
    """Names of the worlds that own some of ``topics``, sorted. Pure."""
    endings = [f".{topic.name}" for topic in TOPICS]
    candidates = {name.removesuffix(ending) for name in topics for ending in endings if name.endswith(ending)}
    return sorted(name for name in candidates if name and "." not in name)


def found(settings: Settings) -> list[Found]:
    """The worlds of the settings' Kafka. Raises BrokerError when it is away."""
    with provision.answering(settings.kafka):
        partitions = provision.survey(clients.admin(settings.kafka)).partitions
    names = worlds_in(partitions)
    return [
        Found(
            name,
            sum(World(name).topic(topic.name) in partitions for topic in TOPICS),
            partitions.get(World(name).topic(TICKS_RAW.name), 0),
            provision.is_historical(settings.model_copy(update={"world": name})),
        )
        for name in names
    ]


def drop_from_kafka(settings: Settings) -> list[str]:
    """Delete the world's consumer groups and topics; their names.

    Raises BrokerError when Kafka is away or a group still has members: stop the world's components first.
    """
    admin = clients.admin(settings.kafka)
    with provision.answering(settings.kafka):
        groups = _groups(admin, settings.world)
        _done(settings.kafka, admin.delete_consumer_groups(groups, request_timeout=_TIMEOUT) if groups else {})
        topics = provision.world_topics(settings)
        _done(settings.kafka, admin.delete_topics(topics, operation_timeout=_TIMEOUT) if topics else {})
        deadline = time.monotonic() + _GONE_SECONDS
        while provision.world_topics(settings):
            if time.monotonic() > deadline:
                raise BrokerError(f"the topics of world {settings.world} are still there; try again")
            time.sleep(0.1)
    return [*groups, *topics]


def drop_from_lake(settings: Settings) -> int:
    """Remove the world's rows from the lake; how many. Raises StoreError."""
    from infra.lake import tables  # noqa: PLC0415 - heavy, and not needed by those who have no lake

    return tables.drop_world(settings.lake_uri, settings.lake.storage_options, settings.world)


def csv_paths(settings: Settings) -> list[Path]:
    """The folders of the world's CSV that exist; the main world's stand beside those of the others."""
    names = ("ticks", "ohlcv", "rates", "rejected", "metadata", ".staging") if settings.world == MAIN else ("",)
    return [path for name in names if (path := settings.csv_dir / name).exists()]


def drop_files(settings: Settings) -> None:
    """Delete the world's CSV, and what its producers' spools hold. Raises StoreError when a file cannot be deleted."""
    spool = [settings.spool_dir] if settings.spool_dir.exists() else []
    try:
        for path in [*csv_paths(settings), *spool]:
            shutil.rmtree(path)
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted ({error.strerror}); close what uses it") from error


def _groups(admin: AdminClient, world: str) -> list[str]:
    listed = admin.list_consumer_groups(request_timeout=_TIMEOUT).result(_TIMEOUT)
    return sorted(group.group_id for group in listed.valid if group.group_id.startswith(World(world).group("")))


def _done(kafka: KafkaSettings, futures: Mapping[str, Any]) -> None:
    for name, future in futures.items():
        try:
            future.result(2 * _TIMEOUT)
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.NON_EMPTY_GROUP:
                raise BrokerError(
                    f"consumer group {name} is in use at {kafka.bootstrap_servers}; stop the world's components first"
                ) from error
            if code not in _ABSENT:
                raise
