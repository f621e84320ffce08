"""What a design of seeds will find: its power and its cost, before anything is spent.

Contests of a given true difference are simulated with normal paired differences and judged at every look by the limits
of ``sequential``. Power depends on one number: the true difference over the deviation of one paired difference. The
uncertainty of the learning rate (``regret``) is not part of it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from fairstep.analysis.verdict.sequential import limits

REPETITIONS = 20_000
"""Simulated contests: a power of 0.8 has a standard error of 0.3 percentage points."""


@dataclass(frozen=True)
class Power:
    """``probability``: of a decision in the true direction by the design's end. ``mean_seeds``: seeds until a decision
    or the design's end. ``by_seeds``: n -> probability of a decision by n seeds."""

    probability: float
    mean_seeds: float
    by_seeds: dict[int, float]


@functools.cache
def power(effect: float, first: int, most: int, alpha: float = 0.05) -> Power:
    """The power of the design ``first..most`` for a true difference of ``effect`` deviations of one paired difference.

    With m contestants beside the baseline, Holm's procedure gives each at least alpha / m. Raises ValueError for a
    design that is none (``sequential.limits``).
    """
    bounds = limits(first, most, alpha)
    generator = np.random.default_rng(0)
    differences = generator.standard_normal((REPETITIONS, most)) + abs(effect)
    total, squares = differences.cumsum(1), (differences**2).cumsum(1)
    seeds = np.full(REPETITIONS, most)
    going, right = np.ones(REPETITIONS, dtype=bool), np.zeros(REPETITIONS, dtype=bool)
    by_seeds = {}
    for n, limit in bounds.items():
        mean = total[:, n - 1] / n
        t = mean / np.sqrt((squares[:, n - 1] - n * mean**2) / (n - 1) / n)
        stops = going & (np.abs(t) > limit)
        seeds[stops] = n
        right |= stops & (t > 0)
        going &= ~stops
        by_seeds[n] = float(right.mean())
    return Power(float(right.mean()), float(seeds.mean()), by_seeds)


def seeds_for(
    effect: float, first: int = 3, alpha: float = 0.05, probability: float = 0.8, largest: int = 100
) -> int | None:
    """The smallest ``most`` whose design ``first..most`` has this power. None: more than ``largest`` are needed."""
    # One t-test of n pairs has more power than looks that end at n, so no design is shorter than it must be.
    low = next((n for n in range(first, largest + 1) if _once(effect, n, alpha) >= probability), largest + 1) - 1
    high = low + 1
    while high <= largest and power(effect, first, high, alpha).probability < probability:
        low, high = high, max(high + 1, min(high + high // 8, largest))
    if high > largest:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, first, middle, alpha).probability >= probability else (middle, high)
    return high


def _once(effect: float, n: int, alpha: float) -> float:
    """Power of one t-test of n pairs."""
    limit = -special.stdtrit(n - 1, alpha / 2)
    return float(1 - special.nctdtr(n - 1, abs(effect) * math.sqrt(n), limit))
