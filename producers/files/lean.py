"""QuantConnect Lean's tick files: one zip a day, ``…/tick/<symbol>/YYYYMMDD_quote.zip``, one CSV in it, no header.

A line is milliseconds since that day's midnight (they may have a fraction), bid, ask; the clock is the feed's own.
Source: https://github.com/QuantConnect/Lean/tree/master/Data/forex
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from producers.files.days import DAY_MS, Day, Malformed, TickDay, midnight, quotes
from schemas.errors import SourceError

_NAME: Final = re.compile(r"(\d{8})_quote\.zip", re.IGNORECASE)
_RESOLUTIONS: Final = frozenset({"second", "minute", "hour", "daily"})
_COLUMNS: Final = ("ms", "bid", "ask")
_SHOWN: Final = 80
_MOST_BYTES: Final = 1 << 30
"""More than a day of the busiest symbol has."""


def recognise(path: Path, symbol: str | None = None) -> TickDay | None:
    """The day that a file has, if it is one of these by its name; ``symbol`` replaces the name of the folder."""
    match = _NAME.fullmatch(path.name)
    if match is None or path.parent.parent.name.lower() in _RESOLUTIONS:
        return None
    if path.parent.parent.name.lower() != "tick" and symbol is None:
        return None
    try:
        day = datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return TickDay(path, symbol or path.parent.name.upper(), day, partial(read, path, day), path.parent.name)


def read(path: Path, day: date) -> Day:
    """The file's ticks. Raises SourceError when it cannot be read at all."""
    data = _csv(path)
    table, malformed = _quick(data), list[Malformed]()
    if table is None:
        table, malformed = _careful(path, data)
    moments = np.floor(table["ms"].to_numpy()).astype(np.int64) + midnight(day)
    return Day(quotes(moments, table["bid"].to_numpy(), table["ask"].to_numpy()), malformed)


def _csv(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                raise SourceError(f"{path} holds {len(names)} CSV files, not one")
            if archive.getinfo(names[0]).file_size > _MOST_BYTES:
                raise SourceError(f"{path} unpacks to more than {_MOST_BYTES >> 20} MB: this is no day of ticks")
            return archive.read(names[0])
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _quick(data: bytes) -> pl.DataFrame | None:
    """All lines at once; None if any of them is not a tick."""
    if not data.strip():
        return pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.Float64))
    try:
        table = pl.read_csv(
            io.BytesIO(data), has_header=False, schema=dict.fromkeys(_COLUMNS, pl.Float64), quote_char=None
        )
    except pl.exceptions.PolarsError:
        return None
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    good = pl.all_horizontal(pl.col(_COLUMNS).is_finite()) & pl.col("ms").is_between(0, DAY_MS, closed="left")
    return table if len(table) == lines and table.select(good.fill_null(value=False).all()).item() else None


def _careful(path: Path, data: bytes) -> tuple[pl.DataFrame, list[Malformed]]:
    """Line by line, to name those that are no tick."""
    rows: list[tuple[float, float, float]] = []
    malformed: list[Malformed] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        if not text.strip():
            continue
        try:
            rows.append(_parse(text))
        except ValueError as error:
            malformed.append(Malformed(path, number, text[:_SHOWN], str(error)))
    return pl.DataFrame(rows, schema=dict.fromkeys(_COLUMNS, pl.Float64), orient="row"), malformed


def _parse(line: str) -> tuple[float, float, float]:
    fields = line.split(",")
    if len(fields) != len(_COLUMNS):
        raise ValueError(f"{len(fields)} fields, not {len(_COLUMNS)}")
    try:
        if "_" in line:  # float() takes 1_000
            raise ValueError  # noqa: TRY301
        ms, bid, ask = map(float, fields)
    except ValueError:
        raise ValueError("not a number") from None
    if not (math.isfinite(ms) and math.isfinite(bid) and math.isfinite(ask)):
        raise ValueError("not a number")
    if not 0 <= ms < DAY_MS:
        raise ValueError("not a time of this day")
    return ms, bid, ask
