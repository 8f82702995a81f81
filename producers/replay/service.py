"""A replay from a request to a finished world: what is there already, what is to be written, who owns what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import cast

from confluent_kafka import TopicPartition

from infra.kafka_log import beginnings, ends, read_to_end
from infra.settings import Settings
from infra.topics import CURSORS, TICKS_RAW
from infra.worlds import World
from producers.pace import Pace
from producers.publisher import Publisher
from producers.replay.planning import Request, plan
from producers.replay.replayer import Replayer, Summary, Watcher, strange
from producers.replay.selection import Copy
from schemas.codec import Codec
from schemas.errors import BrokerError, UsageError
from schemas.records import Cursor, Record, Replay


class Destination:
    """The settings' world, whose topics are there, as the place for what ``request`` asks for."""

    def __init__(self, settings: Settings, codec: Codec, request: Request) -> None:
        self._settings, self._codec, self._request = settings, codec, request
        self._world = World(settings.world)

    def write(
        self, pace: Pace, watcher: Watcher, stopping: Event, pattern: Callable[[], list[Replay]] = list
    ) -> Summary:
        """Write what is not written yet, as far as not asked to stop.

        ``pattern`` gives another world's replay of the same request, to be repeated record by record, if there is one.
        Raises UsageError when the world holds something else, SourceError when the source has lost records of the
        range, BrokerError when Kafka refuses.
        """
        held = ends(self._settings.kafka, self._world.topic(TICKS_RAW.name))
        replays = self.standing()
        publisher = Publisher(self._settings, self._codec, stopping, feed="replay", shard=self._settings.world)
        try:
            if not replays:
                replays = pattern() or plan(self._settings, self._codec, self._request, watcher.looking_back, stopping)
                if stopping.is_set():
                    return Summary()
                if not replays:
                    raise UsageError(f"world {self._request.source} has none of the partitions that the range names")
                _keep(publisher, replays, stopping)
            if all(item.complete for item in replays):
                return self._complete(replays, held)
            replayer = Replayer(self._settings, self._codec, publisher, pace=pace, stopping=stopping, watcher=watcher)
            return replayer.run(replays, held, self._last(held))
        finally:
            publisher.close()

    def standing(self) -> list[Replay]:
        """Where the replay stands, by partition; empty when nothing was written yet.

        Raises UsageError when the world holds something else.
        """
        name, asked = self._settings.world, self._request.asked
        found: dict[int, Replay] = {}
        for record in self._cursors():
            if isinstance(record, Cursor):
                raise UsageError(f"world {name} holds ticks of feed {record.feed}, no replay: give another with --into")
            if isinstance(record, Replay):
                found[record.partition] = record
        begun = any(ends(self._settings.kafka, self._world.topic(TICKS_RAW.name)).values())
        if not begun and not any(item.complete for item in found.values()):
            return []
        mine = {partition: item for partition, item in found.items() if item.asked == asked}
        if not mine:
            known = f"is another replay ({next(iter(found.values())).asked})" if found else "holds what no replay wrote"
            raise UsageError(
                f"world {name} {known}, not {asked}: give another world with --into"
                + (", or the same options to go on with it" if found else "")
            )
        return [mine[partition] for partition in sorted(mine)]

    def _cursors(self) -> Iterator[Record]:
        starts = beginnings(self._settings.kafka, self._world.topic(CURSORS.name))
        for messages in read_to_end(self._settings.kafka, starts):
            for message in messages:
                yield self._codec.decode(message.value() or b"")

    def _complete(self, replays: Sequence[Replay], held: Mapping[int, int]) -> Summary:
        if sum(held.values()) != sum(item.written for item in replays):
            raise strange(self._settings.world)
        return Summary(before=sum(held.values()), finished=True)

    def _last(self, held: Mapping[int, int]) -> dict[int, Copy]:
        """The last record of each partition that has one."""
        topic = self._world.topic(TICKS_RAW.name)
        starts = [TopicPartition(topic, partition, end - 1) for partition, end in held.items() if end]
        return {
            cast("int", message.partition()): Copy(
                message.key(), message.value(), message.timestamp()[1], message.headers()
            )
            for messages in read_to_end(self._settings.kafka, starts)
            for message in messages
        }


def _keep(publisher: Publisher, replays: Sequence[Replay], stopping: Event) -> None:
    """What is to be done stands in Kafka before the first record does: a repeated command must not decide anew."""
    for item in replays:
        publisher.replay(item, max(0, item.from_ or 0))
    while not publisher.flush(1.0):
        if stopping.is_set():
            raise BrokerError("Kafka does not take the replay's plan; nothing was written")
