"""Symbols over the shards of a feed, by what polling each costs: pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

PROBE_SECONDS: Final = 0.000_1
FETCH_SECONDS: Final = 0.060
"""What a terminal's `symbol_info_tick` and `copy_ticks_from` take at the median."""

_EVEN: Final = 0.1
"""Shards that differ by less than this share of the heaviest are left as they are."""

_WORTH: Final = 0.95
"""What costs more of the difference than this is not moved: it would only be uneven the other way round."""


def cost(ticks_per_second: float, poll_seconds: float) -> float:
    """Seconds that a symbol takes of each poll: its probe, and a fetch when there was a tick since the last one."""
    return PROBE_SECONDS + FETCH_SECONDS * -math.expm1(-ticks_per_second * poll_seconds)


def spread(costs: Mapping[str, float], shards: Sequence[str], owners: Mapping[str, str]) -> dict[str, str]:
    """Which shard each symbol belongs to: its owner, as far as that is even; what has none goes where least is to do.

    As few move as it takes, so that what is even stays as it is; the same arguments give the same.
    """
    load = dict.fromkeys(shards, 0.0)
    found = {symbol: owners[symbol] for symbol in costs if owners.get(symbol) in load}
    for symbol, shard in found.items():
        load[shard] += costs[symbol]
    for symbol in sorted(costs.keys() - found.keys(), key=lambda name: (-costs[name], name)):
        found[symbol] = min(load, key=load.__getitem__)
        load[found[symbol]] += costs[symbol]
    while True:
        heavy, light = max(load, key=load.__getitem__), min(load, key=load.__getitem__)
        apart = load[heavy] - load[light]
        movable = [symbol for symbol, shard in found.items() if shard == heavy and costs[symbol] < _WORTH * apart]
        if apart <= _EVEN * load[heavy] or not movable:
            return found
        symbol = min(movable, key=lambda name: (abs(apart / 2 - costs[name]), name))
        found[symbol] = light
        load[heavy] -= costs[symbol]
        load[light] += costs[symbol]
