"""``--run``: a processor and the sinks for one world, until everything in it is processed and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from infra import kafka as clients
from infra.cli.stopping import interruptible
from infra.kafka_log import beginnings, ends, read_to_end
from infra.registry.client import connect
from infra.supervisor import runfile
from infra.supervisor.assembly import arbitrex, child_environment
from infra.supervisor.child import Child, Command
from infra.supervisor.stack import COMPONENTS, Stack
from infra.topics import PROGRESS, TICKS_RAW
from infra.worlds import World
from schemas.errors import ArbitrexError, BrokerError
from schemas.records import Progress
from sinks.kinds import limits_of, sink_of
from sinks.selection import Selection

if TYPE_CHECKING:
    from infra.settings import Settings
    from schemas.codec import Codec

SINKS: Final = ("lake", "csv")
_ROTATE_SECONDS: Final = 5.0
"""Sinks that are waited for commit at least this often."""

_EVERY_SECONDS: Final = 0.5
_TIMEOUT: Final = 15.0


def drain(settings: Settings, say: Callable[[str], None], written: Callable[[], bool] = lambda: True) -> bool:
    """Process the settings' world until it is drained; False when interrupted.

    ``written``: whether all that is to be processed has been written; what it raises is raised here.

    The components of a stack that runs this world do it; where there is none, a processor and the sinks are started and
    stopped again. Raises ComponentError when one of them cannot run, BrokerError when Kafka is away.
    """
    codec = connect(settings)
    stopping, done = threading.Event(), threading.Event()
    failures: list[ArbitrexError] = []

    def watch() -> None:
        try:
            while not stopping.wait(_EVERY_SECONDS):
                if written() and drained(settings, codec):
                    done.set()
                    return
        except ArbitrexError as error:
            failures.append(error)
        finally:
            stopping.set()

    watcher = threading.Thread(target=watch, name="drain", daemon=True)
    with interruptible(stopping):
        watcher.start()
        running = runfile.read(settings.home)
        if running is not None and running.world == settings.world:
            say(f"world {settings.world}: waiting for the running stack to process it")
            while not stopping.wait(_EVERY_SECONDS):
                pass
        else:
            say(f"world {settings.world}: processing")
            Stack(_children(settings), say, before={}).run(stopping, lambda: None)
    watcher.join(_TIMEOUT)
    if failures:
        raise failures[0]
    if done.is_set():
        say(f"world {settings.world}: drained")
    return done.is_set()


def drained(settings: Settings, codec: Codec) -> bool:
    """Whether ``ticks.raw`` is processed to its end and the sinks hold what came of it."""
    return processed(settings, codec) and all(_kept(settings, name) for name in SINKS)


def processed(settings: Settings, codec: Codec) -> bool:
    """Whether ``ticks.raw`` is processed to its end."""
    todo = ends(settings.kafka, World(settings.world).topic(TICKS_RAW.name))
    progress = _progress(settings, codec)
    return all(progress.get(partition, 0) >= end for partition, end in todo.items())


def _progress(settings: Settings, codec: Codec) -> dict[int, int]:
    """The next offset of each partition's processor."""
    topic = World(settings.world).topic(PROGRESS.name)
    starts = beginnings(settings.kafka, topic)
    reached: dict[int, int] = {}
    for messages in read_to_end(settings.kafka, starts):
        for message in messages:
            record = codec.decode(message.value() or b"")
            if isinstance(record, Progress):
                reached[int(message.key() or b"")] = record.next_offset
    return reached


def _kept(settings: Settings, name: str) -> bool:
    """Whether a sink's group has committed the end of all it reads."""
    group = World(settings.world).group(f"sink.{name}")
    limits = limits_of(settings, name)
    selection = Selection.of(name, sink_of(settings, name).tables, limits.topics, limits.symbols)
    targets = [
        TopicPartition(topic, partition, end)
        for table in selection.tables
        for topic in [World(settings.world).topic(table.topic.name)]
        for partition, end in ends(settings.kafka, topic).items()
        if end > 0
    ]
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(t.topic, t.partition) for t in targets])
    try:
        admin = clients.admin(settings.kafka)
        answer = admin.list_consumer_group_offsets([asked], request_timeout=_TIMEOUT)[group].result(_TIMEOUT)
    except KafkaException as error:
        raise BrokerError(f"Kafka does not say how far {group} is: {error.args[0].str()}") from error
    reached = {(place.topic, place.partition): place.offset for place in answer.topic_partitions}
    return all(reached.get((target.topic, target.partition), -1) >= target.offset for target in targets)


def _children(settings: Settings) -> list[Child]:
    environment = dict(child_environment(settings))
    for section, seconds in (("LAKE", settings.lake.rotate_seconds), ("CSV", settings.csv.rotate_seconds)):
        environment[f"ARBITREX_{section}__ROTATE_SECONDS"] = str(min(seconds, _ROTATE_SECONDS))
    commands = {"processor": ["processor"]} | {f"sink-{name}": ["sink", name] for name in SINKS}
    logs: Path = settings.home / "logs" / settings.world
    return [
        Child(Command(name, COMPONENTS, arbitrex(*arguments), environment), logs)
        for name, arguments in commands.items()
    ]
