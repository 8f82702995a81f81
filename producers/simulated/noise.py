"""Noise with random access: the value at a moment needs no moment before it.

Value noise (Perlin 1985, lattice form): independent numbers at the lattice points k * period, hashed from a key and k,
and a smooth curve between them. Octaves whose amplitude grows with the root of their period add up to a path that
moves like a random walk over every span between the shortest and the longest period.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Floats = NDArray[np.float64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_UNIT: Final = np.sqrt(12.0)


def hashed(key: int, index: NDArray[np.uint64]) -> Floats:
    """Independent numbers of mean 0 and variance 1, uniform, one for each index (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = (index + np.uint64(key & 0xFFFFFFFFFFFFFFFF)) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    numbers: Floats = ((mixed >> np.uint64(11)).astype(np.float64) / 2.0**53 - 0.5) * _UNIT
    return numbers


def value_noise(key: int, times: Times, period: int) -> Floats:
    """A smooth curve of mean 0 through the hashed numbers at multiples of ``period`` (ms)."""
    cells = times // period
    along = (times - cells * period) / period
    smooth = along * along * (3.0 - 2.0 * along)
    lattice = np.arange(cells[0], cells[-1] + 2) if len(cells) else np.zeros(0, np.int64)
    points = hashed(key ^ (period * 0x9E3779B1), lattice.astype(np.uint64))
    at = cells - cells[0] if len(cells) else cells
    curve: Floats = points[at] * (1.0 - smooth) + points[at + 1] * smooth
    return curve


def random_walk(key: int, times: Times, *, shortest: int, longest: int) -> Floats:
    """A path of about unit variance per millisecond of lag, sampled at rising ``times``."""
    path = np.zeros(len(times))
    period = shortest
    while period <= longest:
        path += np.sqrt(period / 4.0) * value_noise(key, times, period)
        period *= 2
    return path
