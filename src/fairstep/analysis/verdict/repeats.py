"""The noise of many configurations at once: one sigma for all of them, whether there is one, and who is outside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fairstep.analysis.statistics import AnalysisError, pooled_deviation
from fairstep.analysis.verdict.paired import deviation_estimate


@dataclass(frozen=True)
class PooledNoise:
    """``sigma``: pooled deviation in nats per token, with its chi-square interval at ``LEVEL``. ``statistic``: of
    Bartlett's test that all ``groups`` have one sigma, chi-square on ``groups`` - 1; ``probability``: its p-value."""

    sigma: float
    low: float
    high: float
    degrees: int
    groups: int
    runs: int
    statistic: float
    probability: float

    def outside(self, deviation: float, runs: int) -> float:
        """p-value that a group with this deviation is no noisier than the pooled ones: F on ``runs`` - 1 and
        ``degrees``. The group must not be one of them, and the value is for this group alone."""
        from scipy.special import fdtrc

        return float(fdtrc(runs - 1, self.degrees, (deviation / self.sigma) ** 2))


def pooled_noise(groups: Iterable[Sequence[float]]) -> PooledNoise:
    """Groups of repeated runs, each of one configuration. A group of one run says nothing and is left out.

    Raises AnalysisError below two groups with a spread.
    """
    from scipy.special import chdtrc

    used = [np.asarray(group, dtype=float) for group in groups]
    used = [group for group in used if group.size > 1]
    if len(used) < 2 or any(group.std() == 0 for group in used):
        raise AnalysisError("a common sigma needs two or more groups of repeated runs, each with a spread")
    sigma, degrees = pooled_deviation([group.tolist() for group in used])
    interval = deviation_estimate(sigma, degrees + 1)
    each = np.array([group.size - 1 for group in used])
    variances = np.array([group.var(ddof=1) for group in used])
    spread = degrees * math.log(sigma**2) - float((each * np.log(variances)).sum())
    correction = 1 + (float((1 / each).sum()) - 1 / degrees) / (3 * (len(used) - 1))
    statistic = spread / correction
    probability = float(chdtrc(len(used) - 1, statistic))
    runs = sum(group.size for group in used)
    return PooledNoise(sigma, interval.low, interval.high, degrees, len(used), runs, statistic, probability)
