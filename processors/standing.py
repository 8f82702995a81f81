"""What a world's topics say of where partitions stand. Others can write to them, too: what is not ours is skipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from confluent_kafka import Message, TopicPartition

from infra import logs, metrics, topics
from infra.kafka_log import ends, offset_at, read_to_end, wait_for_transactions
from infra.settings import Settings
from infra.worlds import World
from processors.core.series import series_of
from processors.core.types import ClosedBar, Rules
from processors.transaction import dead_reason
from schemas.codec import Codec
from schemas.errors import ArbitrexError, ComponentError, DecodeError, UnknownSchemaError
from schemas.records import Bar, LiveBars, Progress

log: Final = logs.logger(__name__)


class Stand:
    """What one partition's topics say of it."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.doubtful = False
        """Whether something that is not ours stands, or stood, where the progress belongs."""
        self.series: dict[bytes | None, LiveBars] = {}
        """By the record's key."""
        self.dead: list[int] = []

    @property
    def live(self) -> list[LiveBars]:
        """The latest of each series."""
        return list(self.series.values())

    @property
    def next_offset(self) -> int | None:
        """Where to go on; None before the first start."""
        return self.progress.next_offset if self.progress else None


class Reader:
    """Reads where partitions stand; its methods block."""

    def __init__(self, settings: Settings, codec: Codec, rules: Rules) -> None:
        world = World(settings.world)
        self._kafka = settings.kafka
        self._codec = codec
        self._rules = rules
        self._raw = world.topic(topics.TICKS_RAW.name)
        self._standing = world.topic(topics.PROGRESS.name)
        self._live = world.topic(topics.BARS_LIVE.name)
        self._bars = world.topic(topics.BARS.name)
        self._dead = world.topic(topics.DEAD_LETTERS.name)
        self._tail = 2 * (settings.processor.dead_letter_limit + 1)  # every other offset may be a transaction's marker

    def read_back(self, numbers: Sequence[int]) -> dict[int, Stand]:
        """Progress, live bars and recent dead letters of the partitions, as committed.

        Raises ComponentError where only records that are not ours say how far a partition was processed.
        """
        stands = {number: Stand() for number in numbers}
        starts = [TopicPartition(topic, number, 0) for topic in (self._standing, self._live) for number in numbers]
        newest = ends(self._kafka, self._dead)
        starts += [TopicPartition(self._dead, number, max(0, newest[number] - self._tail)) for number in numbers]
        for messages in read_to_end(self._kafka, starts):
            taken: set[tuple[str | None, int | None, bytes | None]] = set()
            for message in reversed(messages):  # only the latest of ours of each key is worth decoding
                place = (message.topic(), message.partition(), message.key())
                if place not in taken and self._take(stands[cast("int", message.partition())], message):
                    taken.add(place)
        for number, stand in stands.items():
            if stand.doubtful and not stand.progress:
                raise ComponentError(
                    f"{self._standing}[{number}] has records under the key {number}, but none of ours: how far the "
                    "partition was processed is not known; if it never was, delete them with an empty record"
                )
            stand.dead.sort()
        return stands

    def closed_bars(self, number: int, since: Mapping[str, int]) -> dict[str, Iterable[ClosedBar]]:
        """The last revision of every bar that closed later than the time given with its symbol, UTC milliseconds.

        Of symbols of one partition whose transactions are all committed. Raises BrokerError.
        """
        place = TopicPartition(self._bars, number)
        wait_for_transactions(self._kafka, place)
        start = offset_at(self._kafka, place, min(since.values()))
        found: dict[str, dict[bytes | None, ClosedBar]] = {symbol: {} for symbol in since}
        for messages in read_to_end(self._kafka, [start] if start else []):
            for message in messages:
                symbol = (message.key() or b"").rsplit(b"|", 2)[0].decode(errors="replace")
                if symbol in since and (closed := self._closed(message)) and closed.bar.ts_close > since[symbol]:
                    found[symbol][message.key()] = closed
        return {symbol: bars.values() for symbol, bars in found.items()}

    def _closed(self, message: Message) -> ClosedBar | None:
        try:
            return self._decoded_bar(message)
        except (DecodeError, UnknownSchemaError) as error:
            _skip(message, error)
            return None

    def _decoded_bar(self, message: Message) -> ClosedBar:
        record = self._codec.decode(message.value() or b"")
        if not isinstance(record, Bar) or record.key.encode() != message.key():
            raise DecodeError(f"a {type(record).__name__} where the key's Bar belongs")
        headers = dict(message.headers() or [])
        return ClosedBar(record, *(_number(headers.get(name)) for name in ("first_offset", "last_offset", "offset")))

    def _take(self, stand: Stand, message: Message) -> bool:
        """Take what ``message`` says; False when it is a dead letter or not ours."""
        try:
            if message.topic() == self._dead:
                stand.dead.append(self._dead_offset(message))
                return False
            if message.topic() == self._standing:
                self._take_progress(stand, message)
            else:
                self._take_live(stand, message)
        except (DecodeError, UnknownSchemaError) as error:
            _skip(message, error)
            return False
        return True

    def _take_progress(self, stand: Stand, message: Message) -> None:
        if message.key() != b"%d" % cast("int", message.partition()):
            raise DecodeError("progress under another key than its partition's")
        value = message.value()
        stand.doubtful = value is not None  # until it turns out to be ours
        record = None if value is None else self._codec.decode(value)
        if not isinstance(record, Progress | None):
            raise DecodeError(f"a {type(record).__name__} where Progress belongs")
        stand.progress = record

    def _take_live(self, stand: Stand, message: Message) -> None:
        key, value = message.key(), message.value()
        if value is None:
            stand.series.pop(key, None)
            return
        record = self._codec.decode(value)
        if not isinstance(record, LiveBars) or record.symbol.encode() != key:
            raise DecodeError(f"a {type(record).__name__} where the key's LiveBars belong")
        series_of(record, self._rules)
        stand.series[key] = record

    def _dead_offset(self, message: Message) -> int:
        headers = dict(message.headers() or [])
        if headers.get("topic") != self._raw.encode():
            raise DecodeError("a dead letter of somebody else")
        return _number(headers.get("offset"))


def _number(header: str | bytes | None) -> int:
    if not isinstance(header, bytes) or not header.isdigit():
        raise DecodeError(f"{header!r} where an offset belongs")
    return int(header)


def _skip(message: Message, error: ArbitrexError) -> None:
    topic, reason = str(message.topic()), dead_reason(error)
    log.warning(
        "record skipped: not ours",
        topic=topic,
        partition=message.partition(),
        offset=message.offset(),
        error=str(error),
    )
    metrics.PROCESSOR_SKIPPED.labels(topic, reason).inc()
