"""What a world's log says of one series: its spec, how far it is processed, its coverage and gaps, its bars.

All of it stands in the partition of its symbol. What others wrote there is skipped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeVar, cast

from confluent_kafka import Message, TopicPartition

from infra import kafka as clients
from infra import logs, topics
from infra.kafka_log import beginnings, offset_at, partition_count, read_to_end
from infra.market.missing import Span
from infra.settings import Settings
from infra.topics import Topic
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.errors import DecodeError, UnknownSchemaError, UsageError
from schemas.records import EventKind, FeedEvent, LiveBars, Progress, SymbolSpec

log: Final = logs.logger(__name__)

R = TypeVar("R", SymbolSpec, LiveBars, Progress, FeedEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a series stands. Times are UTC milliseconds."""

    spec: SymbolSpec
    processed_to: int
    """Every bar that closes by then is in ``bars``, if there is one."""
    coverage_from: int | None
    gaps: tuple[Span, ...]
    timeframes: dict[str, int]
    """Since when each is made; 0: since the first tick."""
    changes: tuple[FeedEvent, ...]
    """When its spec became another, by time."""


@dataclass(slots=True)
class _Kept:
    live: LiveBars | None = None
    progress: Progress | None = None
    events: list[FeedEvent] = field(default_factory=list)


class SeriesLog:
    """Reads the settings' world; its methods block. They raise BrokerError when Kafka is away, or has no such world."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self._world = World(settings.world)

    def specs(self) -> dict[str, SymbolSpec]:
        """The latest spec of every symbol."""
        starts = beginnings(self._settings.kafka, self._world.topic(topics.SYMBOLS.name))
        found: dict[str, SymbolSpec] = {}
        for batch in read_to_end(self._settings.kafka, starts):
            found |= {spec.symbol: spec for spec in self._records(batch, SymbolSpec)}
        return found

    def standing(self, symbol: str) -> Standing:
        """How the series stands. Raises UsageError for a symbol that the world does not have."""
        kept = self._kept(symbol)
        live = kept.live
        if live is None or live.spec is None:
            raise unknown_symbol(symbol, self._settings.world, self.specs())
        shard = f"{live.spec.feed}/{live.spec.shard}"
        known = kept.progress.watermarks if kept.progress else ()
        marks = [mark.time + 1 for mark in known if mark.shard == shard]
        lost = {(gap.from_, gap.to) for gap in live.gaps}  # those of the last weeks; the ledger has older ones
        lost |= {
            (e.from_, e.to) for e in kept.events if e.kind == EventKind.GAP and e.from_ is not None and e.to is not None
        }
        changes = [event for event in kept.events if event.kind == EventKind.SYMBOL_SPEC]
        return Standing(
            spec=live.spec,
            processed_to=max([live.last_ts, *marks]),
            coverage_from=live.coverage_from,
            gaps=tuple(sorted(lost)),
            timeframes={timeframe.timeframe: timeframe.from_ for timeframe in live.timeframes},
            changes=tuple(sorted(changes, key=lambda event: event.time)),
        )

    def bars(self, symbol: str, timeframe: str, start: int, end: int) -> list[Span]:
        """Opening and close of the closed bars that have a moment of [start, end), UTC milliseconds, by time."""
        key = f"{symbol}|{timeframe}|".encode()
        found: dict[int, int] = {}
        place = self._place(topics.BARS, symbol)
        for batch in read_to_end(self._settings.kafka, self._since(place, start)):
            values = [message.value() for message in batch if (message.key() or b"").startswith(key)]
            decoded = decode_batch([value for value in values if value is not None], self._codec, "Bar")
            for _, error in decoded.bad:
                log.warning("record skipped: not ours", topic=place.topic, error=str(error))
            found |= dict(decoded.frame.select("ts_open", "ts_close").iter_rows())
        return sorted((opens, closes) for opens, closes in found.items() if opens < end and closes > start)

    def _kept(self, symbol: str) -> _Kept:
        """The latest of ours under each key, and the symbol's events."""
        kept, key = _Kept(), symbol.encode()
        places = [self._place(topic, symbol) for topic in (topics.BARS_LIVE, topics.PROGRESS, topics.FEED_EVENTS)]
        live, progress, events = (place.topic for place in places)
        for batch in read_to_end(self._settings.kafka, places):
            lives = [m for m in batch if m.topic() == live and m.key() == key]
            standings = [m for m in batch if m.topic() == progress and m.key() == b"%d" % cast("int", m.partition())]
            kept.live = next(self._records(reversed(lives), LiveBars), kept.live)
            kept.progress = next(self._records(reversed(standings), Progress), kept.progress)
            kept.events += self._records((m for m in batch if m.topic() == events and m.key() == key), FeedEvent)
        return kept

    def _records(self, messages: Iterable[Message], kind: type[R]) -> Iterator[R]:
        """Those of this kind."""
        for message in messages:
            if (value := message.value()) is None:
                continue
            try:
                record = self._codec.decode(value)
            except (DecodeError, UnknownSchemaError) as error:
                log.warning(
                    "record skipped: not ours", topic=message.topic(), offset=message.offset(), error=str(error)
                )
                continue
            if isinstance(record, kind):
                yield record

    def _place(self, topic: Topic, symbol: str) -> TopicPartition:
        """The beginning of the symbol's partition."""
        return TopicPartition(self._world.topic(topic.name), clients.partition_for(symbol, self._partitions), 0)

    @cached_property
    def _partitions(self) -> int:
        return partition_count(self._settings.kafka, self._world.topic(topics.BARS_LIVE.name))

    def _since(self, place: TopicPartition, ms: int) -> list[TopicPartition]:
        """Where all records of a partition stand that are later than ``ms``; nowhere when there is none."""
        found = offset_at(self._settings.kafka, place, ms + 1)
        return [found] if found else []


def unknown_symbol(symbol: str, world: str, specs: dict[str, SymbolSpec]) -> UsageError:
    """What to say of a symbol that a world does not have."""
    near = difflib.get_close_matches(symbol.upper(), specs, n=5, cutoff=0.5) or sorted(specs)[:20]
    return UsageError(
        f"world {world} has no {symbol}; " + (f"it has: {', '.join(near)}" if near else "it has no symbol yet")
    )
