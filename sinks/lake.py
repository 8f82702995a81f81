"""The lake: Delta tables, on a local disk or in S3.

Every commit carries an application transaction for each source partition whose version is the next offset, so rows
and offsets are one. One handle serves all commits of a table: Delta refuses a commit when another runner's has
touched the same transactions since that handle's version.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import SchemaMismatchError

from infra import logs, metrics
from infra.lake.layout import PARTITIONED_BY, ROW_GROUP, TABLES, Table
from infra.lake.storage import StorageOptions, local_folder, revealed
from infra.lake.tables import app_id, open_table, table_uri
from infra.worlds import World
from schemas.errors import ComponentError, FencedError, StoreError
from sinks.delta_files import LocalFiles
from sinks.sink import Batch, Source

_CONFIGURATION: Final = {"delta.checkpointInterval": "100", "delta.logRetentionDuration": "interval 1 days"}

log = logs.logger(__name__)


class LakeSink:
    """Tables of one world; those that are not written are left alone."""

    name = "lake"

    def __init__(
        self, uri: str, options: StorageOptions | None, world: str, tables: tuple[Table, ...] = TABLES
    ) -> None:
        self.tables = tables
        self._by_topic = {
            World(world).topic(table.topic.name): _TableWriter(uri, options, world, table) for table in tables
        }

    def positions(self, sources: Collection[Source]) -> dict[Source, int]:
        """See `Sink.positions`; creates tables that are not there."""
        found: dict[Source, int] = {}
        for topic, writer in self._by_topic.items():
            partitions = [source.partition for source in sources if source.topic == topic]
            found |= {Source(topic, number): end for number, end in writer.open(partitions).items() if end}
        return found

    def write(self, batch: Batch) -> None:
        """See `Sink.write`."""
        next(writer for writer in self._by_topic.values() if writer.table is batch.table).write(batch.rows)

    def commit(self, offsets: Mapping[Source, int]) -> None:
        """See `Sink.commit`; one Delta commit for each table that has something new."""
        for topic, writer in self._by_topic.items():
            ends = {source.partition: end for source, end in offsets.items() if source.topic == topic}
            if ends:
                writer.commit(ends)

    def close(self) -> None:
        """See `Sink.close`."""
        for writer in self._by_topic.values():
            writer.close()


class _TableWriter:
    """One table's only handle in this runner."""

    def __init__(self, uri: str, options: StorageOptions | None, world: str, table: Table) -> None:
        self.table = table
        self._uri = uri
        self._options = options
        self._world = world
        self._handle: DeltaTable | None = None
        self._known: dict[int, int] = {}
        folder = local_folder(table_uri(uri, table))
        self._files = LocalFiles(folder, table) if folder else None
        self._rows: pl.DataFrame | None = None

    def open(self, partitions: Collection[int]) -> dict[int, int]:
        """What the table says of these partitions; 0 where it says nothing."""
        self._discard()
        self._load()
        self._known = self._recorded(partitions)
        return self._known

    def write(self, rows: pl.DataFrame) -> None:
        """On a local disk the files themselves, synced; else the rows are kept until the commit."""
        self._discard()
        self._rows = self.table.rows(rows, self._world)
        if self._files:
            try:
                self._files.write(self._rows)
            except OSError as error:
                raise StoreError(f"the lake table {self.table.name} cannot be written: {error}") from error

    def commit(self, ends: Mapping[int, int]) -> None:
        """One Delta commit of the rows and the ends; checked and written on the same handle."""
        handle = self._handle or self._load()
        if not self._landed(ends):
            properties = CommitProperties(
                app_transactions=[
                    Transaction(app_id(self._world, self.table, number), end) for number, end in ends.items()
                ]
            )
            try:
                self._append(handle, properties)
            except SchemaMismatchError as error:
                raise ComponentError(f"the lake table {self.table.name} has other columns: {error}") from error
            except Exception as error:  # outcome unknown: the table knows
                self._handle = None
                self._load()
                if not self._landed(ends):
                    raise StoreError(f"the lake table {self.table.name} was not written: {error}") from error
            else:
                self._after_commit(handle)
        self._known |= ends
        self._discard()

    def close(self) -> None:
        """Let the handle go."""
        self._discard()
        self._handle = None

    def _append(self, handle: DeltaTable, properties: CommitProperties) -> None:
        if self._files:
            self._files.commit(handle, properties)
        elif self._rows is None:
            handle.create_write_transaction(
                [], "append", handle.schema(), list(PARTITIONED_BY), commit_properties=properties
            )
        else:
            write_deltalake(
                handle,
                self._rows.rechunk().to_arrow(),
                mode="append",
                writer_properties=WriterProperties(compression="ZSTD", max_row_group_size=ROW_GROUP),
                commit_properties=properties,
            )
        if self._rows is not None:
            metrics.SINK_FILES.labels(LakeSink.name).inc(self._rows["date"].n_unique())

    def _after_commit(self, handle: DeltaTable) -> None:
        """The commit is there: what fails from here on only costs a reload."""
        try:
            before = handle.version()
            handle.update_incremental()
            if self._files:
                self._files.secure(handle, before)
        except Exception as error:  # noqa: BLE001 - whatever it was, a fresh handle sees the commit
            log.warning("lake table reopened", table=self.table.name, error=str(error))
            self._handle = None

    def _landed(self, ends: Mapping[int, int]) -> bool:
        """Whether the table already says what this commit would say. Raises FencedError if it says a third thing."""
        recorded = self._recorded(ends)
        if recorded == dict(ends):
            return True
        for number, end in recorded.items():
            if end != self._known.get(number, 0):
                raise FencedError(
                    f"another sink has taken over {app_id(self._world, self.table, number)}: the lake is at {end}, "
                    f"this one left it at {self._known.get(number, 0)}"
                )
        return False

    def _recorded(self, partitions: Collection[int]) -> dict[int, int]:
        handle = self._handle or self._load()
        return {
            number: handle.transaction_version(app_id(self._world, self.table, number)) or 0 for number in partitions
        }

    def _load(self) -> DeltaTable:
        if self._files:
            self._files.repair()
        handle = open_table(self._uri, self._options, self.table) or self._create()
        wanted = Schema.from_arrow(pl.DataFrame(schema=self.table.schema).to_arrow().schema)
        present = {field.name for field in handle.schema().fields}
        if missing := [field for field in wanted.fields if field.name not in present]:
            self._attempt("given new columns", lambda: handle.alter.add_columns(missing))
        self._handle = handle
        return handle

    def _create(self) -> DeltaTable:
        def create() -> DeltaTable:
            return DeltaTable.create(
                table_uri(self._uri, self.table),
                pl.DataFrame(schema=self.table.schema).to_arrow().schema,
                mode="ignore",
                partition_by=list(PARTITIONED_BY),
                configuration={**_CONFIGURATION, "delta.dataSkippingStatsColumns": ",".join(self.table.indexed)},
                storage_options=revealed(self._options),
            )

        self._attempt("created", create)
        handle = open_table(self._uri, self._options, self.table)
        if handle is None:
            raise StoreError(f"the lake table {table_uri(self._uri, self.table)} is gone again")
        return handle

    def _attempt(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # deltalake raises several
            raise StoreError(f"the lake table {table_uri(self._uri, self.table)} cannot be {what}: {error}") from error

    def _discard(self) -> None:
        self._rows = None
        if self._files:
            self._files.discard()
