"""Ticks of ``ticks.raw`` found again, each once, in ``ticks.clean`` or ``ticks.rejected``; in order, so in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from infra.proof.series import NO_TICK, ORDINAL_BITS, Series

SAME: Final = ("bid", "ask", "last", "volume", "flags", "feed", "server_time", "ts_recv")
"""What a clean tick must have in common with the raw one beside its identity."""
IDENTITY: Final = ("symbol", "ts_event", "ordinal", "correction")
TICK: Final = (*IDENTITY, *SAME)
_EXAMPLES: Final = 5
_NEVER: Final = 2**62


@dataclass(slots=True)
class Account:
    """What became of the ticks of ``ticks.raw``: each is one of the first six."""

    clean: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By reason."""
    repeats: int = 0
    dead: int = 0
    forgotten: int = 0
    """Not clean, and no longer known why: ``ticks.rejected`` or ``dead.letters`` do not go back so far."""
    lost: int = 0
    """In no topic, and no repeat."""
    foreign: int = 0
    """In ``ticks.clean`` or ``ticks.rejected``, but not, or not so often, in ``ticks.raw``."""
    altered: int = 0
    """Not in ``ticks.clean`` as they are in ``ticks.raw``."""
    disordered: int = 0
    """In ``ticks.clean`` behind a later one of their symbol, corrections apart."""
    examples: list[str] = field(default_factory=list)
    """Of what is wrong."""

    @property
    def raw(self) -> int:
        """All of them."""
        return self.clean + self.rejected.total() + self.repeats + self.dead + self.forgotten + self.lost

    @property
    def wrong(self) -> int:
        """How many are not where they belong."""
        return self.lost + self.foreign + self.altered + self.disordered

    def add(self, other: Account) -> None:
        """Take another partition's account in."""
        self.clean += other.clean
        self.rejected += other.rejected
        self.repeats += other.repeats
        self.dead += other.dead
        self.forgotten += other.forgotten
        self.lost += other.lost
        self.foreign += other.foreign
        self.altered += other.altered
        self.disordered += other.disordered
        self.examples = (self.examples + other.examples)[:_EXAMPLES]

    def note(self, what: str, ticks: pl.DataFrame) -> None:
        """Keep some of ``ticks`` as examples of what is wrong."""
        room = _EXAMPLES - len(self.examples)
        self.examples += [f"{what}: {example(row)}" for row in ticks.head(max(room, 0)).iter_rows(named=True)]


class Matching:
    """One partition's ticks; ``clean`` gives those of ``ticks.clean`` in order, in parts."""

    def __init__(self, clean: Iterator[pl.DataFrame], *, to: int, told_since: int, truncated: bool) -> None:
        """Ticks before ``to`` (UTC milliseconds) are counted.

        ``told_since``: of older ones it may be forgotten that they were rejected or dead letters.
        ``truncated``: the source of the first clean ticks is no longer in ``ticks.raw``.
        """
        self._more = clean
        self._counts = pl.col("ts_event") < to
        self._told = pl.col("ts_event") >= told_since
        self._waiting: pl.DataFrame | None = None
        self._aligned = not truncated
        self._truncated = truncated
        self._stale = 0
        """Of those that wait, so many came before one that was found: they belong to no raw tick."""
        self._oldest: dict[str, int] = {}
        self._sorted: dict[str, int] = {}
        self.account: Final = Account()

    def before(self, raw: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Clean ticks that came before all of ``raw``, the first part of ``ticks.raw`` there is; source -1."""
        while not self._aligned and raw.height and (waiting := self._next()) is not None:
            hits = waiting.with_row_index("at").join(raw, on=IDENTITY, how="semi")["at"].min()
            count = waiting.height if hits is None else int(str(hits))
            self._aligned = hits is not None
            self._waiting = waiting.slice(count) if self._aligned else None
            yield self._old(waiting.head(count))

    def match(self, raw: pl.DataFrame, series: Mapping[str, Series]) -> pl.DataFrame:
        """The clean ticks that came of ``raw``, with their source and what was ``known`` then.

        ``raw``: ticks that were neither rejected nor dead letters, with their ``identity`` and ``known``, the highest
        of their symbol before. Those that did not pass are counted as repeats, or as lost.
        """
        first = raw.unique(IDENTITY, keep="first", maintain_order=True)
        self._fill(first.height + self._stale)
        waiting = raw.select(TICK).clear() if self._waiting is None else self._waiting
        found = waiting.join(
            first.select(*IDENTITY, "source", "known", *(pl.col(name).alias(f"raw_{name}") for name in SAME)),
            on=IDENTITY,
            how="left",
            maintain_order="left",
        )
        is_known = pl.col("source").is_not_null() & pl.struct(IDENTITY).is_first_distinct()
        clean = found.filter(is_known)
        self._waiting = found.filter(~is_known).select(TICK)
        if clean.height:
            last = found.select(is_known.arg_true().max()).item()
            self._stale = last + 1 - clean.height
        self._check(clean)
        for symbol, identity in identities(clean.filter("correction")):
            series[symbol].corrections.add(identity)
        self._settle(raw.join(clean, on="source", how="anti", maintain_order="left"), series)
        return clean.select(*TICK, "source", "known")

    def finish(self, later: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """What is left of the clean ticks once ``ticks.raw`` is read; ``later`` is what has not been processed."""
        if not self._aligned:
            while (waiting := self._next()) is not None:
                self._waiting = None
                yield self._old(waiting)
            return
        while self._top_up():
            pass
        waiting = self._waiting
        if waiting is None or not waiting.height:
            return
        for raw in later:
            waiting = waiting.join(raw, on=IDENTITY, how="anti", maintain_order="left")
        if self._truncated and waiting.height:
            is_old = pl.col("ts_event") < of_symbol(self._oldest, _NEVER)
            yield self._old(waiting.filter(is_old))
            waiting = waiting.filter(~is_old)
        self.account.foreign += waiting.height
        self.account.note("in ticks.clean, but not (or not so often) in ticks.raw", waiting)

    def _old(self, clean: pl.DataFrame) -> pl.DataFrame:
        self._check_order(clean)
        return clean.with_columns(source=pl.lit(-1, pl.Int64), known=pl.lit(NO_TICK, pl.Int64))

    def _next(self) -> pl.DataFrame | None:
        if self._waiting is None or not self._waiting.height:
            self._waiting = next(self._more, None)
        return self._waiting

    def _top_up(self) -> bool:
        part = next(self._more, None)
        if part is None:
            return False
        self._waiting = part if self._waiting is None else pl.concat([self._waiting, part])
        return True

    def _fill(self, height: int) -> None:
        """What came of so many raw ticks is, in order, among as many clean ones."""
        while (0 if self._waiting is None else self._waiting.height) < height and self._top_up():
            pass

    def _check(self, clean: pl.DataFrame) -> None:
        self.account.clean += clean.filter(self._counts).height
        altered = clean.filter(pl.any_horizontal(pl.col(name) != pl.col(f"raw_{name}") for name in SAME))
        self.account.altered += altered.height
        self.account.note("not in ticks.clean as it is in ticks.raw", altered)
        for symbol, ts in clean.group_by("symbol").agg(pl.col("ts_event").min()).iter_rows():
            self._oldest.setdefault(symbol, ts)
        self._check_order(clean)

    def _check_order(self, clean: pl.DataFrame) -> None:
        """Identities of a symbol rise, but for corrections."""
        rising = clean.filter(~pl.col("correction")).with_columns(identity=identity())
        so_far = pl.col("identity").cum_max().shift(1).over("symbol")
        wrong = rising.filter(pl.col("identity") <= pl.max_horizontal(so_far, of_symbol(self._sorted)))
        self.account.disordered += wrong.height
        self.account.note("behind a later one in ticks.clean", wrong)
        for symbol, highest in rising.group_by("symbol").agg(pl.col("identity").max()).iter_rows():
            self._sorted[symbol] = max(highest, self._sorted.get(symbol, NO_TICK))

    def _settle(self, rest: pl.DataFrame, series: Mapping[str, Series]) -> None:
        """Tell repeats from what is lost, among raw ticks that are in no other topic."""
        future = {symbol: item.future for symbol, item in series.items()}
        known = pl.max_horizontal("known", of_symbol(future))
        seen = [identity in series[symbol].corrections for symbol, identity in identities(rest)]
        repeated = pl.when("correction").then(pl.Series(seen, dtype=pl.Boolean)).otherwise(pl.col("identity") <= known)
        rest = rest.with_columns(repeated=repeated).filter(self._counts)
        lost = rest.filter(~pl.col("repeated") & self._told)
        self.account.lost += lost.height
        self.account.forgotten += rest.filter(~pl.col("repeated") & ~self._told).height
        self.account.repeats += rest.filter("repeated").height
        self.account.note("lost", lost)


def identity() -> pl.Expr:
    """A tick's time and ordinal as one number."""
    return pl.col("ts_event") * (1 << ORDINAL_BITS) + pl.col("ordinal")


def identities(ticks: pl.DataFrame) -> Iterator[tuple[str, int]]:
    """Symbol and identity of each."""
    return ticks.select("symbol", identity().alias("identity")).iter_rows()


def of_symbol(numbers: Mapping[str, int], default: int = NO_TICK) -> pl.Expr:
    """Each row's number by its symbol."""
    return pl.col("symbol").replace_strict(dict(numbers), default=default, return_dtype=pl.Int64)


def example(row: dict[str, object]) -> str:
    """A tick by its identity."""
    return f"{row['symbol']} {row['ts_event']} #{row['ordinal']}"
