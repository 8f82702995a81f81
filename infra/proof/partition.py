"""One partition proved in one pass: its controls, its ticks found again, its bars derived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from infra.proof.derivation import KEY, derived, makers, merged
from infra.proof.matching import Matching, identities, identity, of_symbol
from infra.proof.series import ORDINAL_BITS, Said, Series
from infra.proof.terms import terms_of
from schemas.columns import dtypes
from schemas.records import Control, ControlKind, SymbolSpec

DAY_MS: Final = 86_400_000
"""A correction can change a bar that closed so much event time ago."""

FUTURE: Final = "future"
_MARKS: Final = (ControlKind.WATERMARK, ControlKind.RETIRED)
_STANDING: Final = ("cause", "closing", "closed", "revision")
_NEVER: Final = int(np.iinfo(np.int64).max)
_NO_ROWS: Final = np.empty((0, 2), np.int64)
UNKNOWN: Final = -1
"""The revision of a bar whose corrections' sources are gone."""

Placed = tuple[int, Control]
"""A control and its offset."""


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive records of one partition of ``ticks.raw``."""

    ticks: pl.DataFrame
    """Ticks with ``source``, their offset."""
    controls: Sequence[Placed]
    undecodable: Mapping[int, int] = field(default_factory=dict)
    """Offset and time of what is no record that belongs here."""
    end: int = -1
    """The offset of the last record."""


@dataclass(frozen=True, slots=True)
class Terrain:
    """What is to be proved."""

    from_: int
    """UTC milliseconds, inclusive; bars that lie within [from_, to) are derived."""
    to: int
    timeframes: Mapping[str, Mapping[str, int]]
    """By symbol, since when each of its timeframes is made (event time; 0: since its first tick)."""
    usual: tuple[str, ...]
    """The timeframes of symbols of which that is not known."""
    future_tolerance_ms: int

    @property
    def names(self) -> list[str]:
        """All timeframes."""
        return list(dict.fromkeys([*self.usual, *(name for each in self.timeframes.values() for name in each)]))

    def since(self, symbol: str) -> Mapping[str, int]:
        """The symbol's timeframes."""
        return self.timeframes.get(symbol) or dict.fromkeys(self.usual, 0)


def _no_bars() -> pl.DataFrame:
    placed = {"source": pl.Int64(), "timeframe": pl.String(), "ts_open": pl.Int64(), "ts_close": pl.Int64()}
    ticks = pl.DataFrame(schema={**dtypes("Tick"), **placed})
    standing = {"cause": pl.Int64(), "closing": pl.Int64(), "closed": pl.Boolean(), "revision": pl.Int32()}
    return derived(makers(ticks, {})).with_columns(pl.lit(None, kind).alias(name) for name, kind in standing.items())


@dataclass(slots=True)
class Partition:
    """What is known so far. Give it the parts in order, then `finish`; it gives bars that nothing changes any more."""

    terrain: Terrain
    matching: Matching
    series: dict[str, Series] = field(default_factory=dict)
    watch: Callable[[pl.DataFrame], None] | None = None
    """Shown the ticks that make bars, as `makers` gives them."""
    _bars: pl.DataFrame = field(default_factory=_no_bars)
    """Those that can still change."""
    _marked: dict[str, int] = field(default_factory=dict)
    """The highest watermark, by shard."""

    def specified(self, spec: SymbolSpec, offset: int) -> None:
        """A symbol's spec, from the record at ``offset``."""
        self._series(spec.symbol).agree(terms_of(spec, self.terrain.future_tolerance_ms), offset)

    def covered(self, symbol: str, offset: int, since: int) -> None:
        """Every tick of the symbol from ``since`` on is in the log, says the record at ``offset``."""
        self._series(symbol).cover(since, offset)

    def lost(self, symbol: str, offset: int, from_: int, to: int) -> None:
        """Ticks of the symbol in [from_, to) are lost, says the record at ``offset``."""
        self._series(symbol).gaps.append(Said(offset, from_, to))

    def begin(self, ticks: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Take in the clean ticks whose source is gone; ``ticks`` are the first that are there."""
        for clean in self.matching.before(_candidates(ticks)):
            yield self._fold(clean, [])

    def take(self, part: Part) -> Iterator[pl.DataFrame]:
        """Take in the next part; bars that nothing can change any more.

        Its ticks have a ``fate``: null, ``dead``, or the reason for which they were rejected.
        """
        first = start = 0
        for at, (offset, control) in enumerate(part.controls):
            if control.kind == ControlKind.SYMBOL_SPEC and self._changes(control):
                end = int(part.ticks["source"].search_sorted(offset))
                yield self._section(part.ticks[start:end], part.controls[first:at])
                start, first = end, at + 1
                if control.spec is not None:
                    self.specified(control.spec, offset)
        yield self._section(part.ticks[start:], part.controls[first:])

    def finish(self, later: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The rest of the bars that have closed; ``later`` are ticks of ``ticks.raw`` that nobody has processed."""
        for clean in self.matching.finish(later):
            yield self._fold(clean, [])
        yield self._record(self._bars.filter("closed"))

    def _series(self, symbol: str) -> Series:
        return self.series.setdefault(symbol, Series(symbol))

    def _changes(self, control: Control) -> bool:
        spec, known = control.spec, self.series.get(control.symbol or "")
        if spec is None or known is None or known.terms is None:
            return True
        return terms_of(spec, self.terrain.future_tolerance_ms) is not known.terms

    def _section(self, ticks: pl.DataFrame, controls: Sequence[Placed]) -> pl.DataFrame:
        """Ticks and controls under the same specs."""
        self._hear(controls)
        for symbol in ticks["symbol"].unique().to_list():
            self._series(symbol)
        ahead = (pl.col("ts_event") - self.terrain.future_tolerance_ms) * 1_000 > pl.col("ts_recv")
        counts = ~ahead & pl.col("fate").ne_missing("dead")
        highest = pl.when(counts).then(identity()).cum_max().forward_fill().over("symbol")
        before = of_symbol({symbol: item.highest for symbol, item in self.series.items()})
        ticks = ticks.with_columns(identity=identity(), highest=highest)
        ticks = ticks.with_columns(known=pl.max_horizontal(pl.col("highest").shift(1).over("symbol"), before))
        self._account(ticks)
        clean = self.matching.match(_candidates(ticks), self.series)
        for symbol, reached in ticks.group_by("symbol").agg(pl.col("highest").max()).iter_rows():
            if reached is not None:
                self.series[symbol].highest = max(reached, self.series[symbol].highest)
        return self._fold(clean, controls)

    def _hear(self, controls: Iterable[Placed]) -> None:
        for offset, control in controls:
            if control.kind == ControlKind.COVERAGE:
                for symbol in self._named(control):
                    self.covered(symbol, offset, control.time)
            elif control.kind == ControlKind.GAP and control.from_ is not None and control.to is not None:
                for symbol in self._named(control):
                    self.lost(symbol, offset, control.from_, control.to)

    def _named(self, control: Control) -> list[str]:
        if control.symbol is not None:
            return [control.symbol]
        shard = f"{control.feed}/{control.shard}"
        return [symbol for symbol, item in self.series.items() if item.terms and item.terms.shard == shard]

    def _account(self, ticks: pl.DataFrame) -> None:
        account = self.matching.account
        within = ticks.filter(pl.col("ts_event") < self.terrain.to)
        for fate, count in within.group_by("fate").len().iter_rows():
            if fate == "dead":
                account.dead += count
            elif fate is not None:
                account.rejected[fate] += count
        rejected = ticks.filter(pl.col("fate").is_not_null() & (pl.col("fate") != "dead"))
        for symbol, number in identities(rejected.filter(pl.col("correction") & (pl.col("fate") != FUTURE))):
            self.series[symbol].corrections.add(number)
        for symbol, number in identities(rejected.filter(pl.col("fate") == FUTURE)):
            self.series[symbol].future = max(number, self.series[symbol].future)

    def _fold(self, clean: pl.DataFrame, controls: Sequence[Placed]) -> pl.DataFrame:
        """Take clean ticks into the bars, close what has ended, and give up what nothing can change any more."""
        terms = {symbol: item.terms for symbol, item in self.series.items() if item.terms}
        made = makers(clean.filter(pl.col("ts_event") < self.terrain.to), terms)
        if self.watch:
            self.watch(made)
        zones = self._zones(made)
        placed = pl.concat([self._placed(made, timeframe, zones) for timeframe in self.terrain.names])
        self._merge(derived(placed))
        self._close(clean, controls)
        self._revise(placed.filter("correction"))
        for symbol, highest in clean.group_by("symbol").agg(identity().max()).iter_rows():
            item = self.series[symbol]
            item.highest, item.over = max(highest, item.highest), max(highest >> ORDINAL_BITS, item.over)
        newest = of_symbol({symbol: item.newest for symbol, item in self.series.items()})
        settled = pl.col("closed") & (pl.col("ts_close") <= newest - DAY_MS)
        done, self._bars = self._bars.filter(settled), self._bars.filter(~settled)
        return self._record(done)

    def _zones(self, made: pl.DataFrame) -> list[tuple[ServerZone, NDArray[np.int64]]]:
        """The zones by which the ticks' bars are bounded, and which ticks those are."""
        by_zone: dict[ServerZone, list[pl.Series]] = {}
        rows = made.select("symbol", "ts_event", row=pl.int_range(pl.len()))
        for (name,), ticks in rows.group_by("symbol"):
            until = _NEVER
            for _, since, zone in reversed(self.series[str(name)].zones):
                own = ticks.filter(pl.col("ts_event").is_between(since, until, closed="left"))
                by_zone.setdefault(zone, []).append(own["row"])
                until = since
        return [(zone, pl.concat(parts).to_numpy()) for zone, parts in by_zone.items()]

    def _placed(
        self, made: pl.DataFrame, timeframe: str, zones: Iterable[tuple[ServerZone, NDArray[np.int64]]]
    ) -> pl.DataFrame:
        """The ticks with the bounds of their bars; a bar keeps its own where its series' zone changes."""
        ts = made["ts_event"].to_numpy()
        opens, closes = np.zeros_like(ts), np.zeros_like(ts)
        for zone, which in zones:
            opens[which], closes[which] = bounds(timeframe, ts[which], zone)
        for symbol, item in self.series.items():
            for _, since, _ in item.zones[1:]:
                over = (pl.col("symbol") == symbol) & (pl.col("timeframe") == timeframe)
                over &= pl.col("ts_open") < since
                holding = self._bars.filter(over).sort("closed", "ts_open", descending=True)  # an open one wins
                for start, end in holding.select("ts_open", "ts_close").iter_rows():
                    inside = (made["symbol"] == symbol).to_numpy() & (ts >= start) & (ts < end)
                    opens[inside], closes[inside] = start, end
        return made.with_columns(
            timeframe=pl.lit(timeframe), ts_open=pl.Series(opens, dtype=pl.Int64), ts_close=pl.Series(closes)
        )

    def _merge(self, fresh: pl.DataFrame) -> None:
        known = self._bars
        bars = merged([known.drop(_STANDING), fresh]) if known.height else fresh
        self._bars = bars.join(known.select(*KEY, *_STANDING), on=KEY, how="left", maintain_order="left").with_columns(
            pl.col("closed").fill_null(value=False), pl.col("revision").fill_null(0)
        )

    def _close(self, clean: pl.DataFrame, controls: Sequence[Placed]) -> None:
        """Say by which record each bar was closed: its series' next clean tick, or a watermark of its shard."""
        marks: dict[str, list[tuple[int, int]]] = {}
        for offset, control in controls:
            if control.kind in _MARKS:
                marks.setdefault(f"{control.feed}/{control.shard}", []).append((offset, control.time))
        passing = {
            str(symbol): ticks.select("source", "ts_event").to_numpy()
            for (symbol,), ticks in clean.group_by("symbol", maintain_order=True)
        }
        over = self._over(clean.filter("correction"), marks)
        found: list[pl.DataFrame] = []
        for (name,), bars in self._bars.filter(~pl.col("closed")).group_by("symbol"):
            symbol = str(name)
            terms = self.series[symbol].terms
            shard = terms.shard if terms else ""
            ends = bars["ts_close"].to_numpy()
            marked = np.array(marks.get(shard, []), np.int64).reshape(-1, 2)
            marked[:, 1] = np.maximum(marked[:, 1], self._marked.get(shard, -1))
            cause = np.minimum(_first_reaching(passing.get(symbol, _NO_ROWS), ends), _first_reaching(marked, ends - 1))
            # A correction may come, and make a bar, when its time is over.
            born = bars["first_offset"].to_numpy()
            late = np.array([over.get(at, -1) for at in born.tolist()], np.int64) >= ends
            cause[late] = born[late]
            found.append(
                bars.select(*KEY).with_columns(
                    cause=pl.Series(cause),
                    closing=pl.Series(cause),
                    closed=pl.Series(cause != _NEVER),
                    revision=pl.Series(late.astype(np.int32)),
                )
            )
        if found:
            self._bars = self._bars.update(pl.concat(found).filter("closed"), on=KEY, how="left")
        for shard, said in marks.items():
            self._marked[shard] = max(self._marked.get(shard, -1), *(time for _, time in said))
            for item in self.series.values():
                if item.terms and item.terms.shard == shard:
                    item.over = max(item.over, self._marked[shard] + 1)

    def _over(self, corrections: pl.DataFrame, marks: Mapping[str, Sequence[tuple[int, int]]]) -> dict[int, int]:
        """By source, which time was over when a correction came: by its series' ticks, or its shard's watermark."""
        reached = {}
        for symbol, source, known in corrections.select("symbol", "source", "known").iter_rows():
            terms = self.series[symbol].terms
            shard = terms.shard if terms else ""
            said = [time for offset, time in marks.get(shard, ()) if offset < source]
            reached[source] = max(known >> ORDINAL_BITS, self._marked.get(shard, -1) + 1, *(time + 1 for time in said))
        return reached

    def _revise(self, corrections: pl.DataFrame) -> None:
        """Count those that came when their bar was closed already."""
        if not corrections.height:
            return
        after = corrections.select(*KEY, "source").join(self._bars.filter("closed"), on=KEY, how="inner")
        late = after.filter((pl.col("source") > pl.col("cause")) | (pl.col("source") < 0))
        if not late.height:
            return
        changed = late.group_by(KEY).agg(
            cause=pl.col("source").max(),
            revision=pl.when(pl.col("source").min() < 0)
            .then(UNKNOWN)
            .otherwise(pl.col("revision").first() + pl.len())
            .cast(pl.Int32),
        )
        self._bars = self._bars.update(changed, on=KEY, how="left")

    def _record(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Those of the bars that belong into ``bars``, with what controls say of them."""
        gaps, finals, published = [], [], []
        columns = (*KEY, "ts_close", "cause", "closing", "first_offset")
        for symbol, timeframe, ts_open, ts_close, cause, closing, born in bars.select(columns).iter_rows():
            item, since = self.series[symbol], self.terrain.since(symbol).get(timeframe)
            gap = item.gap_ms(ts_open, ts_close, cause) if item.gaps else 0
            gaps.append(gap)
            finals.append(gap == 0 and ts_open >= item.zone_since(cause))
            within = ts_open >= self.terrain.from_ and ts_close <= self.terrain.to
            whole = item.surely_empty if closing == born >= 0 else item.covered
            published.append(within and since is not None and ts_open >= since and whole(ts_open, closing))
        status = pl.when(pl.col("revision") != 0).then(pl.lit("revised")).when(pl.Series(finals, dtype=pl.Boolean))
        return (
            bars.with_columns(
                feed_gap_ms=pl.Series(gaps, dtype=pl.Int64),
                status=status.then(pl.lit("final")).otherwise(pl.lit("partial")),
            )
            .filter(pl.Series(published, dtype=pl.Boolean))
            .drop("closing", "closed")
        )


def _candidates(ticks: pl.DataFrame) -> pl.DataFrame:
    """Those that are in ``ticks.clean``, or repeats."""
    return ticks.filter(pl.col("fate").is_null())


def _first_reaching(rows: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The offset of the first of ``rows`` (offset, time) that reaches each end."""
    reached = np.maximum.accumulate(rows[:, 1])
    return np.append(rows[:, 0], _NEVER)[np.searchsorted(reached, ends)]
