"""Where consecutive ticks are cut into bars of a size."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_WINDOW: Final = 1_024


def cut(weights: NDArray[np.float64], size: float, carried: float) -> tuple[list[int], float]:
    """After which ticks a bar is full, as exclusive ends, and what the ticks after the last of them sum up to.

    A bar takes ticks until their weights (none negative) sum up to ``size`` or more; none is split. ``carried`` is
    what the first one had before. Weights are added one by one from the bar's first on, so that the sums do not depend
    on how the ticks are handed over.
    """
    ends: list[int] = []
    at, total, window, bar = 0, carried, _WINDOW, 0
    while at < len(weights):
        sums = np.cumsum(np.append(total, weights[at : at + window]))
        full = int(np.searchsorted(sums, size))
        if full < len(sums):
            at += full
            ends.append(at)
            bar, total, window = at, 0.0, 2 * (at - bar) + 1
        else:
            at += len(sums) - 1
            total, window = float(sums[-1]), 2 * window
    return ends, total
