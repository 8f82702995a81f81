"""What DuckDB answers: as a table for people, as text for programs, as a file. Times in UTC, numbers exact."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import polars as pl

from schemas.errors import StoreError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from infra.cli.lake import Format

SHOWN: Final = 100
_BATCH: Final = 50_000
_SUFFIXES: Final = (".parquet", ".csv", ".json")


def show(connection: duckdb.DuckDBPyConnection, sql: str, form: Format) -> None:
    """Print the answer. Raises UsageError for SQL that DuckDB refuses."""
    if form == "table":
        _table(connection, sql)
        return
    writer = _csv if form == "csv" else _json
    try:
        for text in writer(_batches(connection, sql)):
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()


def save(connection: duckdb.DuckDBPyConnection, sql: str, path: Path) -> int:
    """Write the answer into a file that appears when it is whole; how many rows. Raises UsageError, StoreError."""
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"--out {path}: give a name that ends in {', '.join(_SUFFIXES)}")
    beside = path.with_name(f"{path.name}.partial")
    try:
        rows = _parquet(connection, sql, beside) if path.suffix == ".parquet" else 0
        if path.suffix != ".parquet":
            rows = _text(_csv if path.suffix == ".csv" else _json, _batches(connection, sql), beside)
        beside.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return rows


def _text(writer: Callable[[Iterator[pl.DataFrame]], Iterator[str]], batches: Iterator[pl.DataFrame], to: Path) -> int:
    rows = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal rows
        for batch in batches:
            rows += batch.height
            yield batch

    with to.open("w", encoding="utf-8", newline="") as file:
        file.writelines(writer(counted()))
    return rows


def _parquet(connection: duckdb.DuckDBPyConnection, sql: str, to: Path) -> int:
    import pyarrow.parquet as pq

    rows = 0
    with _answering():
        reader = _reader(connection, sql)
        with pq.ParquetWriter(to, reader.schema, compression="zstd") as file:
            for batch in reader:
                file.write_batch(batch)
                rows += batch.num_rows
    return rows


def _batches(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[pl.DataFrame]:
    with _answering():
        reader = _reader(connection, sql)
        yield pl.DataFrame(reader.schema.empty_table())
        for batch in reader:
            yield pl.DataFrame(batch)


def _reader(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    answer = connection.sql(sql)
    if answer is None:
        raise UsageError("this SQL has no answer; ask with select")
    reader: pa.RecordBatchReader = answer.to_arrow_reader(_BATCH)
    return reader


def _csv(batches: Iterator[pl.DataFrame]) -> Iterator[str]:
    for number, batch in enumerate(batches):
        if number == 0 or batch.height:
            yield _readable(batch).write_csv(include_header=number == 0)


def _json(batches: Iterator[pl.DataFrame]) -> Iterator[str]:
    for batch in batches:
        if batch.height:
            yield _readable(batch).write_ndjson()


def _readable(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.with_columns(
        pl.col(name).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{'Z' if kind.time_zone else ''}")
        for name, kind in batch.schema.items()
        if isinstance(kind, pl.Datetime)
    )


def _table(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    with _answering():
        answer = connection.execute(sql)
        names = [name for name, *_ in answer.description or ()]
        rows = answer.fetchmany(SHOWN + 1) if names else []
    table = Table(*names, box=SIMPLE_HEAD)
    for row in rows[:SHOWN]:
        table.add_row(*map(_cell, row))
    console = Console()
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"the first {SHOWN} rows; all of them: --format csv, or --out FILE.parquet", style="dim")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        digits = "microseconds" if value.microsecond % 1_000 else "milliseconds"
        return f"{value.replace(tzinfo=None).isoformat(' ', digits)}{'Z' if value.tzinfo else ''}"
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return value.isoformat() if isinstance(value, date) else str(value)


@contextmanager
def _answering() -> Iterator[None]:
    """Turns DuckDB's refusals into a UsageError."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        raise UsageError(str(error).strip()) from error
