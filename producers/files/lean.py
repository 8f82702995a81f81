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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from producers.terminal import FLAG_ASK, FLAG_BID, TICK_DTYPE, Ticks
from schemas.errors import SourceError, UsageError

DAY_MS: Final = 86_400_000

_NAME: Final = re.compile(r"(\d{8})_quote\.zip", re.IGNORECASE)
_RESOLUTIONS: Final = frozenset({"second", "minute", "hour", "daily"})
_COLUMNS: Final = ("ms", "bid", "ask")
_MOST_DIGITS: Final = 8
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class TickFile:
    """One day of one symbol."""

    path: Path
    symbol: str
    day: date

    @property
    def midnight(self) -> int:
        """Its first moment by the feed's clock, written as if it were UTC; milliseconds."""
        return int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC).timestamp() * 1_000)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no tick."""

    path: Path
    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}: {self.text!r}"


@dataclass(frozen=True, slots=True)
class Day:
    """A file's ticks by the feed's clock, in order of time."""

    ticks: Ticks
    malformed: Sequence[Malformed]
    reordered: int
    """How many lines stood behind a later one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under some paths."""

    files: Sequence[TickFile]
    """By symbol, then by day."""
    ignored: Sequence[Path]
    """Zip files that are no quote ticks."""


def discover(paths: Iterable[Path], symbol: str | None = None) -> Found:
    """The tick files among ``paths`` and below them; ``symbol`` replaces the name of the folder.

    Raises UsageError for a path that is not there or is no tick file, and when there is none at all.
    """
    files: dict[Path, TickFile] = {}
    ignored: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
        for candidate in sorted(path.rglob("*.zip")) if path.is_dir() else [path]:
            file = _recognise(candidate, symbol)
            if file is not None:
                files[candidate.resolve()] = file
            elif path.is_dir():
                ignored.append(candidate)
            else:
                raise UsageError(f"{path} is no tick file: those are …/tick/<symbol>/YYYYMMDD_quote.zip")
    if not files:
        raise UsageError(f"no tick files (…/tick/<symbol>/YYYYMMDD_quote.zip) in {', '.join(map(str, paths))}")
    ordered = sorted(files.values(), key=lambda file: (file.symbol, file.day, str(file.path)))
    for first, second in pairwise(ordered):
        if (first.symbol, first.day) == (second.symbol, second.day):
            raise UsageError(f"{first.path} and {second.path} are the same day of {first.symbol}: import one of them")
    return Found(ordered, ignored)


def read(file: TickFile) -> Day:
    """The file's ticks. Raises SourceError when it cannot be read at all."""
    data = _csv(file.path)
    table, malformed = _quick(data), list[Malformed]()
    if table is None:
        table, malformed = _careful(file.path, data)
    moments = np.floor(table["ms"].to_numpy()).astype(np.int64)
    order = np.argsort(moments, kind="stable")
    ticks = np.zeros(len(moments), TICK_DTYPE)
    ticks["time_msc"] = moments[order] + file.midnight
    ticks["time"] = ticks["time_msc"] // 1_000
    ticks["bid"], ticks["ask"] = table["bid"].to_numpy()[order], table["ask"].to_numpy()[order]
    ticks["flags"] = FLAG_BID | FLAG_ASK
    behind = int((moments < np.maximum.accumulate(moments)).sum()) if len(moments) else 0
    return Day(ticks, malformed, behind)


def digits(prices: NDArray[np.float64]) -> int:
    """With how many decimals the prices were written."""
    for places in range(_MOST_DIGITS):
        scale = 10.0**places
        if np.array_equal(np.round(prices * scale) / scale, prices):
            return places
    return _MOST_DIGITS


def missing_days(files: Sequence[TickFile]) -> Iterator[tuple[TickFile, date]]:
    """Days of one symbol between its files that have none, each with the file after it."""
    for before, after in pairwise(files):
        for days in range(1, (after.day - before.day).days):
            yield after, before.day + timedelta(days=days)


def _recognise(path: Path, symbol: str | None) -> TickFile | None:
    match = _NAME.fullmatch(path.name)
    if match is None or path.parent.parent.name.lower() in _RESOLUTIONS:
        return None
    if path.parent.parent.name.lower() != "tick" and symbol is None:
        return None
    try:
        day = datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return TickFile(path, symbol or path.parent.name.upper(), day)


def _csv(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                raise SourceError(f"{path} holds {len(names)} CSV files, not one")
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
