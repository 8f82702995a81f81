"""How files write a moment, found from one of them; then read for whole columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import polars as pl

_CLOCK: Final = r"\d{1,2}:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_OFFSET: Final = re.compile(r"\s*(?:GMT|UTC)?([+-]\d\d):?(\d\d)$|\s*(?:Z|GMT|UTC)$")
_FORMS: Final = (
    (re.compile(rf"\d{{4}}([-./])\d{{1,2}}\1\d{{1,2}}[ T]{_CLOCK}"), "%Y{0}%m{0}%d %H:%M"),
    (re.compile(rf"\d{{1,2}}(\.)\d{{1,2}}\1\d{{4}}[ T]{_CLOCK}"), "%d{0}%m{0}%Y %H:%M"),
    (re.compile(rf"\d{{8}}()[ T]{_CLOCK}"), "%Y%m%d %H:%M"),
    (re.compile(r"\d{8}()[ T]\d{9}"), "%Y%m%d %H%M%S%3f"),
    (re.compile(r"\d{8}()[ T]\d{6}(?:\.\d{1,9})?"), "%Y%m%d %H%M%S%.f"),
)
_EPOCHS: Final = (
    (re.compile(r"\d{9,10}(?:\.\d+)?"), 1e-3),
    (re.compile(r"\d{12,13}(?:\.\d+)?"), 1.0),
    (re.compile(r"\d{15,16}"), 1e3),
    (re.compile(r"\d{18,19}"), 1e6),
)


@dataclass(frozen=True, slots=True)
class TimeForm:
    """One way to write a moment."""

    pattern: str = ""
    """As chrono has it; empty: a number since 1970."""
    absolute: bool = False
    """It says a moment, in UTC or with an offset, not what some clock showed."""
    per_ms: float = 1.0
    """Units of the number in a millisecond."""

    def milliseconds(self, column: pl.Expr) -> pl.Expr:
        """The column's moments as milliseconds, rounded down; null where it holds none."""
        if not self.pattern:
            whole = column.cast(pl.Int64, strict=False)
            if self.per_ms >= 1.0:
                per_ms = int(self.per_ms)
                fraction = column.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
                return pl.coalesce(whole, fraction) // per_ms
            seconds = column.cast(pl.Float64, strict=False)
            return pl.coalesce(whole * 1_000, (seconds * 1_000).round(3).floor().cast(pl.Int64, strict=False))
        text = column
        pattern = self.pattern
        if self.absolute:
            text = text.str.replace(r"\s*(?:Z|GMT|UTC)$", "+00:00").str.replace(
                r"\s*(?:GMT|UTC)?([+-]\d\d):?(\d\d)$", "${1}:${2}"
            )
            pattern += "%z"
        return text.str.to_datetime(pattern, time_unit="ms", strict=False).dt.epoch("ms")


def find_form(sample: str) -> TimeForm | None:
    """The form in which ``sample`` is written; None when it is no moment."""
    text = sample.strip()
    for number, per_ms in _EPOCHS:
        if number.fullmatch(text):
            return TimeForm(absolute=True, per_ms=per_ms)
    offset = _OFFSET.search(text)
    text = text[: offset.start()] if offset else text
    for form, pattern in _FORMS:
        if match := form.fullmatch(text):
            whole = pattern.format(match[1]) + (":%S%.f" if text.count(":") > 1 else "")
            return TimeForm(whole.replace(" ", "T") if "T" in text else whole, absolute=offset is not None)
    return None
