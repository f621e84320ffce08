"""Borrowed variance: one contestant's differences over many cells say more about their noise than three pairs do.

Moderated t (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004): the variances s^2 of a contestant's paired differences over
cells, with d degrees of freedom each, vary about a common s0^2 like s0^2 times d0 over chi-square(d0). d0 and s0^2
follow from the mean and the variance of log s^2. A cell's variance is then (d0 s0^2 + d s^2) / (d0 + d), with
min(d0 + d, sum of d) degrees of freedom.

**Gate.** A cell whose s^2 / s0^2 is above the 80 % point of F(d, d0) may be noisier than the rest. Its interval is its
own paired t-interval.

Cells of one contestant only: contestants of one cell have deviations that differ 20-fold, and a variance borrowed
across them is wrong for each. The interval stands beside the paired t-interval, on which the verdict rests.

In simulation (``tests/analysis/test_borrowed.py``) at most 5 % of equal contestants are called different. With three
pairs and eight cells the median width is 0.64 of the paired interval's, with five pairs 0.83. In a cell that alone is
three times as noisy as the others 10 % are called different: a reason why no verdict rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fairstep.analysis.statistics import AnalysisError, Estimate, mean_interval, t_quantile

Name = TypeVar("Name")

LEAST_CELLS = 8
ROUNDING = 1e-9
"""Nats: a deviation of equal differences, by rounding."""
GATE = 0.8
"""Quantile of F above which a cell's own variance is kept."""


@dataclass(frozen=True)
class Borrowed:
    """Mean difference of a cell in nats with its borrowed 95 % interval, and the paired one (``paired``).

    ``degrees`` are of the borrowed interval. ``gated``: the cell is noisy, and the two intervals are one.
    """

    value: float
    low: float
    high: float
    degrees: float
    gated: bool
    paired: Estimate


def borrowed_intervals(cells: Mapping[Name, Sequence[float]]) -> dict[Name, Borrowed]:
    """Cell -> interval, from one contestant's paired differences in every cell.

    Cells with fewer than two pairs, or with equal differences, have no variance and are left out. Raises AnalysisError
    when fewer than ``LEAST_CELLS`` are left.
    """
    estimates = {name: mean_interval(values) for name, values in cells.items()}
    usable = {name: estimate for name, estimate in estimates.items() if estimate.deviation > ROUNDING}
    if len(usable) < LEAST_CELLS:
        raise AnalysisError(f"borrowed variance needs {LEAST_CELLS} cells with two or more pairs, not {len(usable)}")
    degrees = np.array([estimate.count - 1.0 for estimate in usable.values()])
    common, strength = prior(np.array([estimate.deviation**2 for estimate in usable.values()]), degrees)
    return {name: _interval(estimate, common, strength, degrees.sum()) for name, estimate in usable.items()}


def prior(variances: np.ndarray, degrees: np.ndarray) -> tuple[float, float]:
    """s0^2 and d0 (inf where the variances differ by no more than chance)."""
    from scipy.special import polygamma, psi

    logs = np.log(variances) - psi(degrees / 2) + np.log(degrees / 2)
    spread = float(logs.var(ddof=1) - polygamma(1, degrees / 2).mean())
    if spread <= 0:
        return float(np.exp(logs.mean())), math.inf
    half = _inverse_trigamma(spread)
    return float(np.exp(logs.mean() + psi(half) - math.log(half))), 2 * half


def _interval(paired: Estimate, common: float, strength: float, most: float) -> Borrowed:
    own, degrees = paired.deviation**2, paired.count - 1
    if own / common > _f_quantile(degrees, strength, GATE):
        return Borrowed(paired.value, paired.low, paired.high, degrees, True, paired)
    share = 1.0 if math.isinf(strength) else strength / (strength + degrees)
    total = min(strength + degrees, most)
    deviation = math.sqrt(share * common + (1 - share) * own)
    half = t_quantile(total) * deviation / math.sqrt(paired.count)
    return Borrowed(paired.value, paired.value - half, paired.value + half, total, False, paired)


def _f_quantile(first: float, second: float, probability: float) -> float:
    from scipy.special import chdtri, fdtri

    if math.isinf(second):
        return float(chdtri(first, 1 - probability) / first)
    return float(fdtri(first, second, probability))


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton steps on its reciprocal, which is convex (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x
