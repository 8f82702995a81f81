"""Parquet files with named columns, a row group's worth at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from producers.files.days import Malformed, quotes
from producers.files.layouts import meanings
from producers.files.text import FLAG_LAST, FLAG_VOLUME, Block
from producers.files.times import TimeForm, find_form
from schemas.errors import SourceError

_ROWS: Final = 500_000
_SHOWN: Final = 80
_EARLIEST: Final = 0
_LATEST: Final = 4_102_444_800_000
MAGIC: Final = b"PAR1"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a file mean what."""

    names: Mapping[str, str]
    """By what they mean."""
    form: TimeForm | None
    """How the time is written; None: it is a moment or a reading of a clock already."""
    zone: str | None
    symbol: str | None

    @property
    def title(self) -> str:
        return f"Parquet with the columns {', '.join(self.names.values())}"


def survey(path: Path, columns: Mapping[str, str]) -> Columns | None:
    """What a file's columns mean; None when they are no ticks. Raises SourceError, and UsageError for ``columns``."""
    try:
        file = pq.ParquetFile(path)
        names: list[str] = file.schema_arrow.names
        places = meanings(names, columns)
        if not {"time", "bid", "ask"} <= places.keys() or "date" in places:
            return None
        found = {meaning: names[place] for meaning, place in places.items()}
        batch = next(file.iter_batches(1, columns=list(found.values())), None)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    kind = file.schema_arrow.field(found["time"]).type
    row = {} if batch is None or not batch.num_rows else batch.to_pylist()[0]
    symbol = str(row[found["symbol"]]) if row and "symbol" in found else None
    if pa.types.is_timestamp(kind):
        return Columns(found, None, "UTC" if kind.tz else None, symbol)
    form = find_form(str(row.get(found["time"]))) if row else TimeForm(absolute=True)
    return Columns(found, form, "UTC" if form.absolute else None, symbol) if form else None


def read(path: Path, columns: Columns) -> Iterator[Block]:
    """The file's blocks. Raises SourceError."""
    first = 1
    try:
        for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=list(columns.names.values())):
            frame = cast("pl.DataFrame", pl.from_arrow(batch))
            yield _block(path, frame, columns, first)
            first += len(frame)
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def edges(path: Path, columns: Columns) -> tuple[int, int]:
    """When its first and its last tick were. Raises SourceError when it has none."""
    first = last = None
    for block in read(path, columns):
        times = block.ticks["time_msc"]
        if len(times):
            first, last = int(times[0]) if first is None else first, int(times[-1])
    if first is None or last is None:
        raise SourceError(f"{path} has no tick in it")
    return first, last


def _block(path: Path, frame: pl.DataFrame, columns: Columns, first: int) -> Block:
    names = columns.names
    column = pl.col(names["time"])
    if columns.form is None:
        time = column.dt.epoch("ms")
    elif columns.form.pattern:
        time = columns.form.milliseconds(column)
    else:
        time = columns.form.milliseconds(column.cast(pl.String))
    numbers = [name for name in ("bid", "ask", "last", "volume", "flags") if name in names]
    read = frame.select(
        time.alias("time"), *(pl.col(names[name]).cast(pl.Float64, strict=False).alias(name) for name in numbers)
    )
    finite = pl.all_horizontal(pl.col(name).is_finite().fill_null(value=False) for name in ("bid", "ask"))
    foreign = (
        (frame[names["symbol"]].cast(pl.String) != columns.symbol).fill_null(value=True)
        if "symbol" in names
        else pl.Series([False]).new_from_index(0, len(frame))
    )
    reasons = read.select(
        pl.when(~pl.col("time").is_between(_EARLIEST, _LATEST, closed="left").fill_null(value=False))
        .then(pl.lit("not a time"))
        .when(~finite)
        .then(pl.lit("not a number"))
        .when(foreign)
        .then(pl.lit(f"not of {columns.symbol}"))
        .alias("reason")
    )["reason"]
    malformed = [
        Malformed(path, first + row, ",".join(map(str, frame.row(row)))[:_SHOWN], str(reasons[row]))
        for row in reasons.is_not_null().arg_true().to_list()
    ]
    good = read.filter(reasons.is_null())
    ticks = quotes(good["time"].to_numpy(), good["bid"].to_numpy(), good["ask"].to_numpy())
    if "last" in names:
        ticks["last"] = good["last"].fill_null(0.0).fill_nan(0.0).to_numpy()
        ticks["flags"] |= np.where(ticks["last"] > 0, FLAG_LAST, 0).astype(np.uint32)
    if "volume" in names:
        ticks["volume_real"] = good["volume"].fill_null(0.0).fill_nan(0.0).to_numpy()
        ticks["volume"] = np.maximum(ticks["volume_real"], 0).astype(np.uint64)
        traded = (ticks["last"] > 0) & (ticks["volume_real"] > 0)
        ticks["flags"] |= np.where(traded, FLAG_VOLUME, 0).astype(np.uint32)
    if "flags" in names:
        written = good["flags"].fill_null(-1.0).fill_nan(-1.0).to_numpy()
        ticks["flags"] = np.where((written >= 0) & (written < 2**32), written, ticks["flags"]).astype(np.uint32)
    return Block(ticks, malformed)
