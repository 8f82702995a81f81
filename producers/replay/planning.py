"""What a replay copies of each partition, and what was in force where it begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Final, NamedTuple, cast

from confluent_kafka import KafkaException, Message, TopicPartition

from infra import kafka as clients
from infra.kafka import partition_for
from infra.kafka_log import beginnings, extent, partition_count, read_to_end
from infra.settings import Settings
from infra.topics import FEED_EVENTS, SYMBOLS, TICKS_RAW
from infra.worlds import World
from producers.replay.reader import Reader
from producers.replay.selection import is_chosen
from schemas.codec import Codec, schema_id
from schemas.errors import BrokerError, DecodeError, UnknownSchemaError
from schemas.records import Control, ControlKind, EventKind, FeedEvent, Record, Replay, SymbolSpec

_TIMEOUT: Final = 15.0


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: a moment, or offsets."""

    time: int | None = None
    """UTC milliseconds."""
    offsets: Mapping[int | None, int] = field(default_factory=dict)
    """By partition; None: of every partition. One that is not named has no part in the replay."""

    def offset(self, partition: int) -> int | None:
        """The offset in this partition, if it has one."""
        return self.offsets.get(partition, self.offsets.get(None))


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be replayed."""

    source: str
    """The world it is read from."""
    asked: str
    """The same in the user's words: two commands with the same words are the same replay."""
    start: Bound = Bound()
    """Without a time and offsets: from the first record that is kept."""
    stop: Bound = Bound()
    """Without: to the last record there is now."""
    symbols: tuple[str, ...] = ()
    """Names or patterns; none: all."""


class Span(NamedTuple):
    """Offsets of one partition."""

    kept: int
    """The first one that retention has left."""
    first: int
    """Where the replay begins."""
    end: int
    """Where it ends."""


Reading = Callable[[int, int], None]
"""Told how many of how many records were read to find out what was in force."""


def plan(settings: Settings, codec: Codec, request: Request, reading: Reading, stopping: Event) -> list[Replay]:
    """The replay of each partition, before its first record; ``settings`` reach the source. Void once asked to stop.

    Raises BrokerError when Kafka is away or has no such world.
    """
    topic = World(request.source).topic(TICKS_RAW.name)
    spans = _spans(settings, topic, request)
    known = {partition: _Known() for partition in spans}
    _look_back(settings, codec, topic, spans, known, reading=reading, stopping=stopping)
    if not stopping.is_set():
        _ask_the_ledger(settings, codec, request, spans, known)
    return [
        Replay(
            source=topic,
            asked=request.asked,
            symbols=request.symbols,
            partition=partition,
            first=span.first,
            end=span.end,
            from_=request.start.time,
            to=request.stop.time,
            controls=known[partition].controls(request),
            uncertain=known[partition].uncertain(request),
            next_offset=span.first,
        )
        for partition, span in spans.items()
    ]


@dataclass(slots=True)
class _Known:
    """What is known of a partition's series at the start of its span."""

    specs: dict[str, Control] = field(default_factory=dict)
    coverage: dict[str, Control] = field(default_factory=dict)
    gaps: dict[str, list[Control]] = field(default_factory=lambda: defaultdict(list))
    seen: set[str] = field(default_factory=set)
    """Symbols with a record that stands before the span and is kept: nothing between it and the span is missing."""
    certain: bool = True
    """Nothing of the log is gone."""

    def take(self, control: Control) -> None:
        symbol = control.symbol
        if symbol is None:
            return
        match control.kind:
            case ControlKind.SYMBOL_SPEC:
                self.specs[symbol] = control
            case ControlKind.COVERAGE:
                self.coverage.setdefault(symbol, control)
            case ControlKind.GAP:
                self.gaps[symbol].append(control)
            case _:
                pass

    def controls(self, request: Request) -> tuple[Control, ...]:
        """Specs, then coverage and gaps, as of the start."""
        start = request.start.time
        every = list(self.specs.values())
        if start is not None:
            every += [control for symbol, control in self.coverage.items() if self._complete(symbol)]
        every += [gap for gaps in self.gaps.values() for gap in gaps if start is None or (gap.to or 0) > start]
        chosen = [control for control in every if is_chosen(str(control.symbol).encode(), request.symbols)]
        return tuple(
            control if start is None or control.time > start else replace(control, time=start)
            for control in sorted(chosen, key=lambda control: (str(control.symbol), _ORDER.index(control.kind)))
        )

    def uncertain(self, request: Request) -> tuple[Control, ...]:
        """Coverage of series that may lack ticks right at the start: by offset that is all of them."""
        return tuple(
            control
            for symbol, control in sorted(self.coverage.items())
            if is_chosen(symbol.encode(), request.symbols)
            and (request.start.time is None or not self._complete(symbol))
        )

    def _complete(self, symbol: str) -> bool:
        return self.certain or symbol in self.seen


_ORDER: Final = (ControlKind.SYMBOL_SPEC, ControlKind.COVERAGE, ControlKind.GAP)


def _spans(settings: Settings, topic: str, request: Request) -> dict[int, Span]:
    """By partition; those that have no part are missing."""
    partitions = range(partition_count(settings.kafka, topic))
    consumer = clients.consumer(settings.kafka, group="arbitrex.reader")
    try:
        kept = {p: extent(consumer, TopicPartition(topic, p)) for p in partitions}
        found = {}
        if request.start.time is not None:
            asked = [TopicPartition(topic, p, max(0, request.start.time)) for p in partitions]
            found = {place.partition: place.offset for place in consumer.offsets_for_times(asked, timeout=_TIMEOUT)}
    except KafkaException as error:
        raise BrokerError(f"Kafka does not say what {topic} holds: {error.args[0].str()}") from error
    finally:
        consumer.close()
    spans = {}
    for partition, (low, high) in kept.items():
        first, end = request.start.offset(partition), request.stop.offset(partition)
        if (first is None and request.start.offsets) or (end is None and request.stop.offsets):
            continue
        if partition in found:
            first = found[partition] if found[partition] >= 0 else high
        first = min(max(low, first or 0), high)
        spans[partition] = Span(low, first, max(first, high if end is None else min(end, high)))
    return spans


def _look_back(
    settings: Settings,
    codec: Codec,
    topic: str,
    spans: Mapping[int, Span],
    known: Mapping[int, _Known],
    *,
    reading: Reading,
    stopping: Event,
) -> None:
    """Learn from what the log still has before the spans."""
    total, done = sum(span.first - span.kept for span in spans.values()), 0
    reading(0, total)
    with Reader(settings.kafka, topic, {p: (span.kept, span.first) for p, span in spans.items()}) as reader:
        while not reader.all_finished and not stopping.is_set():
            reader.fill_or_fail()
            for partition, buffer in reader.buffers.items():
                done += len(buffer)
                for message in buffer:
                    known[partition].seen.add((message.key() or b"").decode("utf-8", "replace"))
                    control = _control(message, codec)
                    if control is not None:
                        known[partition].take(control)
                buffer.clear()
            reading(done, total)


def _ask_the_ledger(
    settings: Settings, codec: Codec, request: Request, spans: Mapping[int, Span], known: Mapping[int, _Known]
) -> None:
    """Where the log's own beginning is gone: what the processor noted of it."""
    cut = {partition for partition, span in spans.items() if span.kept > 0}
    if not cut:
        return
    world = World(request.source)
    partitions = partition_count(settings.kafka, world.topic(TICKS_RAW.name))
    since = _first_times(settings, world.topic(TICKS_RAW.name), spans)
    for partition in cut:
        known[partition].certain = False
    for record, time in _records(settings, codec, world.topic(SYMBOLS.name)):
        if isinstance(record, SymbolSpec) and (p := partition_for(record.symbol, partitions)) in cut:
            control = Control(
                kind=ControlKind.SYMBOL_SPEC,
                feed=record.feed,
                shard=record.shard,
                symbol=record.symbol,
                time=time,
                spec=record,
            )
            if time <= since.get(p, -1):
                known[p].specs.setdefault(record.symbol, control)
    for record, _ in _records(settings, codec, world.topic(FEED_EVENTS.name)):
        if not isinstance(record, FeedEvent) or record.symbol is None or record.kind != EventKind.COVERAGE:
            continue
        p = partition_for(record.symbol, partitions)
        if p in cut and record.time <= since.get(p, -1):
            known[p].take(
                Control(
                    kind=ControlKind.COVERAGE,
                    feed=record.feed,
                    shard=record.shard,
                    symbol=record.symbol,
                    time=record.time,
                )
            )


def _first_times(settings: Settings, topic: str, spans: Mapping[int, Span]) -> dict[int, int]:
    """The time of each span's first record; partitions without one are missing."""
    found: dict[int, int] = {}
    with Reader(settings.kafka, topic, {p: (span.first, span.end) for p, span in spans.items()}) as reader:
        while not all(p in found or reader.finished(p) for p in spans):
            reader.fill_or_fail()
            for partition, buffer in reader.buffers.items():
                if buffer:
                    found.setdefault(partition, buffer[0].timestamp()[1])
    return found


def _records(settings: Settings, codec: Codec, topic: str) -> Iterator[tuple[Record, int]]:
    """What can be decoded of a topic, with record times."""
    for messages in read_to_end(settings.kafka, beginnings(settings.kafka, topic)):
        for message in messages:
            try:
                yield codec.decode(message.value() or b""), message.timestamp()[1]
            except (DecodeError, UnknownSchemaError):
                continue


def _control(message: Message, codec: Codec) -> Control | None:
    value = message.value()
    if value is None:
        return None
    try:
        if codec.writer(schema_id(value))[0] != "Control":
            return None
        return cast("Control", codec.decode(value))
    except (DecodeError, UnknownSchemaError):
        return None


def again(replays: Sequence[Replay]) -> list[Replay]:
    """The same from its start, for another world."""
    return [replace(item, next_offset=item.first, written=0, said=(), complete=False) for item in replays]
