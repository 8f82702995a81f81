"""Dukascopy's hours of ticks: ``…/EURUSD/2014/04/01/13h_ticks.bi5``; the month counts from 00, times are UTC.

LZMA over rows of 20 bytes, big endian: milliseconds of the hour, ask and bid in points, their volumes. A file of 0
bytes is an hour without ticks. The volumes are what was offered, not traded, and are left out.
Source: https://datafeed.dukascopy.com, as described in https://github.com/ninety47/dukascopy
"""

from __future__ import annotations

import lzma
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from producers.files.days import Day, Malformed, Span, TickDay, midnight, quotes
from producers.terminal import TICK_DTYPE, Ticks
from schemas.errors import SourceError, UsageError

HOUR_MS: Final = 3_600_000

_NAME: Final = re.compile(r"(\d\d)h_ticks\.bi5", re.IGNORECASE)
_ROW: Final = np.dtype([("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_volume", ">f4"), ("bid_volume", ">f4")])
_MOST_BYTES: Final = HOUR_MS * _ROW.itemsize
"""A tick each millisecond."""
_PAIR: Final = re.compile(r"[A-Z]{6}")
_THREE: Final = ("JPY", "RUB", "XAU", "XAG")
_USUAL: Final = 5


def is_hour(path: Path) -> bool:
    """Whether a file has the name of an hour of ticks."""
    return _NAME.fullmatch(path.name) is not None


def tick_days(paths: Iterable[Path], symbol: str | None, digits: int | None) -> Iterator[TickDay]:
    """The days to which hours belong; ``digits``: decimals of the prices. Raises UsageError."""
    hours: dict[tuple[str, str, date], dict[int, Path]] = defaultdict(dict)
    for path in paths:
        name, day, hour = _place(path)
        known = hours[symbol or name.upper(), name, day].setdefault(hour, path)
        if known != path:
            raise UsageError(f"{known} and {path} are the same hour of {name}: import one of them")
    for (canonical, name, day), files in sorted(hours.items()):
        ordered = [files[hour] for hour in sorted(files)]
        load = partial(
            _load, day, dict(sorted(files.items())), 10 ** (decimals(name.upper()) if digits is None else digits)
        )
        yield TickDay(ordered[0], canonical, day, load, name, _spans(day, sorted(files)))


def decimals(name: str) -> int:
    """How many decimals of an instrument's prices are in the integers. Raises UsageError when it is not known."""
    if any(part in name for part in _THREE):
        return 3
    if _PAIR.fullmatch(name) and not name.startswith(("BTC", "ETH", "LTC")):
        return _USUAL
    raise UsageError(
        f"how many decimals Dukascopy's prices of {name} have is not in its files: give --digits (1 for BTCUSD, 3 for "
        "most indices and commodities)"
    )


def decode(path: Path, hour: int, scale: int) -> Day:
    """One hour's ticks; ``hour``: its first moment, ``scale``: points in 1. Raises SourceError."""
    data = _unpacked(path)
    if len(data) % _ROW.itemsize:
        raise SourceError(f"{path} is cut short, or no hour of ticks: {len(data)} bytes are no rows of {_ROW.itemsize}")
    rows = np.frombuffer(data, _ROW)
    late = rows["ms"] >= HOUR_MS
    malformed = [
        Malformed(path, int(row) + 1, f"{rows['ms'][row]} ms", "not a time of this hour")
        for row in np.flatnonzero(late)
    ]
    good = rows[~late]
    return Day(
        quotes(hour + good["ms"].astype(np.int64), good["bid"] / float(scale), good["ask"] / float(scale)), malformed
    )


def _load(day: date, files: dict[int, Path], scale: int) -> Day:
    read = [decode(path, midnight(day) + hour * HOUR_MS, scale) for hour, path in files.items()]
    empty: Ticks = np.zeros(0, TICK_DTYPE)
    return Day(
        np.concatenate([empty, *(part.ticks for part in read)]), [line for part in read for line in part.malformed]
    )


def _unpacked(path: Path) -> bytes:
    try:
        packed = path.read_bytes()
        if not packed:
            return b""
        unpacker = lzma.LZMADecompressor()
        data = unpacker.decompress(packed, _MOST_BYTES + 1)
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise SourceError(f"{path} cannot be read: {error}; fetch it again") from error
    if len(data) > _MOST_BYTES:
        raise SourceError(f"{path} unpacks to more than an hour can have: this is no hour of ticks")
    if not unpacker.eof:
        raise SourceError(f"{path} is cut short; fetch it again")
    return data


def _place(path: Path) -> tuple[str, date, int]:
    """Symbol, day and hour of a file. Raises UsageError when its folders do not say them."""
    match = _NAME.fullmatch(path.name)
    try:
        symbol, year, month, day = path.resolve().parts[-5:-1]
        hour = int(match[1]) if match else -1
        if not 0 <= hour < 24:  # noqa: PLR2004 - hours of a day
            raise ValueError  # noqa: TRY301
        return symbol, date(int(year), int(month) + 1, int(day)), hour
    except ValueError as error:
        raise UsageError(
            f"{path}: symbol and day of an hour of ticks are in its folders, …/EURUSD/2014/04/01/13h_ticks.bi5 (the "
            "month from 00 on); keep them"
        ) from error


def _spans(day: date, hours: Sequence[int]) -> tuple[Span, ...]:
    """The spans of a day that ``hours``, rising, make up."""
    spans: list[Span] = []
    for hour in hours:
        start = midnight(day) + hour * HOUR_MS
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], start + HOUR_MS)
        else:
            spans.append((start, start + HOUR_MS))
    return tuple(spans)
