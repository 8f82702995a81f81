"""What a shard writes to Kafka: ticks and controls, cursors, events. Idempotent, in order, nothing dropped."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from threading import Event
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as Delivered

from infra import kafka as clients
from infra import logs, metrics
from infra.kafka import partition_for
from infra.kafka_log import partition_count
from infra.settings import Settings
from infra.topics import CURSORS, FEED_EVENTS, RATES, TICKS_RAW
from infra.worlds import World
from producers.encoding import TickColumns, encode_ticks
from producers.replay.selection import Copy, Headers
from schemas.codec import Codec
from schemas.errors import BrokerError
from schemas.records import Bar, Control, Cursor, FeedEvent, Replay

WAIT_SECONDS: Final = 0.1
_CLOSING_SECONDS: Final = 5.0
_CHUNK: Final = 20_000

Message = tuple[bytes | None, bytes | None, int, Headers]
"""Key, value, UTC milliseconds, headers."""

log = logs.logger(__name__)


class Publisher:
    """One shard's producer; used by one thread.

    Every call raises BrokerError once Kafka has refused something for good, and when its queue is full while the
    process is to stop. Kafka being away is no error: messages wait, and calls wait when the queue is full.
    """

    def __init__(self, settings: Settings, codec: Codec, stopping: Event, *, feed: str, shard: str) -> None:
        world = World(settings.world)
        self._codec, self._stopping = codec, stopping
        self.feed, self.shard = feed, shard
        self._topics = {
            topic.name: (name := world.topic(topic.name), partition_count(settings.kafka, name))
            for topic in (TICKS_RAW, CURSORS, FEED_EVENTS, RATES)
        }
        self._failure: str | None = None
        self._unacknowledged = 0
        self._repeats = logs.Repeats()
        self._published = metrics.TICKS_PUBLISHED.labels(feed, shard)
        self._queue = metrics.TICKS_QUEUE_SIZE.labels(feed, shard)
        reports: dict[str, Any] = {
            "on_delivery": self._delivered,
            "delivery.report.only.error": True,
            "error_cb": self._erred,
        }
        self._producer = clients.producer(settings.kafka, **reports)

    def ticks(self, symbol: str, ticks: TickColumns, *, correction: bool = False) -> None:
        """Queue ticks of one series on ``ticks.raw``: in order, or found late."""
        topic, partitions = self._topics[TICKS_RAW.name]
        header = self._codec.headers["Tick"]
        for start in range(0, len(ticks), _CHUNK):
            chunk = ticks.rows(slice(start, start + _CHUNK))
            values = encode_ticks(chunk, header=header, symbol=symbol, feed=self.feed, correction=correction)
            messages = zip(repeat(symbol.encode()), values, chunk.ts_event.tolist(), repeat(None))
            self._send(topic, partition_for(symbol, partitions), messages, ticks=len(chunk))

    def control(self, control: Control) -> None:
        """Queue a control of one series, after the ticks that were queued before."""
        if control.symbol is None:
            raise ValueError("a control of a whole shard goes to the partitions of its series: use watermark()")
        topic, partitions = self._topics[TICKS_RAW.name]
        partition = partition_for(control.symbol, partitions)
        self._send(topic, partition, [(control.symbol.encode(), self._codec.encode(control), control.time, None)])

    def watermark(self, control: Control, symbols: Iterable[str]) -> None:
        """Queue a control of the shard in every partition that holds one of ``symbols``."""
        topic, partitions = self._topics[TICKS_RAW.name]
        value = self._codec.encode(control)
        key = f"@{control.feed}/{control.shard}".encode()
        for partition in sorted({partition_for(symbol, partitions) for symbol in symbols}):
            self._send(topic, partition, [(key, value, control.time, None)])

    def copies(self, partition: int, copies: Iterable[Copy]) -> None:
        """Queue records on a partition of ``ticks.raw`` as they are."""
        self._send(self._topics[TICKS_RAW.name][0], partition, copies)

    def replay(self, replay: Replay, time: int) -> None:
        """Queue where a replay stands, as `cursor`."""
        topic, partitions = self._topics[CURSORS.name]
        key = f"@replay/{replay.partition}"
        self._send(topic, partition_for(key, partitions), [(key.encode(), self._codec.encode(replay), time, None)])

    def cursor(self, cursor: Cursor, time: int) -> None:
        """Queue a cursor; what it covers must be acknowledged (`flush`). ``time`` is its record's, UTC ms."""
        topic, partitions = self._topics[CURSORS.name]
        message = (f"{cursor.feed}/{cursor.symbol}".encode(), self._codec.encode(cursor), time, None)
        self._send(topic, partition_for(cursor.symbol, partitions), [message])

    def event(self, event: FeedEvent) -> None:
        """Queue a line for the feed's ledger."""
        topic, partitions = self._topics[FEED_EVENTS.name]
        key = event.symbol or f"@{event.feed}/{event.shard}"
        message = (key.encode(), self._codec.encode(event), event.time, None)
        self._send(topic, partition_for(key, partitions), [message])

    def rates(self, symbol: str, bars: Iterable[Bar]) -> None:
        """Queue bars of one symbol as the terminal itself reports them, in order."""
        topic, partitions = self._topics[RATES.name]
        messages = ((bar.key.encode(), self._codec.encode(bar), bar.ts_close, None) for bar in bars)
        self._send(topic, partition_for(symbol, partitions), messages)

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; whether everything queued so far is acknowledged."""
        left = self._producer.flush(timeout)
        self._queue.set(left)
        self._check()
        if left == 0:
            self._acknowledged()
        return left == 0

    def close(self) -> None:
        """Give what is queued a last chance; what Kafka does not take is read again from the source next time."""
        left = self._producer.flush(_CLOSING_SECONDS)
        if left:
            log.warning("left unacknowledged; the next start goes on where Kafka stands", messages=left)
            self._producer.purge()
            self._failure = None
            self._producer.flush(WAIT_SECONDS)

    def _send(self, topic: str, partition: int, messages: Iterable[Message], *, ticks: int = 0) -> None:
        """Queue messages for a partition, of which so many are ticks."""
        produce = self._producer.produce
        try:
            for key, value, time, headers in messages:
                while True:
                    try:
                        produce(topic, value, key, partition, None, None, time, headers)
                        break
                    except BufferError:
                        self._wait_for_room()
        except KafkaException as error:
            raise BrokerError(self._failure or f"Kafka refuses {topic}: {error.args[0].str()}") from error
        self._unacknowledged += ticks
        self._producer.poll(0)
        self._check()

    def _wait_for_room(self) -> None:
        full = len(self._producer)
        self._producer.poll(WAIT_SECONDS)
        self._queue.set(len(self._producer))
        self._check()
        if self._stopping.is_set() and len(self._producer) >= full:
            raise BrokerError("Kafka takes nothing and the queue is full; the next start goes on where Kafka stands")

    def _acknowledged(self) -> None:
        """Kafka has all that it was given."""
        self._published.inc(self._unacknowledged)
        self._unacknowledged = 0

    def _check(self) -> None:
        if self._failure:
            raise BrokerError(self._failure)

    def _delivered(self, error: KafkaError | None, message: Delivered) -> None:
        if error is None or error.code() == KafkaError._PURGE_QUEUE:  # noqa: SLF001 - the client's public name for it
            return
        if error.code() == KafkaError.INVALID_TIMESTAMP:
            self._failure = (
                f"Kafka refuses the time {message.timestamp()[1]} of a record for {message.topic()}: more than an hour "
                "ahead of its clock. The server's zone or a clock is wrong"
            )
        else:
            self._failure = f"Kafka refuses a record for {message.topic()}: {error.str()}"

    def _erred(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = f"the producer cannot go on: {error.str()}"
        elif (
            error.code() == KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - the client's public name for it
            and (left := self._repeats.left_out(error.name())) is not None
        ):
            log.warning("Kafka is away; ticks wait", reason=error.str(), left_out=left)
