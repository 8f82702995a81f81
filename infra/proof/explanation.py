"""What there is to say of one bar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from infra.proof.matching import identity
from infra.proof.series import Said
from schemas.records import SymbolSpec

Row = dict[str, Any]


@dataclass(slots=True)
class Explanation:
    """All that the log tells of one bar; times are UTC milliseconds."""

    symbol: str
    timeframe: str
    ts_open: int
    ts_close: int
    partition: int
    spec: SymbolSpec | None
    at: int | None
    """The moment that it should hold; None: it is named by day and number."""
    day: int | None = None
    """The server's midnight from which a tick, volume or value bar is counted; None: a timeframe's bar."""
    number: int | None = None
    """Which bar of that day; None: none holds the moment."""
    others: list[int] = field(default_factory=list)
    """Further bars of the day that hold the moment."""
    first: int = 0
    until: int = 0
    """The identities of its ticks lie in [first, until)."""
    revisions: list[Row] = field(default_factory=list)
    """As they stand in ``bars``, the last one last; none: there is no such bar."""
    deleted: int | None = None
    """The offset of the empty record that took it out of ``bars``."""
    derived: Row | None = None
    """What the ticks make; None: they make none."""
    unlike: list[str] = field(default_factory=list)
    """The fields in which the last revision is not as derived."""
    made: pl.DataFrame = field(default_factory=pl.DataFrame)
    """The clean ticks that make it, by identity."""
    raw: list[Row] = field(default_factory=list)
    """The symbol's ticks of its window in ``ticks.raw``, by its provenance, with their ``fate``."""
    rejected: dict[int, str] = field(default_factory=dict)
    """Why ticks of its window were rejected, by their offset in ``ticks.raw``."""
    gaps: list[Said] = field(default_factory=list)
    cause: str = ""
    """The record that closed or revised it."""
    before: Row | None = None
    after: Row | None = None
    """Its neighbours in ``bars``."""
    absent: list[str] = field(default_factory=list)
    """Why there is no such bar, as far as the log tells."""
    doubt: str = ""
    """Why nobody can say what it should be."""

    @property
    def key(self) -> str:
        """Its record key."""
        return f"{self.symbol}|{self.timeframe}|{self.ts_open if self.day is None else f'{self.day}.{self.number}'}"

    @property
    def begin(self) -> int:
        """From when on every tick must be there to make it."""
        return self.ts_open if self.day is None else self.day

    @property
    def inside(self) -> pl.Expr:
        """Whether a tick is of its window."""
        return identity().is_between(self.first, self.until, closed="left")

    @property
    def proved(self) -> bool:
        """Whether what is there, bar or none, is what should be there, or nobody can tell any more."""
        right = self.derived is not None and not self.unlike if self.revisions else self.derived is None
        return bool(self.doubt) or right
