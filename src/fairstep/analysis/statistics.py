"""Means and paired differences with intervals, and the noise of repeated runs.

All intervals are Student-t, two-sided, at ``LEVEL``. With n values x_i of sample standard deviation s (divisor n-1):

    mean(x) +- t(n-1, (1+LEVEL)/2) * s / sqrt(n)

An interval states the noise of seeds, and not the noise of tuning, data or machine. With three seeds it is wide (t =
4.30 where the normal has 1.96), because three values say little about s.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

LEVEL = 0.95
"""Confidence of every interval of this package."""

Z95 = 1.959964
"""Normal quantile of a two-sided 95 %."""


class AnalysisError(ValueError):
    """The runs cannot be compared; the message is one sentence with what is wrong and what would be right."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval. ``low`` and ``high`` are -inf and inf where there are too few values for one.

    ``deviation`` is the sample standard deviation of the ``count`` values (nan with fewer than two).
    """

    value: float
    low: float
    high: float
    deviation: float
    count: int

    @classmethod
    def of(cls, mean: float, deviation: float, count: int) -> Estimate:
        """The t-interval of two or more values of which only these three are known."""
        half = t_quantile(count - 1) * deviation / math.sqrt(count)
        return cls(mean, mean - half, mean + half, deviation, count)

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def standard_error(self) -> float:
        return self.deviation / math.sqrt(self.count)

    @property
    def probability(self) -> float:
        """Two-sided p-value of a mean of 0; nan with one value."""
        return t_probability(self.value, self.standard_error, self.count - 1)


def t_quantile(degrees: float, probability: float = (1 + LEVEL) / 2) -> float:
    """Quantile of Student's t, by default the upper one of an interval at ``LEVEL``. From scipy.special, because
    importing scipy.stats alone takes a second or more."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_probability(value: float, error: float, degrees: float) -> float:
    """Two-sided p-value of 0 for a value with this standard error; nan without a degree of freedom."""
    from scipy.special import stdtr

    if not degrees > 0:
        return math.nan
    if error == 0:
        return float(value == 0)
    return float(2 * stdtr(degrees, -abs(value) / error))


def mean_interval(values: Iterable[float]) -> Estimate:
    """Mean of independent values with its t-interval; one value has a mean and no interval.

    Raises AnalysisError for no values, or a value that is not finite.
    """
    array = np.asarray(list(values), dtype=float)
    if array.size == 0:
        raise AnalysisError("a mean needs at least one value, and there is none")
    if not np.isfinite(array).all():
        raise AnalysisError(f"a mean needs finite values, not {array[~np.isfinite(array)][0]}")
    mean = float(array.mean())
    if array.size == 1:
        return Estimate(mean, -math.inf, math.inf, math.nan, 1)
    return Estimate.of(mean, float(array.std(ddof=1)), int(array.size))


def paired_difference(first: Mapping[Key, float], second: Mapping[Key, float]) -> Estimate:
    """Mean of first - second over the keys that both have, with the t-interval of the differences.

    Keys are seeds: two runs with one (init_seed, data_seed) start from the same weights and read the same batches, so
    what those two add to both losses cancels. Raises AnalysisError when no key is shared.
    """
    differences = paired_values(first, second)
    if not differences:
        raise AnalysisError("a paired difference needs runs with the same seeds on both sides, and there are none")
    return mean_interval(differences)


def paired_values(first: Mapping[Key, float], second: Mapping[Key, float]) -> list[float]:
    """first - second of every key that both have, in the order of the first."""
    return [first[key] - second[key] for key in first if key in second]


@dataclass(frozen=True)
class Unpaired:
    """A difference of two means of independent runs, with Welch's interval; infinite ends and nan degrees where a side
    has fewer than two runs."""

    value: float
    low: float
    high: float
    standard_error: float
    degrees: float

    @property
    def probability(self) -> float:
        """Two-sided p-value of no difference; nan without an interval."""
        return t_probability(self.value, self.standard_error, self.degrees)


def unpaired_difference(first: Estimate, second: Estimate, shift: float = 0.0) -> Unpaired:
    """first - second + ``shift`` of runs that share nothing, with the t-interval of Welch (Biometrika 34, 1947).

    The standard error e has e^2 = s1^2/n1 + s2^2/n2; its degrees of freedom are Satterthwaite's,
    e^4 / ((s1^2/n1)^2 / (n1-1) + (s2^2/n2)^2 / (n2-1)). Both deviations are estimated: neither is taken as known or as
    equal to the other. Only mean, deviation and count of the two are used.
    """
    value = first.value - second.value + shift
    if min(first.count, second.count) < 2:
        return Unpaired(value, -math.inf, math.inf, math.nan, math.nan)
    squares = [estimate.standard_error**2 for estimate in (first, second)]
    error = math.sqrt(sum(squares))
    if error == 0:
        return Unpaired(value, value, value, 0.0, float(first.count + second.count - 2))
    shares = [square / sum(squares) for square in squares]  # the fourth powers of small errors would be 0
    parts = (share**2 / (estimate.count - 1) for share, estimate in zip(shares, (first, second), strict=True))
    degrees = 1 / sum(parts)
    half = t_quantile(degrees) * error
    return Unpaired(value, value - half, value + half, error, degrees)


def plain(value: Any) -> Any:
    """A value for JSON, which has no place for nan and infinities: they are null."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Clopper-Pearson interval at ``LEVEL`` of a probability that was seen ``count`` times in ``total``."""
    from scipy.special import betaincinv

    tail = (1 - LEVEL) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - tail))
    return low, high


def pooled_deviation(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Common standard deviation of groups with different means, and its degrees of freedom.

    sqrt( sum_g sum_i (x_gi - mean_g)^2 / sum_g (n_g - 1) ). (nan, 0) when no group has two values.
    """
    squares, degrees = 0.0, 0
    for group in groups:
        array = np.asarray(group, dtype=float)
        if array.size > 1:
            squares += float(((array - array.mean()) ** 2).sum())
            degrees += array.size - 1
    return (math.sqrt(squares / degrees), degrees) if degrees else (math.nan, 0)


@dataclass(frozen=True)
class Equivalence:
    """``low`` and ``high``: the 90 % interval of the difference of means, nats. Within the margin: equivalent."""

    difference: float
    low: float
    high: float
    margin: float

    @property
    def equivalent(self) -> bool:
        return -self.margin < self.low and self.high < self.margin


def equivalence(mine: Sequence[float], reference: Sequence[float], margin: float) -> Equivalence:
    """Two one-sided t tests at 5 % (Schuirmann 1987): means equal within ``margin``. Welch's degrees of freedom, since
    the two may have different noise. Raises AnalysisError below two values on a side."""
    if min(len(mine), len(reference)) < 2:
        raise AnalysisError("equivalence needs at least two runs on each side")
    welch = unpaired_difference(mean_interval(mine), mean_interval(reference))
    half = t_quantile(welch.degrees, 0.95) * welch.standard_error
    return Equivalence(welch.value, welch.value - half, welch.value + half, margin)


def repeated(again: Sequence[float], before: Sequence[float], known: Sequence[float], margin: float) -> Equivalence:
    """Whether runs that were trained again have the mean loss of before, within ``margin``: two one-sided tests.

    ``again`` and ``before`` are losses of the same n seeds, ``known`` the losses of all runs of that configuration. The
    interval of the mean difference is the narrower of two, each with 2.5 % beyond each end, so that both together err
    with 5 % at most (Bonferroni). One has the deviation of the n differences. The other has the deviation sigma of
    ``known``: runs of one seed share part of their noise, so that the standard error is at most sigma sqrt(2 / n).
    Losses that are equal to the bit have no noise. Raises AnalysisError where neither deviation is known.
    """
    differences = np.asarray(again, dtype=float) - np.asarray(before, dtype=float)
    difference, count = float(differences.mean()), len(differences)
    if not differences.any():
        return Equivalence(0.0, 0.0, 0.0, margin)
    spreads = (pooled_deviation([known]), math.sqrt(2 / count)), (pooled_deviation([differences]), math.sqrt(1 / count))
    halves = [t_quantile(degrees, 0.975) * sigma * factor for (sigma, degrees), factor in spreads if degrees]
    if not halves:
        raise AnalysisError("the deviation of a run follows from at least two runs")
    return Equivalence(difference, difference - min(halves), difference + min(halves), margin)
