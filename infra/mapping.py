"""A broker's names of symbols, and the canonical ones they have here: pure.

Rules are pairs of a name, or a pattern with one ``*``, and what such a symbol is called; a ``*`` in the latter stands
for what the pattern's matched. The first rule that fits decides (case counts); without one a symbol keeps its name.

    GOLD: XAUUSD      # one symbol
    "*.r": "*"        # a suffix that is dropped
    "*": "*.icm"      # a suffix of a second broker's, since canonical names are unique across feeds
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.errors import SettingsError

_USABLE: Final = re.compile(r"[^\s|@\x00-\x1f][^\s|\x00-\x1f]{0,63}")
"""``|`` parts the keys of bars, ``@`` begins those of shards."""


@dataclass(frozen=True, slots=True)
class Named:
    """A broker's symbol as it is called here."""

    broker_name: str
    symbol: str
    rule: str | None = None
    """The rule that decided; None: it keeps its name."""


class NameMap:
    """The rules of one feed, in order."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        """Raises SettingsError for a rule that cannot be meant."""
        for pattern, name in rules.items():
            if pattern.count("*") > 1 or name.count("*") > pattern.count("*") or not pattern:
                raise SettingsError(
                    f"{pattern!r}: {name!r}: write NAME: SYMBOL, or a pattern with one * and what becomes of it, such "
                    'as "*.r": "*"'
                )
        self._rules = dict(rules)

    def name(self, broker_name: str) -> Named:
        """What a symbol is called here. Raises SettingsError when it cannot be called so."""
        for pattern, template in self._rules.items():
            before, star, after = pattern.partition("*")
            if broker_name == pattern and not star:
                return _usable(Named(broker_name, template, f"{pattern}: {template}"))
            inside = len(broker_name) - len(before) - len(after)
            if star and inside > 0 and broker_name.startswith(before) and broker_name.endswith(after):
                middle = broker_name[len(before) : len(before) + inside]
                return _usable(Named(broker_name, template.replace("*", middle), f"{pattern}: {template}"))
        return _usable(Named(broker_name, broker_name))


def collisions(named: Iterable[Named]) -> dict[str, list[str]]:
    """Symbols that several of a broker's are called, and those."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in named:
        found[each.symbol].append(each.broker_name)
    return {symbol: names for symbol, names in found.items() if len(names) > 1}


def refuse_collisions(named: Iterable[Named], feed: str) -> None:
    """Raise SettingsError when two of a broker's symbols are called the same."""
    for symbol, names in collisions(named).items():
        raise SettingsError(
            f"feed {feed}: {' and '.join(names)} would all be called {symbol}: leave one out of "
            f"ARBITREX_PRODUCER__SYMBOLS, or name it in the symbols file (feeds: {{{feed}: {{{names[-1]}: …}}}})"
        )


def _usable(named: Named) -> Named:
    if _USABLE.fullmatch(named.symbol) is None:
        raise SettingsError(
            f"the broker's {named.broker_name!r} cannot be called {named.symbol!r} here: give it a name of up to 64 "
            "characters, without spaces and |, not beginning with @, in the symbols file under feeds"
        )
    return named
