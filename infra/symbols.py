"""The symbols file: what differs from the usual for some of a broker's symbols.

    symbols:
      XAU*:
        calendar: Sun-Thu 18:05-16:58 America/New_York   # the broker's own hours
        holidays: [2026-12-25, 2026-12-24 13:45/17:00]   # local dates and spans, besides the calendar's own
      US500:
        calendar: CME Globex Equity                      # a library's, with holidays and early closes
        extra: [2026-12-27 18:00/2026-12-28 16:00]       # open then, whatever else is said
      "*.US":
        calendar: XNYS

A symbol has the first pattern that it matches (``*``, ``?``, ``[abc]``; case counts).

    feeds:
      icm:                    # a feed's names of symbols and what they are called here; see `infra.mapping`
        GOLD: XAUUSD
        "*.r": "*"
"""

from __future__ import annotations

from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.mapping import NameMap
from infra.market.calendar import Calendar, LocalSpan, default_calendar, parse_calendar
from infra.market.library import find_calendar, is_library_name
from schemas.errors import SettingsError

SETTING: Final = "ARBITREX_SYMBOLS_FILE"

EARLIER_YEARS, LATER_YEARS = 1, 2
"""How many years before and after this one a library's holidays are taken for, where the ticks' own are not known."""


class SymbolRule(BaseModel):
    """What the file says of the symbols of one pattern."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calendar: str | None = Field(None, min_length=1)
    holidays: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def apply(self, symbol: str, years: tuple[int, int]) -> Calendar:
        """The symbol's calendar. Raises SettingsError."""
        base = default_calendar(symbol) if self.calendar is None else find_calendar(self.calendar, years)
        return base.besides(map(LocalSpan.parse, self.holidays), map(LocalSpan.parse, self.extra))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    symbols: dict[str, SymbolRule] = Field(default_factory=dict)
    feeds: dict[str, dict[str, str]] = Field(default_factory=dict)


class Symbols:
    """The rules of a symbols file, in its order."""

    def __init__(
        self, rules: dict[str, SymbolRule], path: Path | None = None, names: dict[str, NameMap] | None = None
    ) -> None:
        self._rules, self._path, self._names = rules, path, names or {}

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """The file's rules; none without a file. Raises SettingsError, which names file, pattern and remedy."""
        if path is None:
            return cls({})
        where = f"{SETTING}={path}"
        try:
            raw = yaml.load(path.read_text("utf-8"), yaml.BaseLoader)  # noqa: S506 - the loader that makes texts only
            file = _File.model_validate(raw or {})
        except OSError as error:
            raise SettingsError(f"{where}: cannot be read ({error.strerror}); give the path of a YAML file") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{where}: is no YAML ({' '.join(str(error).split())})") from error
        except ValidationError as error:
            problem = error.errors()[0]
            place = ": ".join(map(str, problem["loc"])) or "the whole file"
            raise SettingsError(
                f"{where}: {place}: {problem['msg']}; write symbols: {{PATTERN: {{calendar: …, holidays: […]}}}} and "
                "feeds: {FEED: {NAME: SYMBOL}}"
            ) from error
        try:
            names = {feed: NameMap(rules) for feed, rules in file.feeds.items()}
        except SettingsError as error:
            raise SettingsError(f"{where}: feeds: {error}") from error
        found = cls(file.symbols, path, names)
        for pattern, rule in file.symbols.items():
            found._check(pattern, rule)
        return found

    def calendar(self, symbol: str, years: tuple[int, int]) -> Calendar:
        """The symbol's calendar, a library's for the years from first to last.

        Raises SettingsError when a library's calendar cannot be had.
        """
        pattern = self.pattern(symbol)
        if pattern is None:
            return default_calendar(symbol)
        try:
            return self._rules[pattern].apply(symbol, years)
        except SettingsError as error:
            raise self._wrong(pattern, error) from error

    def names(self, feed: str) -> NameMap:
        """What a feed's symbols are called here."""
        return self._names.get(feed, NameMap({}))

    def pattern(self, symbol: str) -> str | None:
        """The pattern whose rule the symbol has; None: the usual."""
        return next((pattern for pattern in self._rules if fnmatchcase(symbol, pattern)), None)

    def _check(self, pattern: str, rule: SymbolRule) -> None:
        """Raise SettingsError for a rule that is wrong in itself; a library is not asked."""
        try:
            if rule.calendar is not None and not is_library_name(rule.calendar):
                parse_calendar(rule.calendar)
            for text in (*rule.holidays, *rule.extra):
                LocalSpan.parse(text)
        except SettingsError as error:
            raise self._wrong(pattern, error) from error

    def _wrong(self, pattern: str, error: SettingsError) -> SettingsError:
        return SettingsError(f"{SETTING}={self._path}: {pattern}: {error}")


def years_around(now_ms: int) -> tuple[int, int]:
    """The years for which a producer that starts now takes a library's holidays."""
    year = datetime.fromtimestamp(now_ms / 1_000, UTC).year
    return year - EARLIER_YEARS, year + LATER_YEARS
