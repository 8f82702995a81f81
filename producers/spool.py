"""Messages that wait on this machine's disk until Kafka has them, in order: SQLite in WAL mode.

A batch is safe against the end of the process once `Spool.put` has returned. Against a power cut it is once SQLite has
synced it; what is lost then is the end, never the middle (https://sqlite.org/pragma.html#pragma_synchronous, NORMAL).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from infra import logs
from schemas.errors import StoreError

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS waiting (
    place INTEGER PRIMARY KEY, since INTEGER NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    ticks INTEGER NOT NULL, key BLOB NOT NULL, times BLOB NOT NULL, lengths BLOB NOT NULL, body BLOB NOT NULL
)
"""
_INSERT: Final = """
INSERT INTO waiting (place, since, topic, partition, ticks, key, times, lengths, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_BEHIND: Final = """
SELECT place, topic, partition, ticks, key, times, lengths, body FROM waiting WHERE place > ? ORDER BY place
"""
_PRIMARY: Final = 0xFF
"""Which bits of SQLite's extended error codes say of what kind it is."""
_NO_ROOM: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one key for one partition, in order; times are UTC milliseconds."""

    topic: str
    partition: int
    key: bytes
    values: Sequence[bytes]
    times: Sequence[int]
    ticks: int
    """How many of them are ticks."""

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(map(len, self.values)) + 12 * len(self.values)


class Spool:
    """One shard's; used by one thread of one process at a time."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Open or make the file. One that is damaged is set aside: what is not in Kafka is read from the source again.

        Raises StoreError when it cannot be used.
        """
        self.path, self.most_bytes = path, most_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._opened()
        except OSError as error:
            raise StoreError(f"the spool {path} cannot be made ({error.strerror}): see to its disk") from error
        except sqlite3.Error as error:
            why = "another producer has it: end that one" if _kind(error) == sqlite3.SQLITE_BUSY else "see to its disk"
            raise StoreError(f"the spool {path} cannot be used ({error}): {why}") from error
        counts = "SELECT coalesce(max(place), 0), coalesce(sum(ticks), 0) FROM waiting"
        last, self.ticks = self._db.execute(counts).fetchone()
        self._next: int = last + 1
        self._page: int = self._db.execute("PRAGMA page_size").fetchone()[0]
        if not last:
            with suppress(sqlite3.Error):
                self._db.execute("VACUUM")
        self._limit()
        self.oldest = self._oldest()
        """When the first that waits was spooled, UTC milliseconds; None when none does."""

    @property
    def last(self) -> int:
        """The place of the batch that was put last."""
        return self._next - 1

    @property
    def bytes(self) -> int:
        """What the batches that wait take on disk."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._page

    def put(self, batch: Batch, now: int) -> int | None:
        """Its place in the order; None when there is no room, in the spool or on the disk. Raises StoreError."""
        place, lengths = self._next, np.fromiter(map(len, batch.values), np.int32, len(batch.values))
        row = (
            *(place, now, batch.topic, batch.partition, batch.ticks, batch.key),
            *(np.array(batch.times, np.int64).tobytes(), lengths.tobytes(), b"".join(batch.values)),
        )
        try:
            self._db.execute(_INSERT, row)
        except sqlite3.Error as error:
            if _kind(error) in _NO_ROOM:
                return None
            raise StoreError(f"the spool {self.path} cannot be written ({error}): see to its disk") from error
        self._next += 1
        self.ticks += batch.ticks
        self.oldest = now if self.oldest is None else self.oldest
        return place

    def after(self, place: int) -> Iterator[tuple[int, Batch]]:
        """The batches behind ``place`` with their places, in order. Raises StoreError."""
        try:
            for row in self._db.execute(_BEHIND, (place,)):
                yield row[0], _batch(*row[1:])
        except sqlite3.Error as error:
            raise StoreError(f"the spool {self.path} cannot be read ({error}): see to its disk") from error

    def drop(self, place: int) -> bool:
        """Forget the batches up to ``place``; False when the disk is too full even for that: then try again later."""
        try:
            counted = self._db.execute("SELECT coalesce(sum(ticks), 0) FROM waiting WHERE place <= ?", (place,))
            (ticks,) = counted.fetchone()
            self._db.execute("DELETE FROM waiting WHERE place <= ?", (place,))
        except sqlite3.Error as error:
            if _kind(error) in _NO_ROOM:
                return False
            raise StoreError(f"the spool {self.path} cannot be written ({error}): see to its disk") from error
        self.ticks -= ticks
        self.oldest = self._oldest()
        return True

    def symbols(self) -> set[str]:
        """The symbols of the ticks that wait."""
        return {key.decode() for (key,) in self._db.execute("SELECT DISTINCT key FROM waiting WHERE ticks > 0")}

    def close(self) -> None:
        with suppress(sqlite3.Error):  # a full disk; the next start finds it as it is
            self._db.close()

    def _opened(self) -> sqlite3.Connection:
        with suppress(_DamagedError):
            return _connect(self.path)
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns() // 1_000_000}")
        self.path.rename(aside)
        for left in ("-wal", "-shm"):
            self.path.with_name(self.path.name + left).unlink(missing_ok=True)
        log.error("the spool was damaged; what was in it is read from the source again", set_aside=str(aside))
        return _connect(self.path)

    def _limit(self) -> None:
        """Have SQLite hold the bound."""
        self._db.execute(f"PRAGMA max_page_count = {max(self.most_bytes // self._page, 16)}")

    def _oldest(self) -> int | None:
        found = self._db.execute("SELECT since FROM waiting ORDER BY place LIMIT 1").fetchone()
        return None if found is None else int(found[0])

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


class _DamagedError(Exception):
    """The file is none of SQLite's any more."""


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
            db.execute(f"PRAGMA {setting}")
        db.execute(_TABLE)
        sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.Error as error:
        db.close()
        if _kind(error) not in _DAMAGED:
            raise
        raise _DamagedError from error
    if not sound:
        db.close()
        raise _DamagedError
    return db


def _kind(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY


def _batch(  # noqa: PLR0917 - a row's columns
    topic: str, partition: int, ticks: int, key: bytes, times: bytes, lengths: bytes, body: bytes
) -> Batch:
    ends = np.cumsum(np.frombuffer(lengths, np.int32), dtype=np.int64).tolist()
    values = [body[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return Batch(topic, partition, key, values, np.frombuffer(times, np.int64).tolist(), ticks)
