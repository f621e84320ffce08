"""By what factor a speedup changes when the model doubles, from verdicts at three or more sizes.

Every verdict has a baseline of its own, so the sizes' errors are independent, and each has an interval. With x = log2
of the parameters and y = log2 of the speedup, known to e (half its 95 % interval over 1.96), the slope of the line

    b = sum w (x - mean_w x) y / S,    S = sum w (x - mean_w x)^2,    w = 1 / e^2

has the error 1 / sqrt(S), times sqrt(chi^2 / (K - 2)) where K sizes scatter more than their intervals allow (Birge
1932).
``trend`` is for numbers without intervals of their own: it knows the error from the scatter alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fairstep.analysis.statistics import Z95, AnalysisError

LEAST_SIZES = 3
MARGIN = 1.05
"""Change per doubling that matters: 1.4 at 130M and 1.1 at 1.2B (arXiv 2509.02046) are 7 % per doubling."""
Z80 = 0.841621
"""Normal quantile of a probability of 80 % to find what there is."""


@dataclass(frozen=True)
class Doubling:
    """``factor`` of the speedup when the size doubles, with its 95 % interval.

    ``error``: of its log2. ``pairs``: the fewest paired seeds of a size. ``scatter``: sqrt(chi^2 / (K - 2)).
    """

    factor: float
    low: float
    high: float
    error: float
    sizes: int
    pairs: int
    scatter: float

    @classmethod
    def of(cls, slope: float, error: float, sizes: int, pairs: int, scatter: float) -> Doubling:
        """``slope``: of log2 of the speedup against log2 of the size, known to ``error``."""
        low, high = 2 ** (slope - Z95 * error), 2 ** (slope + Z95 * error)
        return cls(2**slope, low, high, error, sizes, pairs, scatter)

    @property
    def outcome(self) -> str:
        """``shrinks``, ``grows``, ``stays`` (within 5 % per doubling), or ``undecided``."""
        if self.high < 1 or self.low > 1:
            return "shrinks" if self.high < 1 else "grows"
        return "stays" if self.low > 1 / MARGIN and self.high < MARGIN else "undecided"

    @property
    def pairs_needed(self) -> int:
        """Paired seeds of each size with which a change of 5 % per doubling is found with a probability of 80 %."""
        return math.ceil(self.pairs * ((Z95 + Z80) * self.error / math.log2(MARGIN)) ** 2)

    @property
    def more(self) -> str:
        """What would decide; empty if it is decided."""
        if self.outcome != "undecided":
            return ""
        more = self.pairs_needed - self.pairs
        if more <= 0:
            return "another size would say more than more seeds"
        return f"{more} more paired seeds at each size ({2 * more * self.sizes} runs)"


def doubling(points: Iterable[tuple[float, float, float, float]], pairs: int) -> Doubling:
    """Of (parameters, speedup, low, high). Those without a finite interval are left out.

    Raises AnalysisError below three sizes.
    """
    known = [point for point in points if all(math.isfinite(value) and value > 0 for value in point)]
    known = [point for point in known if point[2] < point[3]]
    x, y, low, high = (np.log2([point[place] for point in known]) for place in range(4))
    sizes = len(set(x.tolist()))
    if sizes < LEAST_SIZES:
        raise AnalysisError(f"a change per doubling needs speedups with intervals at {LEAST_SIZES} sizes, not {sizes}")
    weights = (2 * Z95 / (high - low)) ** 2
    centred = x - (weights * x).sum() / weights.sum()
    spread = float((weights * centred**2).sum())
    slope = float((weights * centred * y).sum() / spread)
    mean = (weights * y).sum() / weights.sum()
    chi = float((weights * (y - mean - slope * centred) ** 2).sum())
    scatter = math.sqrt(chi / (len(known) - 2))
    error = max(1.0, scatter) / math.sqrt(spread)
    return Doubling.of(slope, error, sizes, pairs, scatter)


def against(first: Doubling, second: Doubling) -> Doubling:
    """The factor of the first over the second's: whether a speedup changes otherwise under one rule than another."""
    slope, error = math.log2(first.factor / second.factor), math.hypot(first.error, second.error)
    sizes, pairs = min(first.sizes, second.sizes), min(first.pairs, second.pairs)
    return Doubling.of(slope, error, sizes, pairs, max(first.scatter, second.scatter))
