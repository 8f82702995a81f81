"""One runner for all sinks: a consumer group, a buffer, a rotation, a commit.

Where a partition goes on is what the sink's own record says; the group's offsets are a hint for lag displays,
committed afterwards and again until Kafka has them, since whoever waits for a sink looks there. A partition that is
taken away leaves its buffered rows behind: the next owner reads them again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra import kafka as clients
from infra import logs, metrics
from infra.kafka_log import passes
from infra.lake.layout import TICKS
from infra.pacing import AT_THE_END, Pace
from infra.settings import KafkaSettings, SinkSettings
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import BrokerError, StoreError
from sinks.buffer import Buffer
from sinks.decoding import Places, rows_of
from sinks.selection import Selection
from sinks.sink import Sink, Source
from sinks.starts import starts

_BATCH: Final = 20_000
_FETCHED_AHEAD: Final = 30_000
"""Messages of a partition that the client holds ready."""
_FETCH_WAIT_MS: Final = 50
"""A fetch of the quiet partitions holds those up that have something."""
_WAIT_SECONDS: Final = 0.2
_EMBEDDED_WAIT_SECONDS: Final = 0.02
_REST_SECONDS: Final = 0.25
_LAG_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_PATIENCE_SECONDS: Final = 120.0
"""For a store that does not say where to go on; Kafka gives a member up after five minutes."""
_MEGABYTE: Final = 1 << 20

log = logs.logger(__name__)


class Runner:
    """Moves a world's records into one sink; used by one thread."""

    def __init__(
        self, sink: Sink, settings: SinkSettings, kafka: KafkaSettings, world: World, codec: Codec, **overrides: Any
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._codec = codec
        self._selection = Selection.of(sink.name, sink.tables, settings.topics, settings.symbols)
        self._tables = {world.topic(table.topic.name): table for table in self._selection.tables}
        self._buffer = Buffer()
        self._committed: dict[Source, int] = {}
        """The assigned sources with the next offset that the sink has; what nothing was read of has none."""
        self._assigned: list[TopicPartition] = []
        self.rows_read = 0
        """Records read so far: for progress displays, as what follows."""
        self.lag: int | None = None
        """Records not yet committed; None before it is known."""
        self.newest_ms: int | None = None
        """The latest event time that is committed."""
        self._stopping = threading.Event()
        self._joined = False
        self._failure: BaseException | None = None
        self._lag_due = 0.0
        self._repeats = logs.Repeats()
        self._hinted = True
        """Whether the group's offsets are known to be what the sink has."""
        group = world.group(f"sink.{sink.name}")
        # The embedded broker never gives up a member that was killed; one that comes back by name replaces itself.
        static = {"group.instance.id": group} if kafka.embedded else {}
        self._consumer: Consumer = clients.consumer(
            kafka,
            group=group,
            **{
                "enable.partition.eof": True,
                "queued.min.messages": _FETCHED_AHEAD,
                "fetch.wait.max.ms": _FETCH_WAIT_MS,
                "session.timeout.ms": settings.session_timeout_ms,
                "heartbeat.interval.ms": settings.session_timeout_ms // 3,
                "partition.assignment.strategy": "range",
                "on_commit": self._on_hint,
                **static,
            }
            | overrides,
        )
        self._pace = Pace(kafka, self._consumer, _REST_SECONDS)
        self._wait = min(_EMBEDDED_WAIT_SECONDS if kafka.embedded else _WAIT_SECONDS, settings.rotate_seconds)

    def run(self, stopping: threading.Event, ready: Callable[[], None]) -> None:
        """Work until ``stopping`` is set, then flush. ``ready`` is called at the first assignment.

        Raises FencedError when another runner has a partition, BrokerError when Kafka refuses or records are lost,
        RegistryError, ComponentError.
        """
        told, self._stopping = False, stopping
        try:
            self._consumer.subscribe(list(self._tables), on_assign=self._assign, on_revoke=self._revoke)
            while not stopping.is_set():
                self._step()
                if self._joined and not told:
                    told = True
                    ready()
                if self._due():
                    self._commit()
            self._commit()
        except KafkaException as error:
            raise BrokerError(f"Kafka refuses the sink {self._sink.name}: {error.args[0].str()}") from error
        finally:
            self._consumer.close()

    def _step(self) -> None:
        messages = self._consumer.consume(_BATCH, self._wait)
        if self._failure and not self._stopping.is_set():
            raise self._failure
        self._take(messages)
        self._pace.after(messages)
        if time.monotonic() > self._lag_due:
            self._show_lag()
            if not self._hinted:
                self._hint()

    def _take(self, found: Sequence[Message]) -> None:
        """Put messages into the buffer."""
        by_topic, others = _apart(found)
        offsets: dict[Source, int] = {}
        for topic, messages in by_topic.items():
            places = Places.of(messages)
            offsets |= {Source(topic, partition): end for partition, end in places.ends()}
            rows = rows_of(messages, self._tables[topic], self._codec, self._sink.name, places)
            self._buffer.add(self._tables[topic], self._selection.of_symbols(rows))
        for message in others:
            source, offset, error = _origin(message), message.offset() or 0, message.error()
            if error is not None and error.code() != AT_THE_END:
                self._refused(source, error)
            elif offset > offsets.get(source, self._position(source)):
                offsets[source] = offset
        self.rows_read += sum(map(len, by_topic.values()))
        self._buffer.move(offsets, time.monotonic())
        metrics.SINK_BUFFER_BYTES.labels(self._sink.name).set(self._buffer.bytes)

    def _position(self, source: Source) -> int:
        return self._buffer.offsets.get(source, self._committed.get(source, 0))

    def _refused(self, source: Source, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            here = {source: self._position(source)}
            for place in starts(
                self._consumer, [TopicPartition(*source)], here, self._sink.name, accept_loss=self._settings.accept_loss
            ):
                self._consumer.seek(place)
        elif passes(error):
            if (left := self._repeats.left_out(error.name())) is not None:
                log.warning("Kafka does not answer; waiting for it", error=error.str(), left_out=left)
        else:
            raise BrokerError(f"Kafka refuses to let {source.topic} be read: {error.str()}")

    def _due(self) -> bool:
        buffer, limits = self._buffer, self._settings
        return (
            buffer.rows >= limits.rotate_rows
            or buffer.bytes >= limits.rotate_megabytes * _MEGABYTE
            or buffer.age(time.monotonic()) >= limits.rotate_seconds
        )

    def _commit(self) -> None:
        """Have the sink commit the buffer; while its store is away, try again as long as the partitions are ours."""
        buffer, self._buffer = self._buffer, Buffer()
        if not buffer.offsets:
            return
        owned = self._committed
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            try:
                for batch in buffer.batches():
                    self._sink.write(batch)
                self._sink.commit(buffer.offsets)
                break
            except StoreError as error:
                metrics.SINK_FAILURES.labels(self._sink.name).inc()
                if self._stopping.is_set():
                    log.warning("stopped with rows that will be read again", rows=buffer.rows, error=str(error))
                    return
                log.warning("not committed; trying again", rows=buffer.rows, error=str(error), pause=pause)
            if not self._hold(pause, owned):
                return
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self._committed |= buffer.offsets
        self._count(buffer, time.monotonic() - started)
        self._hint()

    def _hint(self) -> None:
        """Store what the sink has as the group's offsets, without waiting."""
        if offsets := [TopicPartition(*source, offset) for source, offset in self._committed.items()]:
            self._hinted = False
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _on_hint(self, error: KafkaError | None, stored: list[TopicPartition]) -> None:
        failed = error or next((each.error for each in stored if each.error), None)
        self._hinted = failed is None
        if failed:
            log.debug("group offsets not stored yet", error=failed.str())

    def _hold(self, seconds: float, owned: dict[Source, int]) -> bool:
        """Stay in the group without reading for a while; whether the partitions are still those that were ``owned``."""
        self._consumer.pause(self._assigned)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set() and self._committed is owned:
            message = self._consumer.poll(_WAIT_SECONDS)
            if self._failure:
                raise self._failure
            if message is not None:
                self._take([message])
        if self._committed is not owned:
            return False
        self._consumer.resume(self._assigned)
        return True

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            sources = [Source(each.topic, each.partition) for each in partitions]
            recorded = self._recorded(sources)
            found = starts(consumer, partitions, recorded, self._sink.name, accept_loss=self._settings.accept_loss)
            self._committed = recorded
            self._buffer = Buffer()
            self._assigned = found
            self._hinted = False  # an owner that was killed may not have come to it
            consumer.assign(found)
            consumer.resume(found)  # a pause outlives its assignment (`_hold`)
            self._joined = True
            log.info("assigned", partitions=len(found))
        except BaseException as error:  # noqa: BLE001 - the client swallows some; `_step` raises it
            self._failure = error

    def _recorded(self, sources: Sequence[Source]) -> dict[Source, int]:
        """What the sink says; a store that is away is asked again for a while. Raises StoreError, FencedError."""
        until, pause = time.monotonic() + _PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._sink.positions(sources)
            except StoreError as error:
                metrics.SINK_FAILURES.labels(self._sink.name).inc()
                log.warning("the store does not say where to go on; asking again", error=str(error), pause=pause)
                if time.monotonic() + pause > until or self._stopping.wait(pause):
                    raise
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _revoke(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        if self._buffer.rows:
            log.info("partitions taken away; the next owner reads what was not committed", rows=self._buffer.rows)
        self._buffer = Buffer()
        self._committed = {}
        self._assigned = []
        consumer.unassign()

    def _count(self, buffer: Buffer, seconds: float) -> None:
        name = self._sink.name
        metrics.SINK_COMMIT_SECONDS.labels(name).observe(seconds)
        for table, rows in buffer.counts().items():
            metrics.SINK_ROWS.labels(name, table).inc(rows)
            if table == TICKS.name:
                metrics.TICKS_FLUSHED.labels(name).inc(rows)
        if buffer.newest_ms is not None:
            self.newest_ms = max(buffer.newest_ms, self.newest_ms or buffer.newest_ms)
        log.debug("committed", rows=buffer.rows, seconds=round(seconds, 3))

    def _show_lag(self) -> None:
        self._lag_due = time.monotonic() + _LAG_SECONDS
        lag = 0
        for place in self._assigned:
            low, high = self._consumer.get_watermark_offsets(place, cached=True)
            source = Source(place.topic, place.partition)
            lag += max(high - max(self._committed.get(source, low), low), 0)
        self.lag = lag
        behind = time.time() - self.newest_ms / 1_000 if lag and self.newest_ms is not None else 0.0
        metrics.SINK_LAG.labels(self._sink.name).set(lag)
        metrics.SINK_LAG_SECONDS.labels(self._sink.name).set(behind)


def _apart(found: Sequence[Message]) -> tuple[Mapping[str, Sequence[Message]], Sequence[Message]]:
    """Messages by topic, and what says something else.

    Without a Python call for each message where there is one topic: catching up, that was a fifth of all time.
    """
    others: Sequence[Message] = ()
    if any(map(Message.error, found)):
        others = [message for message in found if message.error()]
        found = [message for message in found if not message.error()]
    topics = [str(topic) for topic in set(map(Message.topic, found))]
    if len(topics) == 1:
        return {topics[0]: found}, others
    return {topic: [message for message in found if message.topic() == topic] for topic in topics}, others


def _origin(message: Message) -> Source:
    return Source(message.topic() or "", message.partition() or 0)
