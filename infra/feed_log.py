"""What a world's log says of its feeds: their shards, how far each has published, what their ledger tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from infra.kafka_log import beginnings, read_to_end, since
from infra.settings import Settings
from infra.topics import CURSORS, FEED_EVENTS, SYMBOLS, TICKS_RAW
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import DecodeError, UnknownSchemaError
from schemas.records import Control, ControlKind, Cursor, EventKind, FeedEvent, Record, SymbolSpec

_TAIL_MS: Final = 15 * 60_000
"""How far back watermarks are looked for: a shard that is alive writes one a second."""

_LINKS: Final = {EventKind.CONNECTED, EventKind.DISCONNECTED}


@dataclass(slots=True)
class ShardStanding:
    """How one shard stands. Times are UTC milliseconds."""

    feed: str
    shard: str
    symbols: list[str] = field(default_factory=list)
    watermark: int | None = None
    """None: none of late."""
    newest: int | None = None
    """Of its cursors."""
    link: FeedEvent | None = None
    """Its latest connection or disconnection."""
    retired: bool = False


class FeedLog:
    """Reads the settings' world; its methods block. They raise BrokerError when Kafka is away, or has no such world."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self._world = World(settings.world)

    def shards(self, now: int) -> list[ShardStanding]:
        """Every shard that has written to this world, by feed and name."""
        found: dict[tuple[str, str], ShardStanding] = {}

        def one(feed: str, shard: str) -> ShardStanding:
            return found.setdefault((feed, shard), ShardStanding(feed, shard))

        owners = {r.symbol: (r.feed, r.shard) for r, _ in self._all(SYMBOLS.name) if isinstance(r, SymbolSpec)}
        for record, time in self._all(CURSORS.name):
            if isinstance(record, Cursor):
                owners.setdefault(record.symbol, (record.feed, record.shard))
                standing = one(record.feed, record.shard)
                standing.newest = max(standing.newest or time, time)
        for symbol, owner in sorted(owners.items()):
            one(*owner).symbols.append(symbol)
        for event in self.events(0, now):
            if event.kind in _LINKS and event.symbol is None:
                one(event.feed, event.shard).link = event
        for control, _ in self._tail(now - _TAIL_MS):
            if isinstance(control, Control) and control.kind in {ControlKind.WATERMARK, ControlKind.RETIRED}:
                standing = one(control.feed, control.shard)
                standing.watermark = max(standing.watermark or control.time, control.time)
                standing.retired = control.kind == ControlKind.RETIRED
        return [found[key] for key in sorted(found)]

    def events(self, start: int, end: int) -> list[FeedEvent]:
        """The ledger's lines of [start, end], by time."""
        found = (record for record, _ in self._all(FEED_EVENTS.name) if isinstance(record, FeedEvent))
        return sorted((event for event in found if start <= event.time <= end), key=lambda event: event.time)

    def specs(self, feed: str) -> list[SymbolSpec]:
        """The latest spec of each of a feed's symbols, by symbol."""
        found = {r.symbol: r for r, _ in self._all(SYMBOLS.name) if isinstance(r, SymbolSpec) and r.feed == feed}
        return [found[symbol] for symbol in sorted(found)]

    def counts(self, moment: int) -> Counter[str]:
        """How many ticks of each symbol there are since then."""
        topic = self._world.topic(TICKS_RAW.name)
        found: Counter[str] = Counter()
        for batch in read_to_end(self._settings.kafka, since(self._settings.kafka, topic, moment)):
            found.update((message.key() or b"").decode("utf-8", "replace") for message in batch)
        return found

    def symbols_of(self, feed: str, shard: str) -> list[str]:
        """The symbols whose latest spec names the shard, or, without a spec yet, whose cursor does."""
        specs = {r.symbol: (r.feed, r.shard) for r, _ in self._all(SYMBOLS.name) if isinstance(r, SymbolSpec)}
        cursors = {r.symbol: (r.feed, r.shard) for r, _ in self._all(CURSORS.name) if isinstance(r, Cursor)}
        return sorted(symbol for symbol, owner in (cursors | specs).items() if owner == (feed, shard))

    def _all(self, topic: str) -> Iterator[tuple[Record, int]]:
        for batch in read_to_end(self._settings.kafka, beginnings(self._settings.kafka, self._world.topic(topic))):
            yield from self._decoded((message.value(), message.timestamp()[1]) for message in batch)

    def _tail(self, moment: int) -> Iterator[tuple[Record, int]]:
        """Controls of whole shards, which begin with ``@``."""
        topic = self._world.topic(TICKS_RAW.name)
        for batch in read_to_end(self._settings.kafka, since(self._settings.kafka, topic, moment)):
            whole = (message for message in batch if (message.key() or b"").startswith(b"@"))
            yield from self._decoded((message.value(), message.timestamp()[1]) for message in whole)

    def _decoded(self, values: Iterator[tuple[bytes | None, int]]) -> Iterator[tuple[Record, int]]:
        for value, time in values:
            if value is not None:
                try:
                    yield self._codec.decode(value), time
                except (DecodeError, UnknownSchemaError):
                    continue  # others may write here
