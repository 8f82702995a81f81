"""Keeps the lake in shape: small files become few, sorted by symbol and time; what nothing needs any more is deleted.

A rewrite removes exactly the files that it has read and adds their rows again, in one commit that changes no data and
carries no offsets, so sinks that append meanwhile are not disturbed. deltalake does not notice when such a commit and
another's (a compaction's) remove the same file, and both add its rows; so a commit here is tried only as the very next
version after one that still had all the files. Files of a sink are named ``part-…``, rewritten ones ``run-ID-N``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from infra import logs, metrics
from infra.lake.layout import PARTITIONED_BY, ROW_GROUP, Table
from infra.lake.storage import StorageOptions, filesystem, local_folder, revealed
from infra.lake.tables import data_files, open_table, table_uri
from schemas.errors import StoreError
from sinks.durable import sync_file, sync_folder
from sinks.statistics import Statistics

_ENOUGH: Final = 8
"""So many files of sinks in a day that is still filled are put together."""
_CHUNK_ROWS: Final = 1_000_000
"""Rows in memory at once, or those of one symbol and day."""
_FILE_ROWS: Final = 4 * _CHUNK_ROWS
_TRIES: Final = 50

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """The files of one world and day that are put together."""

    world: str
    date: date
    paths: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass(slots=True)
class Outcome:
    """What was done to a table."""

    before: int = 0
    """Files that were rewritten."""
    after: int = 0
    rows: int = 0
    deleted: int = 0
    conflicts: int = 0


def optimize(
    uri: str,
    options: StorageOptions | None,
    table: Table,
    retain_hours: float,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    stopping: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Put a table's files together and delete those that left it more than ``retain_hours`` ago. Raises StoreError."""
    outcome = Outcome()
    handle = open_table(uri, options, table)
    if handle is None:
        return outcome
    try:
        for part in parts(handle, now().date()):
            if stopping():
                return outcome
            _Rewrite(uri, options, table, handle).run(part, outcome)
        gone = handle.vacuum(int(retain_hours), dry_run=False, enforce_retention_duration=False, full=True)
        outcome.deleted = len(gone)
    except (DeltaError, OSError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise StoreError(f"the lake table {table_uri(uri, table)} cannot be optimized: {error}") from error
    return outcome


def parts(handle: DeltaTable, today: date) -> Iterator[Part]:
    """What is to be put together: a day's new files once they are many; of a day that is over, all of them."""
    actions = data_files(handle)
    if not actions.height:
        return
    names = pl.col("path").str.extract(r"([^/]+)$")
    found = actions.with_columns(
        pl.when(names.str.starts_with("run-"))
        .then(names.str.extract(r"^(run-[0-9a-f]+)"))
        .otherwise(names)
        .alias("run")
    )
    for (world, day), files in found.partition_by("partition.world", "partition.date", as_dict=True).items():
        new = files.filter(~pl.col("run").str.starts_with("run-"))
        over = day < today
        chosen = files if over else new
        if (over and files["run"].n_unique() > 1) or new.height >= _ENOUGH:
            yield Part(str(world), day, tuple(chosen["path"]), tuple(chosen["size_bytes"]))


class _Rewrite:
    """Puts one part's files together."""

    def __init__(self, uri: str, options: StorageOptions | None, table: Table, handle: DeltaTable) -> None:
        self._table = table
        self._handle = handle
        self._folder = local_folder(table_uri(uri, table))
        self._files = filesystem(table_uri(uri, table), options)
        self._uri = table_uri(uri, table)
        self._options = revealed(options)
        self._schema = {name: kind for name, kind in table.schema.items() if name not in PARTITIONED_BY}

    def run(self, part: Part, outcome: Outcome) -> None:
        keys: dict[str, str | None] = {"world": part.world, "date": part.date.isoformat()}
        written = list(self._write(part, keys))
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(path, False, int(time.time() * 1_000), size, keys)
            for path, size in zip(part.paths, part.sizes, strict=True)
        ]
        if not self._commit(part, [*actions, *(add for add, _ in written)]):
            outcome.conflicts += 1
            log.info("left to the next time: its files were changed meanwhile", **keys)
            return
        rows = sum(count for _, count in written)
        log.info("put together", table=self._table.name, **keys, files=len(part.paths), became=len(written), rows=rows)
        outcome.before += len(part.paths)
        outcome.after += len(written)
        outcome.rows += rows
        metrics.LAKE_REWRITTEN.labels(self._table.name).inc(len(part.paths))

    def _commit(self, part: Part, actions: Sequence[AddAction | RemoveAction]) -> bool:
        """Whether the actions are the table's next version."""
        handle = self._handle
        for _ in range(_TRIES):
            handle.update_incremental()
            if not set(part.paths) <= set(data_files(handle)["path"]):
                return False
            try:
                handle.create_write_transaction(
                    list(actions),
                    "append",
                    handle.schema(),
                    list(PARTITIONED_BY),
                    commit_properties=CommitProperties(max_commit_retries=0),
                    post_commithook_properties=PostCommitHookProperties(
                        create_checkpoint=self._folder is None, cleanup_expired_logs=False
                    ),
                )
            except CommitFailedError:
                continue
            handle.update_incremental()
            if self._folder:
                sync_file(self._folder / "_delta_log" / f"{handle.version():020}.json")
            return True
        return False

    def _write(self, part: Part, keys: dict[str, str | None]) -> Iterator[tuple[AddAction, int]]:
        """New files with the part's rows in order, synced where they are local."""
        folder = "/".join(f"{key}={value}" for key, value in keys.items())
        run, number = f"run-{uuid.uuid4().hex}", 0
        chunks = self._chunks([f"{self._uri}/{path}" for path in part.paths])
        left = next(chunks, None)
        while left is not None:
            path, statistics = f"{folder}/{run}-{number}.zstd.parquet", Statistics(self._table)
            shape = left.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
            with (
                self._files.open_output_stream(path) as stream,
                pq.ParquetWriter(stream, shape, compression="zstd", write_page_index=True, store_schema=False) as file,
            ):
                while left is not None and statistics.rows < _FILE_ROWS:
                    file.write_table(left.to_arrow(compat_level=pl.CompatLevel.oldest()), row_group_size=ROW_GROUP)
                    statistics.add(left)
                    left = next(chunks, None)
            number += 1
            yield self._added(path, keys, statistics), statistics.rows

    def _added(self, path: str, keys: dict[str, str | None], statistics: Statistics) -> AddAction:
        if self._folder:
            sync_file(self._folder / path)
            sync_folder((self._folder / path).parent)
        size = self._files.get_file_info(path).size
        return AddAction(path, size, keys, int(time.time() * 1_000), False, statistics.json())

    def _chunks(self, files: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The rows in order, some symbols at a time."""
        rows = pl.scan_parquet(
            list(files),
            storage_options=self._options or None,
            schema=self._schema,
            missing_columns="insert",
            hive_partitioning=False,
            glob=False,
        )
        counts = rows.group_by("symbol").len().sort("symbol").collect()
        some: list[str | None] = []
        waiting = 0
        for symbol, count in counts.iter_rows():
            if some and waiting + count > _CHUNK_ROWS:
                yield self._sorted(rows, some)
                some, waiting = [], 0
            some.append(symbol)
            waiting += count
        if some:
            yield self._sorted(rows, some)

    def _sorted(self, rows: pl.LazyFrame, symbols: Sequence[str | None]) -> pl.DataFrame:
        found = rows.filter(pl.col("symbol").is_in(list(symbols), nulls_equal=True))
        return found.sort(self._table.order, maintain_order=True).collect()
