"""A world proved: every partition's ticks found again, its bars derived and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import polars as pl

from infra import topics
from infra.kafka import partition_for
from infra.market.counts import is_count
from infra.proof.comparing import RECORD_KEY, TERMINAL, Book, Comparison
from infra.proof.counts import CountBook
from infra.proof.derivation import KEY
from infra.proof.matching import IDENTITY, TICK, Account, Matching
from infra.proof.partition import Part, Partition, Terrain
from infra.proof.reading import Reader
from infra.settings import Settings
from schemas.columns import dtypes
from schemas.errors import UsageError
from schemas.records import EventKind, LiveBars

FOREVER: Final = 2**62
_SKEW_MS: Final = 60_000
"""Series of a partition may be so far apart in the log."""
_TICK_TOPICS: Final = (topics.TICKS_RAW, topics.TICKS_CLEAN, topics.TICKS_REJECTED, topics.DEAD_LETTERS, topics.BARS)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is asked for: bars within [from_, to), UTC milliseconds, of ``symbols`` (none: all)."""

    from_: int = 0
    to: int = FOREVER
    symbols: tuple[str, ...] = ()

    @property
    def keys(self) -> list[bytes] | None:
        """The symbols as record keys."""
        return [symbol.encode() for symbol in self.symbols] or None


@dataclass(slots=True)
class Report:
    """What came out."""

    account: Account = field(default_factory=Account)
    bars: Comparison = field(default_factory=Comparison)
    rates: Comparison | None = None
    """Where the terminal's own bars differ, if the world has any; that is no fault of the log's."""
    foreign: list[str] = field(default_factory=list)
    """What stands in the topics and is not theirs."""
    unprocessed: int = 0
    """Records of ``ticks.raw`` that the processor has not come to."""
    since: dict[int, int] = field(default_factory=dict)
    """By partition, from which moment on the ticks are still there, where older ones are gone."""

    @property
    def proved(self) -> bool:
        """Whether everything is as it should be."""
        return not (self.account.wrong or self.bars.wrong or self.foreign)


def records_to_read(reader: Reader, scope: Scope) -> int:
    """About how many records `verify` will read."""
    every = [reader.extents(topic) for topic in _TICK_TOPICS]
    numbers = partitions(len(every[0]), scope)
    return sum(extents[number][1] - extents[number][0] for extents in every for number in numbers)


def partitions(count: int, scope: Scope) -> list[int]:
    """The partitions of the scope's symbols."""
    return sorted({partition_for(symbol, count) for symbol in scope.symbols}) or list(range(count))


def verify(settings: Settings, reader: Reader, scope: Scope, *, with_rates: bool) -> Report:
    """Prove the world's bars, one partition after the other.

    Raises UsageError when nothing was processed yet, BrokerError, RegistryError, and StoppedError when asked to stop.
    """
    progress = reader.progress()
    extents = reader.extents(topics.TICKS_RAW)
    if not progress:
        raise UsageError(f"world {settings.world}: no processor has been here yet, so there is nothing to verify")
    report = Report(rates=Comparison() if with_rates else None)
    for number in partitions(len(extents), scope):
        low, high = extents[number]
        reached = progress.get(number, 0)
        report.unprocessed += max(0, high - max(reached, low))
        proof = Proof(settings, reader, number, scope, reached)
        proof.compare(report)
    report.foreign = reader.foreign
    return report


class Proof:
    """One partition's proof."""

    def __init__(self, settings: Settings, reader: Reader, number: int, scope: Scope, reached: int) -> None:
        """``reached``: the offset up to which ``ticks.raw`` is processed; what came of later records is left out."""
        self._reader = reader
        self._number = number
        self._scope = scope
        self._reached = reached
        self._low = reader.extents(topics.TICKS_RAW)[number][0]
        self._live = {
            symbol: live for symbol, live in reader.live(number).items() if not scope.symbols or symbol in scope.symbols
        }
        bars = reader.bars(topics.BARS, number, scope.keys)
        within = (pl.col("ts_open") >= scope.from_) & (pl.col("ts_close") <= scope.to)
        found = bars.filter(within & (pl.col("cause") < reached))
        self.found: Final = found.filter(pl.col("day").is_null())
        """The timeframes' bars there are."""
        self._newer = bars.filter(pl.col("cause") >= reached).select(RECORD_KEY).to_series().to_list()
        made = {(symbol, start.timeframe) for symbol, live in self._live.items() for start in live.timeframes}
        named = set(found.select("symbol", "timeframe").unique().iter_rows())
        self._dropped = {(symbol, timeframe) for symbol, timeframe in named - made if symbol in self._live}
        oldest = reader.first_time(topics.TICKS_CLEAN, number)
        self.since: Final = 0 if oldest < 0 else oldest + _SKEW_MS
        """Ticks before it may be gone from ``ticks.clean``."""
        others = (reader.first_time(topic, number) for topic in (topics.TICKS_REJECTED, topics.DEAD_LETTERS))
        names = {symbol: self._timeframes(live) for symbol, live in self._live.items()}
        terrain = Terrain(
            max(scope.from_, self.since),
            scope.to,
            {symbol: {name: at for name, at in each.items() if not is_count(name)} for symbol, each in names.items()},
            tuple(name for name in settings.bars.timeframes if not is_count(name)),
            settings.processor.future_tolerance_ms,
        )
        matching = Matching(
            reader.clean(number, terrain.from_, scope.keys),
            to=scope.to,
            told_since=max(others) + _SKEW_MS,
            truncated=self._low > 0,
        )
        self.partition: Final = Partition(terrain, matching)
        counted = found.filter(pl.col("day") >= terrain.from_)
        counts = {name: {made.timeframe: made.from_ for made in live.timeframes} for name, live in self._live.items()}
        self.counts: Final = CountBook(counted, self._newer, counts, terrain.from_, scope.to)

    def compare(self, report: Report) -> None:
        """Derive the bars and hold them against those there are."""
        book = Book(self.found, self._newer, self._dropped, report.bars)
        self.partition.watch = self.counts.take
        rates = self._reader.bars(topics.RATES, self._number, self._scope.keys) if report.rates is not None else None
        for bars in self.derived():
            book.hold(bars)
            if report.rates is not None and rates is not None:
                report.rates.compare(beside(bars, rates), TERMINAL)
        self.counts.compare(self.partition.series, report.bars)
        book.finish(self.since, [symbol for symbol, item in self.partition.series.items() if item.terms])
        report.account.add(self.partition.matching.account)
        if self.since:
            report.since[self._number] = self.since

    def derived(self) -> Iterator[pl.DataFrame]:
        """The bars that should be there by the ticks and controls there are."""
        if self._low > 0:
            self._remember()
        fates = Fates(self._reader, self._number, self.partition.terrain.from_, self._scope)
        parts = self._reader.raw(self._number, self._scope.keys)
        began, rest = False, list[pl.DataFrame]()
        for part in parts:
            ticks = fates.told(part, self._reached, self.partition.matching.account)
            if not began and ticks.height:
                yield from self.partition.begin(ticks)
                began = True
            controls = [said for said in part.controls if said[0] < self._reached and said[0] not in fates.dead]
            yield from self.partition.take(Part(ticks, controls))
            if part.end >= self._reached:
                rest.append(part.ticks.filter(pl.col("source") >= self._reached))
                break
        yield from self.partition.finish(chain(rest, (part.ticks for part in parts)))
        self.partition.matching.account.foreign += fates.foreign

    def _timeframes(self, live: LiveBars) -> dict[str, int]:
        since = {start.timeframe: start.from_ for start in live.timeframes}
        return {name: 0 for symbol, name in self._dropped if symbol == live.symbol} | since

    def _remember(self) -> None:
        """What controls said that are no longer in ``ticks.raw``: their copies, and the aggregator's state."""
        partition, wanted = self.partition, self._scope.symbols
        for offset, spec in self._reader.specs(self._number):
            if offset < self._low and (not wanted or spec.symbol in wanted):
                partition.specified(spec, offset)
        for offset, event in self._reader.events(self._number):
            if event.symbol is None or offset >= self._low or (wanted and event.symbol not in wanted):
                continue
            if event.kind == EventKind.COVERAGE:
                partition.covered(event.symbol, offset, event.time)
            elif event.kind == EventKind.GAP and event.from_ is not None and event.to is not None:
                partition.lost(event.symbol, offset, event.from_, event.to)
        for symbol, live in self._live.items():
            series = partition.series.get(symbol)
            if live.spec and (series is None or series.terms is None):
                partition.specified(live.spec, -1)
            if live.coverage_from is not None and (series is None or not series.coverage):
                partition.covered(symbol, -1, live.coverage_from)


class Fates:
    """What became of raw ticks that are not in ``ticks.clean``."""

    def __init__(self, reader: Reader, number: int, from_: int, scope: Scope) -> None:
        self.dead: Final = reader.dead(number)
        """Offsets of dead letters, with the error."""
        self._from = from_
        self._to = scope.to
        self._more = reader.rejected(number, from_, scope.keys)
        self._rejected: pl.DataFrame | None = None
        self._ended = False
        self.foreign = 0
        """Rejected ticks of which ``ticks.raw`` had none, or another, at their offset."""

    def told(self, part: Part, reached: int, account: Account) -> pl.DataFrame:
        """The ticks of the part before offset ``reached``, with their ``fate``; undecodable records are counted."""
        for offset, time in part.undecodable.items():
            if offset < reached and self._from <= time < self._to:
                account.dead += offset in self.dead
                account.lost += offset not in self.dead
        ticks = part.ticks.filter((pl.col("source") < reached) & (pl.col("ts_event") >= self._from))
        rejected = self._until(min(part.end, reached - 1))
        told = ticks.join(
            rejected.select(*IDENTITY, "source", fate="reason"),
            on=[*IDENTITY, "source"],
            how="left",
            maintain_order="left",
        )
        if ticks.height:
            known = rejected.filter(pl.col("source") >= ticks["source"].min())
            self.foreign += known.height - told["fate"].count()
        dead = pl.Series(sorted(self.dead), dtype=pl.Int64)
        return told.with_columns(
            fate=pl.when(pl.col("source").is_in(dead.implode())).then(pl.lit("dead")).otherwise("fate")
        )

    def _until(self, offset: int) -> pl.DataFrame:
        """Rejected ticks of sources up to ``offset``, each once."""
        while not self._ended and (self._rejected is None or self._last(self._rejected) <= offset):
            part = next(self._more, None)
            self._ended = part is None
            if part is not None:
                self._rejected = part if self._rejected is None else pl.concat([self._rejected, part])
        if self._rejected is None:
            return _no_rejected()
        due = pl.col("source") <= offset
        taken, self._rejected = self._rejected.filter(due), self._rejected.filter(~due)
        return taken

    @staticmethod
    def _last(rejected: pl.DataFrame) -> int:
        return int(str(rejected["source"].max())) if rejected.height else -1


def beside(bars: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Derived bars with the ``others`` of the same keys, whose columns are called ``found_…``."""
    renamed = others.rename({name: f"found_{name}" for name in others.columns if name not in KEY})
    return bars.join(renamed, on=KEY, how="inner", maintain_order="left")


def _no_rejected() -> pl.DataFrame:
    kinds = {name: kind for name, kind in dtypes("Tick").items() if name in TICK}
    return pl.DataFrame(schema={**kinds, "source": pl.Int64(), "reason": pl.String()})
