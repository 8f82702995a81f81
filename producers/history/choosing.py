"""Which of a terminal's symbols are meant, by canonical or by broker's name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from infra.mapping import Named, NameMap, refuse_collisions
from producers.failures import near_names
from producers.history.terminals import Offered
from schemas.errors import UsageError


def choose(offered: Sequence[Offered], wanted: Sequence[str], names: NameMap, feed: str) -> list[tuple[Named, Offered]]:
    """What `find` finds. Raises SettingsError for two that would be called the same, too."""
    found = find(offered, wanted, names, feed)
    refuse_collisions([named for named, _ in found], feed)
    return found


def find(offered: Sequence[Offered], wanted: Sequence[str], names: NameMap, feed: str) -> list[tuple[Named, Offered]]:
    """The symbols that ``wanted`` names, or matches as patterns, in the broker's order.

    Raises UsageError, with near names, for one that there is not.
    """
    named = [(names.name(each.name), each) for each in offered]
    known = [name for each, _ in named for name in (each.symbol, each.broker_name)]
    chosen: dict[str, tuple[Named, Offered]] = {}
    for pattern in wanted:
        found = [pair for pair in named if pattern in {pair[0].symbol, pair[0].broker_name}] or [
            pair for pair in named if any(fnmatchcase(name, pattern) for name in (pair[0].symbol, pair[0].broker_name))
        ]
        if not found:
            near = near_names(pattern, known)
            raise UsageError(
                f"the broker of feed {feed} has no {pattern}" + (f"; near: {', '.join(near)}" if near else "")
            )
        chosen |= {pair[1].name: pair for pair in found}
    return [chosen[each.name] for each in offered if each.name in chosen]
