"""Patterns of symbols: a name in which ``*`` stands for any characters. Pure."""

from __future__ import annotations

import functools
import re
from typing import Final

ALL: Final = "*"
MOST_STARS: Final = 2
"""More would let a pattern take longer to match than it is worth."""


def is_pattern(symbol: str) -> bool:
    return ALL in symbol


def is_usable(symbol: str) -> bool:
    """Whether a symbol or pattern has not too many stars."""
    return symbol.count(ALL) <= MOST_STARS


def matches(pattern: str, symbol: str) -> bool:
    """Whether a pattern holds a symbol. One that holds another pattern's text holds all that the other does."""
    return pattern in (ALL, symbol) or (is_pattern(pattern) and _compiled(pattern).fullmatch(symbol) is not None)


@functools.lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split(ALL))), re.DOTALL)
