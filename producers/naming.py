"""Whose symbol a canonical name is: no two of a feed's, and no other feed's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from infra.mapping import refuse_collisions
from infra.settings import Settings
from infra.symbols import Symbols
from producers.restore import read_cursors
from producers.terminal import SymbolInfo
from schemas.codec import Codec
from schemas.errors import UsageError


def canonical(symbols: Symbols, feed: str, chosen: Mapping[str, SymbolInfo]) -> dict[str, SymbolInfo]:
    """What a broker says of some symbols, by canonical name. Raises SettingsError when two have the same."""
    names = symbols.names(feed)
    named = [names.name(broker_name) for broker_name in chosen]
    refuse_collisions(named, feed)
    return {each.symbol: chosen[each.broker_name] for each in named}


BY_FILE: Final = (
    'in the symbols file, feeds: {{{feed}: {{{symbol}: {name}}}}}, or "*": "*.{feed}" for all; ARBITREX_WORLD'
)
"""Where a producer's symbols are renamed, and its world is chosen."""


def refuse_foreign(settings: Settings, codec: Codec, symbols: Iterable[str], feed: str, remedy: str = BY_FILE) -> None:
    """A canonical symbol is one feed's. Raises UsageError when another feed has one of these in this world."""
    wanted = set(symbols)
    for owner, symbol in read_cursors(settings, codec):
        if symbol in wanted and owner != feed:
            told = remedy.format(symbol=symbol, feed=feed, name=f"{symbol}.{feed}")
            raise UsageError(
                f"{symbol} in world {settings.world} is feed {owner}'s: "
                f"give feed {feed}'s another name or world ({told})"
            )
