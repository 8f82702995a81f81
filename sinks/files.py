"""Files for people, spreadsheets and pipes, in the layout the first users know.

::

    ticks/EURUSD/2014-05-01.000012.csv       clean ticks of a symbol and a UTC day
    ohlcv/EURUSD/M1/2014-05-01.bars.000012.csv   bars, every revision: M by day, H by month, the rest by year
    ohlcv/EURUSD/M1/2014-05-01.rates.000012.csv  bars as the terminal itself reports them
    ohlcv/EURUSD/T%3A1000/2014-05-01.bars.000012.csv  tick, volume and value bars by day
    rejected/EURUSD/2014-05-01.000012.csv    ticks that did not pass, with the reason
    metadata/000012.json                     commit 12: what was ingested, when, from which offsets, where to

Each commit writes files of its own number, so a day is the sum of its files; none is ever changed. (Format 1 had the
terminal's bars in ``rates``, and no ``bars`` in a name; such files stay as they are.) Worlds other than
``main`` have a folder each in ``worlds``. Symbols are percent-encoded where a file system needs it; of two that
differ by case alone the second has every letter encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import polars as pl

from infra import logs, metrics
from infra.lake.layout import BARS, RATES, REJECTED, TICKS, Table
from infra.paths import encoded, encoded_apart
from infra.worlds import World
from sinks.journal import Journal, numbered
from sinks.sink import Batch, Source

FORMAT: Final = 2
_BARS: Final = (BARS, RATES)
_FOLDERS: Final = {TICKS.name: "ticks", REJECTED.name: "rejected", BARS.name: "ohlcv", RATES.name: "ohlcv"}

log = logs.logger(__name__)


@dataclass(frozen=True)
class Form:
    """How rows become the text of a file."""

    name: str
    """The sink's, and what its files' names end in."""
    text: Callable[[Table, pl.DataFrame], bytes]


class FileSink:
    """Ticks, rejected ticks and bars of one world in one folder of this machine."""

    tables: tuple[Table, ...] = (TICKS, REJECTED, BARS, RATES)

    def __init__(
        self, folder: Path, world: str, form: Form, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.name = form.name
        self._form = form
        self._journal = Journal(folder, frozenset(_FOLDERS.values()))
        self._world = world
        self._now = now
        self._recorded: dict[Source, int] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._rows: dict[Source, int] = {}
        self._open = False

    def positions(self, sources: Collection[Source]) -> dict[Source, int]:
        """See `Sink.positions`; takes the folder for this process."""
        self._load()
        return {source: self._recorded[source] for source in sources if source in self._recorded}

    def write(self, batch: Batch) -> None:
        """See `Sink.write`: one staged file for each symbol (and timeframe) and period."""
        if not self._open:
            self._load()
        table = batch.table
        rows = table.rows(batch.rows, self._world).with_columns(_period(table).alias("period"))
        topic = World(self._world).topic(table.topic.name)
        keys = ("symbol", "timeframe", "period") if table in _BARS else ("symbol", "period")
        for (symbol, *kind, period), part in rows.partition_by(*keys, as_dict=True, maintain_order=True).items():
            parent = _FOLDERS[table.name]
            folder = "/".join([parent, self._name(parent, str(symbol)), *(encoded(str(k)) for k in kind)])
            whose = f"{period}.{table.name}" if table in _BARS else period
            first, last = part.select(pl.col(table.time).min(), pl.col(table.time).max().alias("last")).row(0)
            self._journal.stage(
                f"{folder}/{whose}.{numbered(self._journal.next_number)}.{self._form.name}",
                self._form.text(table, part),
                source=topic,
                symbol=symbol,
                **{"from": _utc(first), "to": _utc(last)},
                rows=part.height,
            )
        counts = rows.group_by("source_partition").len()
        self._rows |= {Source(topic, number): count for number, count in counts.iter_rows()}

    def commit(self, offsets: Mapping[Source, int]) -> None:
        """See `Sink.commit`; the one record holds the offsets of all topics."""
        if not self._open:
            self._load()
        if all(self._recorded.get(source) == end for source, end in offsets.items()):
            self._forget()
            return
        moved = self._recorded | dict(offsets)
        self._open = False  # until the outcome is known
        files = self._journal.commit(
            {
                "format": FORMAT,
                "version": version("arbitrex"),
                "world": self._world,
                "committed_at": _utc(self._now()),
                "sources": [
                    {
                        **source._asdict(),
                        "from": self._recorded.get(source),
                        "to": end,
                        "rows": self._rows.get(source, 0),
                    }
                    for source, end in sorted(offsets.items())
                ],
                "positions": [{**source._asdict(), "next": end} for source, end in sorted(moved.items())],
            }
        )
        self._open = True
        metrics.SINK_FILES.labels(self.name).inc(files)
        self._recorded = moved
        self._forget()

    def close(self) -> None:
        """See `Sink.close`; another process may have the folder."""
        self._journal.close()
        self._open = False

    def _load(self) -> None:
        record = self._journal.open()
        self._recorded = {Source(p["topic"], p["partition"]): p["next"] for p in record["positions"]} if record else {}
        if record and record["format"] < FORMAT:
            log.info(
                "the terminal's bars go to ohlcv now; earlier files stay in rates", folder=str(self._journal.folder)
            )
        self._names = {}
        self._forget()
        self._open = True

    def _forget(self) -> None:
        self._rows = {}
        self._journal.discard()

    def _name(self, parent: str, symbol: str) -> str:
        """The symbol's folder: of those whose names differ by case alone, the first has the plain one."""
        if found := self._names.get((parent, symbol)):
            return found
        folder, name = self._journal.folder / parent, encoded(symbol)
        taken = {path.name for path in folder.iterdir()} if folder.exists() else set()
        taken |= {other for (where, _), other in self._names.items() if where == parent}
        if name not in taken and name.casefold() in {other.casefold() for other in taken}:
            name = encoded_apart(symbol)
        self._names[parent, symbol] = name
        return name


def _period(table: Table) -> pl.Expr:
    """The part of the time that a file's name begins with."""
    time = pl.col(table.time).dt
    if table not in _BARS:
        return time.to_string("%Y-%m-%d")
    unit = pl.col("timeframe").str.extract("^([A-Z]+)")
    return (
        pl.when((unit == "M") | pl.col("timeframe").str.contains(":", literal=True))
        .then(time.to_string("%Y-%m-%d"))
        .when(unit == "H")
        .then(time.to_string("%Y-%m"))
        .otherwise(time.to_string("%Y"))
    )


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
