"""Lines of text as ticks, a block at a time; what is no tick is named."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from producers.files.days import Malformed
from producers.files.opening import blocks
from producers.files.times import TimeForm
from producers.terminal import FLAG_ASK, FLAG_BID, TICK_DTYPE, Ticks
from schemas.errors import SourceError

FLAG_LAST: Final = 0x08
FLAG_VOLUME: Final = 0x10

_SHOWN: Final = 80
AROUND: Final = " \t\"'"
"""What may stand around a field."""
_NAMED: Final = 1_000
"""Malformed lines of a block that are kept with their text."""
_EARLIEST: Final = 0
_LATEST: Final = 4_102_444_800_000
"""1970 and 2100."""
_PRICES: Final = ("bid", "ask", "last")
_NUMBERS: Final = (*_PRICES, "volume", "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a file's lines mean."""

    format: str
    """The name of the format, and what people call it."""
    title: str
    separator: str
    columns: Mapping[str, int] = field(hash=False)
    """Which field of a line is ``date``, ``time``, ``bid``, ``ask``, ``last``, ``volume``, ``flags``, ``symbol``."""
    fields: tuple[int, int]
    """The least and the most fields of a line."""
    time: TimeForm
    header: bool = False
    zone: str | None = None
    """The clock, where the format or its times say it."""
    symbol: str | None = None
    """As the file's lines call it; in each of them where there is such a column."""
    carried: bool = False
    """An empty price is the one before it."""


@dataclass(slots=True)
class Block:
    """Some lines of a file, in their order."""

    ticks: Ticks
    malformed: list[Malformed]


def read(path: Path, layout: Layout) -> Iterator[Block]:
    """The file's blocks. Raises SourceError when it cannot be read."""
    number, known = 1, dict.fromkeys(_PRICES, 0.0)
    for lines in blocks(path):
        skipped = 1 if layout.header and number == 1 else 0
        yield parse(path, lines[skipped:], number + skipped, layout, known)
        number += len(lines)


def parse(path: Path, lines: list[str], first: int, layout: Layout, known: dict[str, float]) -> Block:
    """Lines, the first of number ``first``, as ticks; ``known``: the latest prices, which it moves on."""
    parts = (
        pl.LazyFrame({"text": lines}, schema={"text": pl.String})
        .with_columns(pl.col("text").str.strip_chars_end("\r"))
        .with_row_index("line", first)
        .filter(pl.col("text").str.strip_chars() != "")
        .with_columns(pl.col("text").str.split(layout.separator).alias("parts"))
        .select("line", "text", pl.col("parts").list.len().alias("count"), *_fields(layout))
    )
    frame = (
        parts.with_columns(
            _time(layout).alias("ms"),
            *(pl.col(name).cast(pl.Float64, strict=False).alias(f"{name}_number") for name in _NUMBERS),
        )
        .with_columns(_reason(layout).alias("reason"))
        .collect()
    )
    wrong = frame.filter(pl.col("reason").is_not_null())
    malformed = [
        Malformed(path, line, text[:_SHOWN], reason)
        for line, text, reason in wrong.select("line", "text", "reason").iter_rows()
    ]
    return Block(_ticks(frame.filter(pl.col("reason").is_null()), layout, known), malformed)


def _fields(layout: Layout) -> Iterator[pl.Expr]:
    for name in ("date", "time", *_NUMBERS, "symbol"):
        if name in layout.columns:
            yield pl.col("parts").list.get(layout.columns[name], null_on_oob=True).str.strip_chars(AROUND).alias(name)
        else:
            yield pl.lit(None, pl.String).alias(name)


def _time(layout: Layout) -> pl.Expr:
    text = pl.concat_str("date", "time", separator=" ") if "date" in layout.columns else pl.col("time")
    return layout.time.milliseconds(text)


def _reason(layout: Layout) -> pl.Expr:
    """Why a line is no tick; null when it is one."""
    least, most = layout.fields
    wanted = str(least) if least == most else f"{least} to {most}"
    needed = [] if layout.carried else ["bid", "ask"]
    numbers = [name for name in _NUMBERS if name in layout.columns]
    given = [pl.col(name).fill_null("") != "" for name in numbers]
    bad = [
        empty_not & ~pl.col(f"{name}_number").is_finite().fill_null(value=False)
        for name, empty_not in zip(numbers, given, strict=True)
    ]
    missing = [pl.col(name).fill_null("") == "" for name in needed]
    foreign = (
        (pl.col("symbol") != layout.symbol).fill_null(value=True) if "symbol" in layout.columns else pl.lit(value=False)
    )
    nothing = pl.all_horizontal(pl.col(name).fill_null("") == "" for name in _PRICES)
    return (
        pl.when(~pl.col("count").is_between(least, most))
        .then(pl.format(f"{{}} fields, not {wanted}", "count"))
        .when(pl.col("ms").is_null())
        .then(pl.lit("not a time"))
        .when(~pl.col("ms").is_between(_EARLIEST, _LATEST, closed="left"))
        .then(pl.lit("a time before 1970 or after 2099"))
        .when(reduce(operator.or_, [*bad, *missing], pl.lit(value=False)))
        .then(pl.lit("not a number"))
        .when(nothing)
        .then(pl.lit("no price"))
        .when(foreign)
        .then(pl.lit(f"not of {layout.symbol}"))
    )


def _ticks(frame: pl.DataFrame, layout: Layout, known: dict[str, float]) -> Ticks:
    ticks = np.zeros(len(frame), TICK_DTYPE)
    ticks["time_msc"] = frame["ms"].to_numpy()
    ticks["time"] = ticks["time_msc"] // 1_000
    given = {name: frame[f"{name}_number"].is_not_null().to_numpy() for name in (*_PRICES, "volume")}
    for name in _PRICES:
        prices = frame[f"{name}_number"]
        filled = (
            prices.fill_null(strategy="forward").fill_null(known[name]) if layout.carried else prices.fill_null(0.0)
        )
        ticks[name] = filled.to_numpy()
        if len(filled):
            known[name] = float(filled[-1])
    ticks["volume_real"] = frame["volume_number"].fill_null(0.0).to_numpy()
    ticks["volume"] = np.maximum(ticks["volume_real"], 0).astype(np.uint64)
    traded = given["last"] & (ticks["last"] > 0)
    seen = (
        np.where(given["bid"], FLAG_BID, 0)
        | np.where(given["ask"], FLAG_ASK, 0)
        | np.where(traded, FLAG_LAST, 0)
        | np.where(traded & (ticks["volume_real"] > 0), FLAG_VOLUME, 0)
    ).astype(np.uint32)
    written = frame["flags_number"].fill_null(-1.0).to_numpy()
    ticks["flags"] = np.where((written >= 0) & (written < 2**32), written, seen).astype(np.uint32)
    return ticks


def some_line(path: Path, layout: Layout, lines: list[str], *, last: bool = False) -> int:
    """When the first tick of ``lines`` was, or the ``last``. Raises SourceError when none of them is one."""
    found = parse(path, lines, 1, layout, dict.fromkeys(_PRICES, 0.0))
    if not len(found.ticks):
        why = f": {found.malformed[0].reason}: {found.malformed[0].text!r}" if found.malformed else ""
        raise SourceError(
            f"{path} was taken for {layout.title}, but none of its {'last' if last else 'first'} lines is a tick{why}"
        )
    return int(found.ticks["time_msc"][-1 if last else 0])
