"""JSON Lines, for pipes: into numbered files, or to standard output.

An object a row, with the names of the record's fields, ``table``, ``world``, ``source_partition`` and
``source_offset``; times are ISO 8601 in UTC. Files are written exactly once, as CSV is (`sinks.files`). A pipe keeps no
record: how far it was filled stands in a file of this machine, written after the lines, so a process that is killed in
between repeats its last rows, which their offsets tell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl

from infra.lake.layout import PARTITIONED_BY, TABLES, Table
from infra.locks import try_lock
from infra.paths import encoded
from schemas.errors import ComponentError, FencedError, StoreError
from sinks.durable import make_folder
from sinks.files import Form
from sinks.sink import Batch, Source


def text(table: Table, rows: pl.DataFrame) -> bytes:
    """The rows of one table, an object a line."""
    columns = [name for name in table.schema if name not in PARTITIONED_BY]
    return (
        rows.select(pl.lit(table.name).alias("table"), "world", *(table.readable(name) for name in columns))
        .write_ndjson()
        .encode()
    )


JSONL: Final = Form("jsonl", text)


class PipeSink:
    """Rows of one world as lines of a pipe, at least once; one process of a home folder at a time."""

    name = "jsonl"
    tables: tuple[Table, ...] = TABLES

    def __init__(self, folder: Path, world: str, out: BinaryIO) -> None:
        self._record = folder / f"{encoded(world)}.json"
        self._world = world
        self._out = out
        self._lock: BinaryIO | None = None
        self._recorded: dict[Source, int] = {}
        self._texts: list[bytes] = []

    def positions(self, sources: Collection[Source]) -> dict[Source, int]:
        """See `Sink.positions`."""
        self._texts = []
        try:
            make_folder(self._record.parent)
            self._acquire()
            found = json.loads(self._record.read_text("utf-8")) if self._record.exists() else []
            self._recorded = {Source(each["topic"], each["partition"]): each["next"] for each in found}
        except OSError as error:
            raise StoreError(f"{self._record} cannot be used: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ComponentError(f"{self._record} is damaged ({error}): delete it to begin anew") from error
        return {source: self._recorded[source] for source in sources if source in self._recorded}

    def write(self, batch: Batch) -> None:
        """See `Sink.write`."""
        self._texts.append(text(batch.table, batch.table.rows(batch.rows, self._world)))

    def commit(self, offsets: Mapping[Source, int]) -> None:
        """See `Sink.commit`. Raises ComponentError once nobody reads the pipe."""
        try:
            for lines in self._texts:
                self._out.write(lines)
            self._out.flush()
        except OSError as error:
            raise ComponentError(f"nobody reads the pipe any more ({error.strerror})") from error
        self._texts = []
        self._recorded |= offsets
        beside = self._record.with_suffix(".new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump([{**s._asdict(), "next": end} for s, end in sorted(self._recorded.items())], file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._record)
        except OSError as error:
            raise StoreError(f"{self._record} cannot be written: {error}") from error

    def close(self) -> None:
        """See `Sink.close`."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def _acquire(self) -> None:
        if self._lock:
            return
        lock = self._record.with_suffix(".lock").open("ab")
        if not try_lock(lock):
            lock.close()
            raise FencedError(f"another process writes world {self._world} to a pipe; give it a home of its own")
        self._lock = lock
