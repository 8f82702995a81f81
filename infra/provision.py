"""Topics as code: what a world's topics should be, how they differ, and making them so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from infra import kafka as clients
from infra import kafka_log, logs
from infra.topics import BARS_LIVE, PROGRESS, TICKS_CLEAN, TICKS_RAW, TICKS_REJECTED, TOPICS, Topic
from infra.worlds import World
from schemas.errors import BrokerError, UsageError

if TYPE_CHECKING:
    from infra.settings import KafkaSettings, Settings

FOREVER: Final = "-1"
_TIMEOUT: Final = 15.0
_CLUSTER: Final = 3
"""Brokers that make a cluster: enough for three replicas."""
_EMBEDDED_TICKS_MS: Final = 3 * 3_600_000
_READ_BACK: Final = frozenset({BARS_LIVE, PROGRESS})
"""A worker that takes partitions over reads all of it, and compaction leaves each partition's newest segment alone."""
_EMBEDDED_SHORT: Final = (TICKS_RAW, TICKS_CLEAN, TICKS_REJECTED)

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between a topic as declared and as it is."""

    topic: str
    kind: str
    """``create``, ``configure``, or ``refuse`` for what cannot be changed."""
    partitions: int = 0
    replication: int = 0
    config: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        """One line for people."""
        if self.kind == "refuse":
            return f"! {self.topic} {self.note}"
        values = ", ".join(
            f"{key}: {self.before[key]} -> {value}" if key in self.before else f"{key}={value}"
            for key, value in sorted(self.config.items())
        )
        if self.kind == "create":
            return f"+ {self.topic}: {self.partitions} partitions, {self.replication} replicas, {values}"
        return f"~ {self.topic}: {values}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is there: brokers, and topics with their partition counts."""

    brokers: int
    partitions: Mapping[str, int]


def desired_config(topic: Topic, *, replication: int, historical: bool, embedded: bool, world: str) -> dict[str, str]:
    """The topic's configuration. Pure; times in ms."""
    config = {"message.timestamp.type": "CreateTime"}
    if not embedded:  # the embedded broker has one node and knows neither
        config |= {
            "min.insync.replicas": "2" if replication >= _CLUSTER else "1",
            "unclean.leader.election.enable": "false",
        }
    if topic.compacted:
        config |= {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.2",
            "min.compaction.lag.ms": "60000",
            "segment.ms": "21600000",
            "segment.bytes": str((16 if topic in _READ_BACK else 64) * 2**20),
            "delete.retention.ms": "604800000",
        }
    elif historical:
        config |= {"cleanup.policy": "delete", "retention.ms": FOREVER}
    else:
        retention = topic.retention_ms
        if embedded and world == "main" and topic in _EMBEDDED_SHORT:
            retention = _EMBEDDED_TICKS_MS
        config |= {"cleanup.policy": "delete", "retention.ms": str(retention)}
    return config


def plan(settings: Settings, *, historical: bool | None = None) -> list[Change]:
    """What `apply` would do. ``historical`` None keeps a world as it was created.

    Raises BrokerError when Kafka is away.
    """
    admin = clients.admin(settings.kafka)
    with answering(settings.kafka):
        there = survey(admin)
        if historical is None:
            historical = _is_historical(admin, settings.world, there)
        return list(_changes(settings, admin, there, historical=historical))


def apply(settings: Settings, *, historical: bool | None = None) -> list[Change]:
    """Create and configure the world's topics; what was done.

    Raises UsageError, before anything is done, if a topic has other partitions than asked for: they are fixed for a
    world's life, since a symbol's records must stay in one partition.
    """
    changes = plan(settings, historical=historical)
    refused = [change for change in changes if change.kind == "refuse"]
    if refused:
        raise UsageError(f"{refused[0].topic} {refused[0].note} ({len(refused)} topics)")
    admin = clients.admin(settings.kafka)
    with answering(settings.kafka):
        _create(settings.kafka, admin, [change for change in changes if change.kind == "create"])
        _configure(settings.kafka, admin, [change for change in changes if change.kind == "configure"])
    return changes


def is_historical(settings: Settings) -> bool:
    """Whether the world keeps its ticks for good: an import, a replay or a backfill."""
    admin = clients.admin(settings.kafka)
    with answering(settings.kafka):
        return _is_historical(admin, settings.world, survey(admin))


def world_topics(settings: Settings) -> list[str]:
    """Names of the world's topics that exist, sorted."""
    wanted = {World(settings.world).topic(topic.name) for topic in TOPICS}
    with answering(settings.kafka):
        return sorted(wanted & set(survey(clients.admin(settings.kafka)).partitions))


def partitions(settings: Settings) -> int:
    """Partitions of the world's topics. Raises BrokerError when it has none, or Kafka is away."""
    return kafka_log.partition_count(settings.kafka, World(settings.world).topic(TICKS_RAW.name))


def wait_until_there(settings: Settings, stopping: Event, *, timeout: float = 60.0) -> None:
    """Return when the broker answers and has all of the world's topics, or when ``stopping`` is set.

    Raises BrokerError after ``timeout`` seconds, saying which of the two was missing.
    """
    deadline = time.monotonic() + timeout
    told = ""
    wanted = {World(settings.world).topic(topic.name) for topic in TOPICS}
    while not stopping.is_set():
        try:
            missing = wanted - set(world_topics(settings))
            if not missing:
                return
            reason = f"world {settings.world} lacks {', '.join(sorted(missing))}; create with: arbitrex topics apply"
        except BrokerError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise BrokerError(reason)
        if reason != told:
            log.info("waiting for Kafka", reason=reason)
            told = reason
        stopping.wait(0.5)


def _changes(settings: Settings, admin: AdminClient, cluster: Cluster, *, historical: bool) -> Iterator[Change]:
    kafka, world = settings.kafka, World(settings.world)
    is_cluster = cluster.brokers >= _CLUSTER
    replication = kafka.replication or (3 if is_cluster else 1)
    names = [(topic, world.topic(topic.name)) for topic in TOPICS]
    there = [name for _, name in names if name in cluster.partitions]
    partitions = kafka.partitions or max((cluster.partitions[name] for name in there), default=12 if is_cluster else 4)
    actual = _configs(admin, there)
    for topic, name in names:
        config = desired_config(
            topic, replication=replication, historical=historical, embedded=kafka.embedded, world=settings.world
        )
        if name not in cluster.partitions:
            yield Change(name, "create", partitions, replication, config)
            continue
        if cluster.partitions[name] != partitions:
            yield Change(
                name,
                "refuse",
                note=f"has {cluster.partitions[name]} partitions, not {partitions}; a world's partitions are fixed "
                "for its life: leave ARBITREX_KAFKA__PARTITIONS unset, or use a new world",
            )
        drift = {key: value for key, value in config.items() if actual[name].get(key, value) != value}
        if drift:
            yield Change(name, "configure", config=drift, before={key: actual[name][key] for key in drift})


def survey(admin: AdminClient) -> Cluster:
    """Brokers and topics as they are now."""
    found = admin.list_topics(timeout=_TIMEOUT)
    return Cluster(
        len(found.brokers),
        {name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None},
    )


def _is_historical(admin: AdminClient, world: str, cluster: Cluster) -> bool:
    name = World(world).topic(TICKS_RAW.name)
    return name in cluster.partitions and _configs(admin, [name])[name].get("retention.ms") == FOREVER


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
    return {
        resource.name: {key: entry.value for key, entry in future.result(_TIMEOUT).items() if entry.value is not None}
        for resource, future in asked.items()
    }


def _create(kafka: KafkaSettings, admin: AdminClient, changes: list[Change]) -> None:
    if not changes:
        return
    topics = [
        NewTopic(
            change.topic,
            num_partitions=change.partitions,
            replication_factor=change.replication,
            config=dict(change.config),
        )
        for change in changes
    ]
    for future in admin.create_topics(topics, operation_timeout=_TIMEOUT).values():
        try:
            future.result(2 * _TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    wanted = {change.topic for change in changes}
    _until_every_broker(kafka, admin, lambda its: wanted <= set(survey(its).partitions), "topics were created")


def _configure(kafka: KafkaSettings, admin: AdminClient, changes: list[Change]) -> None:
    if not changes:
        return
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            change.topic,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in change.config.items()
            ],
        )
        for change in changes
    ]
    for future in admin.incremental_alter_configs(resources).values():
        future.result(_TIMEOUT)

    def is_known(its: AdminClient) -> bool:
        actual = _configs(its, [change.topic for change in changes])
        return all(change.config.items() <= actual[change.topic].items() for change in changes)

    _until_every_broker(kafka, admin, is_known, "topics were configured")


def _until_every_broker(
    kafka: KafkaSettings, admin: AdminClient, is_known: Callable[[AdminClient], bool], done: str
) -> None:
    """Wait for what was done to be known everywhere: a broker applies the controller's log a moment later."""
    deadline = time.monotonic() + 2 * _TIMEOUT
    for broker in admin.list_topics(timeout=_TIMEOUT).brokers.values():
        its = clients.admin(kafka.model_copy(update={"bootstrap_servers": f"{broker.host}:{broker.port}"}))
        while not is_known(its):
            if time.monotonic() > deadline:
                raise BrokerError(f"{done}, but broker {broker.id} does not know all of it after {2 * _TIMEOUT:.0f} s")
            time.sleep(0.05)


@contextmanager
def answering(kafka: KafkaSettings) -> Iterator[None]:
    """Turns the client's errors into a BrokerError that says what to look at."""
    try:
        yield
    except KafkaException as error:
        problem: KafkaError = error.args[0]
        if problem.code() in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001
            raise BrokerError(
                f"Kafka at {kafka.bootstrap_servers} does not answer; is it running, and is "
                "ARBITREX_KAFKA__BOOTSTRAP_SERVERS right?"
            ) from error
        raise BrokerError(f"Kafka at {kafka.bootstrap_servers} refused: {problem.str()}") from error
