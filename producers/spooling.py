"""A publisher behind a spool: what goes to Kafka is on this machine's disk first, and stays until Kafka has it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from threading import Event
from typing import Final

from infra import logs, metrics
from infra.paths import encoded
from infra.settings import Settings
from infra.topics import CURSORS
from producers.clock import Clock, RealClock
from producers.publisher import WAIT_SECONDS, Message, Publisher
from producers.restore import read_cursors
from producers.spool import Batch, Spool
from schemas.codec import Codec
from schemas.errors import BrokerError, SettingsError
from schemas.records import EventKind, FeedEvent

_WINDOW_BYTES: Final = 16 << 20
"""What may be on its way to Kafka at a time; it is forgotten when all of it has arrived."""

_ALARM: Final = 0.8
"""From which share of what the spool may have, or how old it may be, on it is said."""

_CALM: Final = 0.5

log = logs.logger(__name__)


class SpoolingPublisher(Publisher):
    """A publisher whose calls return when the spool has what they were given, whether Kafka is there or not.

    Only cursors go past it: they are written when all that they cover is acknowledged. When the spool takes no more, a
    call waits, so that polling stops; once Kafka has all of it and the disk is still full, ticks go past the spool.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        stopping: Event,
        spool: Spool,
        *,
        feed: str,
        shard: str,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(settings, codec, stopping, feed=feed, shard=shard)
        self._spool, self._clock = spool, clock or RealClock()
        self._longest_ms = int(settings.producer.spool_hours * 3_600_000)
        self._cursors, _ = self._topics[CURSORS.name]
        self._sent = self._dropped = 0
        """Places: up to where Kafka's client has all, and up to where the spool has forgotten all."""
        self._flying = 0
        """Bytes that the client was given since Kafka had all."""
        self._alarmed = False
        self._full: tuple[str, int] | None = None
        """Why the spool takes no more, and since when."""
        self._bytes, self._age = (gauge.labels(feed, shard) for gauge in (metrics.SPOOL_BYTES, metrics.SPOOL_AGE))

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            arrived = super().flush(max(deadline - time.monotonic(), 0.0))
            if done := arrived and self._sent == self._spool.last:
                break
            self._forward()
            if time.monotonic() >= deadline:
                break
        self._watch()
        return done

    def close(self) -> None:
        self._producer.flush(WAIT_SECONDS)
        self._producer.purge()
        if self._spool.ticks:
            log.warning("ticks stay in the spool; the next start goes on with them", ticks=self._spool.ticks)
        self._spool.close()

    def _send(self, topic: str, partition: int, messages: Iterable[Message], *, ticks: int = 0) -> None:
        if topic == self._cursors:
            super()._send(topic, partition, messages)
            return
        given = list(messages)
        batch = Batch(topic, partition, given[0][0] or b"", [m[1] or b"" for m in given], [m[2] for m in given], ticks)
        while (reason := self._put(batch)) is not None:
            self._is_full(reason)
            if self.flush(WAIT_SECONDS):
                super()._send(topic, partition, given, ticks=ticks)
                return
            if self._stopping.is_set():
                raise BrokerError(
                    "the spool is full and Kafka takes nothing; the next start goes on where the spool ends"
                )
        self._has_room()

    def _put(self, batch: Batch) -> str | None:
        """Spool a batch, and give it to Kafka's client when it is its turn; None, or why there is no room."""
        now, oldest = self._clock.now_ms(), self._spool.oldest
        if oldest is not None and now - oldest > self._longest_ms:
            return "age"
        place = self._spool.put(batch, now)
        if place is None:
            return "size" if self._spool.bytes + batch.size > self._spool.most_bytes else "disk"
        self._forward((place, batch))
        return None

    def _forward(self, latest: tuple[int, Batch] | None = None) -> None:
        """Give Kafka's client what it may have; ``latest``: what was spooled just now."""
        self._producer.poll(0)
        self._check()
        if not len(self._producer):
            self._acknowledged()
        if self._flying >= _WINDOW_BYTES:
            return
        waiting = [latest] if latest is not None and latest[0] == self._sent + 1 else self._spool.after(self._sent)
        for place, batch in waiting:
            messages = zip(repeat(batch.key), batch.values, batch.times, repeat(None))
            super()._send(batch.topic, batch.partition, messages, ticks=batch.ticks)
            self._sent = place
            self._flying += batch.size
            if self._flying >= _WINDOW_BYTES:
                break

    def _acknowledged(self) -> None:
        super()._acknowledged()
        self._flying = 0
        if self._dropped < self._sent and self._spool.drop(self._sent):
            self._dropped = self._sent

    def _watch(self) -> None:
        """Show what waits, and say in time that there is nearly no room."""
        spool = self._spool
        size = spool.bytes
        age = 0 if spool.oldest is None else max(self._clock.now_ms() - spool.oldest, 0)
        self._queue.set(spool.ticks)
        self._bytes.set(size)
        self._age.set(age / 1_000)
        share = max(size / spool.most_bytes, age / self._longest_ms)
        if share < _CALM:
            self._alarmed = False
        elif share >= _ALARM and not self._alarmed:
            self._alarmed = True
            text = (
                f"{spool.ticks} ticks wait for Kafka, {size / 2**20:.0f} MB of {spool.most_bytes / 2**20:.0f}, the "
                f"first for {age / 3_600_000:.1f} h of {self._longest_ms / 3_600_000:g}: then polling stops"
            )
            log.warning("the spool is nearly full", reason=text)
            if share < 1 and self._full is None:
                self._tell(text)

    def _is_full(self, reason: str) -> None:
        if self._full is None:
            self._full = (reason, self._clock.now_ms())
            metrics.SPOOL_FULL.labels(self.feed, self.shard, reason).inc()
            log.warning("the spool takes no more; polling stops until Kafka takes what is in it", reason=reason)

    def _has_room(self) -> None:
        if self._full is not None:
            (reason, since), self._full = self._full, None
            log.info("the spool has room again")
            self._tell(f"the spool took nothing for want of room ({reason})", since)

    def _tell(self, text: str, since: int | None = None) -> None:
        now = self._clock.now_ms()
        to = None if since is None else now
        self.event(
            FeedEvent(time=now, kind=EventKind.SPOOL, feed=self.feed, shard=self.shard, from_=since, to=to, text=text)
        )


def open_publisher(settings: Settings, codec: Codec, stopping: Event) -> Publisher | None:
    """The shard's publisher, once Kafka has what an earlier run left in its spool; None when asked to stop meanwhile.

    Raises SettingsError for a spool of another Kafka, StoreError for one that cannot be used, BrokerError.
    """
    producer = settings.producer
    feed, shard, wanted = producer.feed, producer.shard, producer.spool == "always"
    path = settings.spool_dir / encoded(feed) / f"{encoded(shard)}.db"
    if not wanted and not path.exists():
        return Publisher(settings, codec, stopping, feed=feed, shard=shard)
    spool = Spool(path, producer.spool_megabytes << 20)
    _refuse_other(settings, codec, spool)
    publisher = SpoolingPublisher(settings, codec, stopping, spool, feed=feed, shard=shard)
    while not publisher.flush(1.0):
        log.info("Kafka gets what was left in the spool", ticks=spool.ticks)
        if stopping.is_set():
            publisher.close()
            return None
    if wanted:
        return publisher
    publisher.close()
    _remove(path)
    return Publisher(settings, codec, stopping, feed=feed, shard=shard)


def _refuse_other(settings: Settings, codec: Codec, spool: Spool) -> None:
    """Each series has a cursor in Kafka before any of its ticks is spooled."""
    waiting = spool.symbols()
    known = (
        {symbol for feed, symbol in read_cursors(settings, codec) if feed == settings.producer.feed}
        if waiting
        else set()
    )
    if strange := sorted(waiting - known):
        spool.close()
        raise SettingsError(
            f"the spool {spool.path} holds ticks of {', '.join(strange)} that are of another Kafka than "
            f"ARBITREX_KAFKA__BOOTSTRAP_SERVERS={settings.kafka.bootstrap_servers}, which knows nothing of them in "
            f"world {settings.world}: set it to that one, or move the file away"
        )


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal"):
        path.with_name(name).unlink(missing_ok=True)
