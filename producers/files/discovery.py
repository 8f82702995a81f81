"""What tick files lie under some paths, of which format each is, and what it has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from producers.files import dukascopy, lean, parquet, text
from producers.files.days import TickDay, by_symbol, joined
from producers.files.layouts import BarsError, recognise
from producers.files.opening import head, tail
from producers.files.stream import Extent, month_or, tick_days
from producers.files.text import Layout
from schemas.errors import SourceError, UsageError

_SUFFIXES: Final = frozenset({".zip", ".csv", ".txt", ".gz", ".bi5", ".parquet", ".tsv"})
_PREFIX: Final = re.compile(r"^(DAT_ASCII_|HISTDATA_COM_ASCII_)", re.IGNORECASE)
_NAME: Final = re.compile(r"(\S+?)(?:[-_ ](?:T|ticks?))?(?:[-_ ]*(?:\d{4}|\d\d\.\d\d\.).*)?", re.IGNORECASE)
_MONTH: Final = re.compile(r"(?<!\d)((?:19|20)\d\d)-?(0[1-9]|1[0-2])(?!\d)")
_MONTHLY: Final = frozenset({"histdata", "truefx"})
_FORMATS: Final = (
    "MetaTrader's tick exports, Dukascopy (.bi5 and CSV), HistData, TrueFX, Lean, and CSV or Parquet with columns for "
    "time, bid and ask"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the files are to be taken."""

    symbol: str | None = None
    """Instead of what names and lines say."""
    digits: int | None = None
    """Decimals of the prices, where the files do not say."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns by what they mean, where they are not the usual ones."""


@dataclass(slots=True)
class Found:
    """What lies there."""

    days: Sequence[TickDay]
    """By symbol, then by day."""
    formats: Mapping[str, int]
    """How many files of each."""
    ignored: Sequence[Path]
    """Files of folders that are no ticks."""
    zone: str | None
    """The clock, where the files or their format say it."""


def discover(paths: Iterable[Path], wanted: Wanted | None = None) -> Found:
    """The tick files among ``paths`` and below them.

    Raises UsageError for a path that is not there or is no tick file, when there is none at all, and when two have the
    same ticks or other clocks; SourceError for one that cannot be read.
    """
    wanted, paths = wanted or Wanted(), list(paths)
    found, ignored = _Found(wanted), list[Path]()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
        for candidate in _below(path) if path.is_dir() else [path]:
            if not found.take(candidate, named=not path.is_dir()):
                ignored.append(candidate)
    if not found.formats:
        raise UsageError(f"no tick files in {', '.join(map(str, paths))}: those are {_FORMATS}")
    if len(found.zones) > 1:
        said = "; ".join(f"{clock or 'not said'}: {path}" for clock, path in found.zones.items())
        raise UsageError(
            f"the files have different clocks ({said}): import them one after another, each into its world"
        )
    (zone,) = found.zones
    return Found(found.days(), found.formats, ignored, zone)


class _Found:
    """Files taken so far."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._seen: set[Path] = set()
        self._whole: list[TickDay] = []
        self._parts: list[TickDay] = []
        self._hours: list[Path] = []
        self.formats: Counter[str] = Counter()
        self.zones: dict[str | None, Path] = {}

    def days(self) -> list[TickDay]:
        hours = dukascopy.tick_days(self._hours, self._wanted.symbol, self._wanted.digits)
        return by_symbol([*self._whole, *hours, *joined(self._parts)])

    def take(self, path: Path, *, named: bool) -> bool:
        """Take a file; False when it is none of ticks, which is an error for one that was ``named``."""
        if path.resolve() in self._seen:
            return True
        self._seen.add(path.resolve())
        if day := lean.recognise(path, self._wanted.symbol):
            self._whole.append(day)
            return self._say("QuantConnect Lean ticks", None, path)
        if dukascopy.is_hour(path):
            self._hours.append(path)
            return self._say("Dukascopy hours (.bi5)", "UTC", path)
        try:
            if self._take_stream(path):
                return True
        except BarsError:
            if named:
                raise
        if named:
            raise UsageError(f"{path} is no tick file: those are {_FORMATS}")
        return False

    def _take_stream(self, path: Path) -> bool:
        first = head(path)
        if first[:4] == parquet.MAGIC:
            columns = parquet.survey(path, self._wanted.columns)
            if columns is None:
                return False
            if path.stat().st_size:
                span = parquet.edges(path, columns)
                extent = self._extent(path, columns.symbol, (span[0], span[1] + 1))
                self._parts += tick_days(path, extent, partial(parquet.read, path, columns))
            return self._say(columns.title, columns.zone, path)
        layout = recognise(path, first.decode("utf-8", "replace"), self._wanted.columns)
        if layout is None:
            return False
        extent = self._extent(path, layout.symbol, _span(path, layout, first))
        self._parts += tick_days(path, extent, partial(text.read, path, layout))
        return self._say(layout.title, layout.zone, path)

    def _extent(self, path: Path, named: str | None, span: tuple[int, int]) -> Extent:
        name = named or _symbol_of(path)
        plain = name.replace("/", "")
        return Extent(self._wanted.symbol or (plain.upper() if plain.islower() else plain), name, span)

    def _say(self, title: str, zone: str | None, path: Path) -> bool:
        self.formats[title] += 1
        self.zones.setdefault(zone, path)
        return True


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES and path.is_file())


def _span(path: Path, layout: Layout, first: bytes) -> tuple[int, int]:
    lines = first.decode("utf-8", "replace").split("\n")
    begin = text.some_line(path, layout, lines[1:] if layout.header else lines)
    last = text.some_line(path, layout, tail(path).decode("utf-8", "replace").split("\n"), last=True)
    if last < begin:
        raise SourceError(f"{path} is out of order: its last tick is before its first; sort its lines by time")
    month = _MONTH.search(path.stem) if layout.format in _MONTHLY else None
    return month_or(begin, last, (int(month[1]), int(month[2])) if month else None)


def _symbol_of(path: Path) -> str:
    """The symbol in a file's name: what comes before its dates. Raises UsageError when there is none."""
    stem = _PREFIX.sub("", Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem)
    match = _NAME.fullmatch(stem)
    if match is None:
        raise UsageError(f"{path}: neither its name nor its lines say which symbol this is: give --symbol")
    return match[1]
