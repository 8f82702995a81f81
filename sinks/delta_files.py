"""The files of a Delta table on a local disk, written so that a power cut leaves the table whole.

deltalake syncs nothing. So the Parquet files are written and synced here before the commit that names them, the log
entry after it, a checkpoint before the log entries that it replaces go. What a power cut can still leave behind is a
torn last log entry, which nobody was told of, or a torn checkpoint, which repeats what the log says: `repair` puts
both aside, so that rows and offsets step back together.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.transaction import AddAction, RemoveAction

from infra import logs
from infra.lake.layout import PARTITIONED_BY, ROW_GROUP, Table
from schemas.errors import StoreError
from sinks.durable import make_folder, sync_file, sync_folder
from sinks.statistics import Statistics

_CHECKPOINT_EVERY: Final = 100
_MAGIC: Final = b"PAR1"
_STALE_SECONDS: Final = 3_600
"""A vacuum retains at least this."""

log = logs.logger(__name__)


class LocalFiles:
    """Data files and log of one table on this machine's disk."""

    def __init__(self, folder: Path, table: Table) -> None:
        self._folder = folder
        self._log = folder / "_delta_log"
        self._table = table
        self._added: list[AddAction | RemoveAction] = []
        self._written = 0.0

    def write(self, rows: pl.DataFrame) -> None:
        """One synced file for each date of the sorted ``rows``. Raises OSError."""
        for (world, date), part in rows.partition_by(PARTITIONED_BY, as_dict=True, include_key=False).items():
            keys = {"world": str(world), "date": str(date)}
            folder = self._folder.joinpath(*(f"{key}={value}" for key, value in keys.items()))
            make_folder(folder)
            path = folder / f"part-{uuid.uuid4()}.zstd.parquet"
            with path.open("xb") as file:
                part.write_parquet(file, compression="zstd", row_group_size=ROW_GROUP)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            sync_folder(folder)
            relative = path.relative_to(self._folder).as_posix()
            statistics = Statistics(self._table)
            statistics.add(part)
            self._added.append(AddAction(relative, size, keys, int(time.time() * 1_000), True, statistics.json()))
        self._written = time.time()

    def commit(self, handle: DeltaTable, properties: CommitProperties) -> None:
        """Add the written files to the table in one commit. Raises StoreError for files that lay around for long."""
        if self._added and time.time() - self._written > _STALE_SECONDS / 2:
            raise StoreError("this process stood still; its files are written again, since a vacuum may have seen them")
        handle.create_write_transaction(
            self._added,
            "append",
            handle.schema(),
            list(PARTITIONED_BY),
            commit_properties=properties,
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )

    def secure(self, handle: DeltaTable, before: int) -> None:
        """Sync the log entries after version ``before``; now and then put a checkpoint in their place."""
        for version in range(before + 1, handle.version() + 1):
            sync_file(self._log / f"{version:020}.json")
        sync_folder(self._log)
        if handle.version() // _CHECKPOINT_EVERY > before // _CHECKPOINT_EVERY:
            handle.create_checkpoint()
            for path in self._log.glob(f"{handle.version():020}.checkpoint*.parquet"):
                sync_file(path)
            sync_folder(self._log)
            handle.cleanup_metadata()

    def discard(self) -> None:
        """Forget files that no commit named; they stay as orphans that a full vacuum removes."""
        self._added = []

    def repair(self) -> None:
        """Put aside what a power cut tore in the log, and remove old temporary files. Raises OSError."""
        entries = sorted(self._log.glob("*[0-9].json"))
        if entries and not _whole(entries[-1]):
            log.error("torn log entry put aside: rows and offsets step back to the entry before", path=str(entries[-1]))
            entries[-1].rename(entries[-1].with_suffix(f".torn-{uuid.uuid4()}"))
        for checkpoint in self._log.glob("*.checkpoint*.parquet"):
            if not _is_parquet(checkpoint):
                log.error("torn checkpoint put aside", path=str(checkpoint))
                checkpoint.rename(checkpoint.with_suffix(f".torn-{uuid.uuid4()}"))
                (self._log / "_last_checkpoint").unlink(missing_ok=True)
        for leftover in self._log.glob("*#*"):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                leftover.unlink(missing_ok=True)


def _whole(entry: Path) -> bool:
    try:
        lines = entry.read_text("utf-8").splitlines()
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        return False


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < 2 * len(_MAGIC):
            return False
        file.seek(-len(_MAGIC), os.SEEK_END)
        return file.read() == _MAGIC
