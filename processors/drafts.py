"""One unit of work as one Kafka transaction: all that a batch gives, and that it was processed, or nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from infra import topics
from infra.topics import Topic
from infra.worlds import World
from processors.batches import Headers, Out, RecordBatch, batched, columnar
from processors.core.types import Outcome, Reason
from processors.records import Records
from schemas.codec import Codec
from schemas.columns import taken
from schemas.errors import ArbitrexError
from schemas.records import FeedEvent, LiveBars, Progress

LARGEST_DEAD_LETTER: Final = 900_000
"""Bytes kept of one: its headers must fit beside it into what a broker takes (1 MiB by default)."""

_WRITTEN: Final = (
    topics.TICKS_CLEAN,
    topics.TICKS_REJECTED,
    topics.BARS,
    topics.BARS_LIVE,
    topics.PROGRESS,
    topics.SYMBOLS,
    topics.FEED_EVENTS,
    topics.DEAD_LETTERS,
)

Draft = Mapping[str, Sequence[RecordBatch]]
"""What a transaction will write: batches by the topic's full name."""


class Drafts:
    """Drafts of one source partition's transactions. Pure."""

    def __init__(self, world: World, codec: Codec, partition: int) -> None:
        self._codec = codec
        self._partition = partition
        self._topics = {topic.name: world.topic(topic.name) for topic in _WRITTEN}
        self._source = world.topic(topics.TICKS_RAW.name).encode()

    @property
    def topics(self) -> list[str]:
        """All that may be written."""
        return list(self._topics.values())

    def unit(self, records: Records, outcome: Outcome, progress: Progress) -> Draft:
        """All that ``records`` gave, with ``progress``."""
        page = _Page()
        self._results(page, records, outcome)
        self._dead_letters(page, records, outcome)
        self._stand(page, progress, int(records.timestamps[-1]))
        return {self._topics[topics.TICKS_CLEAN.name]: [*_clean(records, outcome)], **self._batches(page)}

    def note(self, event: FeedEvent) -> Draft:
        """An event by itself."""
        page = _Page()
        self._event(page, event)
        return self._batches(page)

    def going_on(self, event: FeedEvent, news: Sequence[tuple[LiveBars, int]], progress: Progress) -> Draft:
        """An event, and with it live bars and progress to go on from."""
        page = _Page()
        self._event(page, event)
        self._live(page, news, event.time)
        self._stand(page, progress, event.time)
        return self._batches(page)

    def _batches(self, page: _Page) -> Draft:
        return {self._topics[name]: [*batched(records)] for name, records in page.records.items()}

    def _results(self, page: _Page, records: Records, outcome: Outcome) -> None:
        for at, reason in zip(outcome.rejected.tolist(), outcome.reasons.tolist(), strict=True):
            record = records[at]
            headers = [("reason", Reason(reason).label.encode()), *self._position(record.offset)]
            page.add(topics.TICKS_REJECTED, record.key, record.value, record.timestamp, headers)
        for closed in outcome.closed:
            bar = closed.bar
            headers = [
                *self._position(closed.cause_offset),
                ("first_offset", b"%d" % closed.first_offset),
                ("last_offset", b"%d" % closed.last_offset),
            ]
            page.add(topics.BARS, bar.key.encode(), self._codec.encode(bar), bar.ts_close, headers)
        self._live(page, outcome.live, int(records.timestamps[-1]))
        for at, spec in outcome.specs:
            headers, time = self._position(int(records.offsets[at])), int(records.timestamps[at])
            page.add(topics.SYMBOLS, spec.symbol.encode(), self._codec.encode(spec), time, headers)
        for at, event in outcome.events:
            self._event(page, event, self._position(int(records.offsets[at])))

    def _live(self, page: _Page, lives: Sequence[tuple[LiveBars, int]], otherwise: int) -> None:
        """Live bars, each with the source offset that changed it; ``otherwise``: the time of those without a tick."""
        for live, offset in lives:
            value, time = self._codec.encode(live), live.last_ts or otherwise
            page.add(topics.BARS_LIVE, live.symbol.encode(), value, time, self._position(offset))

    def _dead_letters(self, page: _Page, records: Records, outcome: Outcome) -> None:
        for at, error in outcome.dead:
            record = records[at]
            headers = [
                ("topic", self._source),
                *self._position(record.offset),
                ("reason", dead_reason(error).encode()),
                ("error", str(error).encode()),
            ]
            value = record.value
            if value is not None and len(value) > LARGEST_DEAD_LETTER:
                headers.append(("truncated_from", b"%d" % len(value)))
                value = value[:LARGEST_DEAD_LETTER]
            page.add(topics.DEAD_LETTERS, record.key, value, record.timestamp, headers)

    def _event(self, page: _Page, event: FeedEvent, headers: Headers = ()) -> None:
        key = event.symbol or f"@{event.feed}/{event.shard}"
        page.add(topics.FEED_EVENTS, key.encode(), self._codec.encode(event), event.time, headers)

    def _stand(self, page: _Page, progress: Progress, time: int) -> None:
        page.add(topics.PROGRESS, b"%d" % self._partition, self._codec.encode(progress), time)

    def _position(self, offset: int) -> list[tuple[str, bytes]]:
        return [("partition", b"%d" % self._partition), ("offset", b"%d" % offset)]


class _Page:
    """Records by their topic's name, in order."""

    def __init__(self) -> None:
        self.records: dict[str, list[Out]] = defaultdict(list)

    def add(self, topic: Topic, key: bytes | None, value: bytes | None, time: int, headers: Headers = ()) -> None:
        """Append a record.

        A time before 1970 (no time at all is -1) is left to the client's clock: only dead letters can have one.
        """
        self.records[topic.name].append(Out(key, value, time if time > 0 else None, headers))


def _clean(records: Records, outcome: Outcome) -> Iterator[RecordBatch]:
    """The ticks that passed, as they came."""
    clean = outcome.clean
    return columnar(taken(records.keys, clean), taken(records.values, clean), records.timestamps[clean])


def dead_reason(error: ArbitrexError) -> str:
    """Why a record is a dead letter, as a label: its error's class without ``Error``, in snake case."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")
