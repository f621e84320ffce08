"""A loss difference as tokens: how many tokens the baseline needs for the contestant's loss.

    speedup = tokens that the baseline needs for the contestant's final loss / tokens of the contestant   (W section 4)

**Curve.** The baseline's mean final losses at several budgets (``laws.baseline_curve``).

**Anchor.** Let d be the paired difference baseline - contestant at the contest's budget T. On the baseline's scale the
contestant's loss is curve(T) - d, and speedup = curve^-1(curve(T) - d) / T. So d = 0 gives a speedup of exactly 1, and
speedup > 1 exactly when d > 0.

**Interval.** Two noises matter: the noise of d, and the noise of the curve, whose budgets have few seeds. Both are
drawn together. d runs over the quantiles 1/2000, 2/2000, ... of its t-distribution, stretched to the verdict's interval
(looks and learning rates). Every point of the curve is drawn
from the t-distribution of sigma / sqrt(its runs), where sigma is pooled over the repeated runs of baseline and
contestant. At T the two noises are not independent, because d contains the same runs. With equal variances on both
sides, the regression of the baseline's error on the error of d has slope 1/2 and leaves the variance
sigma^2 - s_d^2 / 4, whatever the correlation within pairs. ``low`` and ``high`` are the 50th smallest and largest
speedup. Every draw obeys the anchor (d_i > 0 exactly when speedup_i > 1), and the 50th quantile of d *is* the end of
its t-interval. Hence

    low > 1  <=>  the interval of d lies above 0,        high < 1  <=>  it lies below 0,

and the interval in tokens can never contradict the paired test that gives the verdict.

**Bounds.** Nothing is extrapolated. A loss below the largest budget's gives the ratio of that budget, flagged "at
least". A loss above the smallest budget's gives the ratio of that budget, flagged "at most". Ends of the interval are
clipped in the same way, so a contest at the largest (smallest) budget shows "at least 1.00" ("at most 1.00").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairstep.analysis.laws.baseline_curve import Array, BaselineCurve, inverse
from fairstep.analysis.statistics import LEVEL, AnalysisError, Estimate, pooled_deviation

DRAWS = 2000
TAIL = round(DRAWS * (1 - LEVEL) / 2)
SEED = 20_240_901
"""Of the curve's noise: the same runs always give the same interval."""

Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class Speedup:
    """Tokens of the baseline over tokens of the contestant. ``limits``: the ratios that the budgets can show."""

    value: float
    low: float
    high: float
    bound: Bound | None
    limits: tuple[float, float]


def token_speedup(curve: BaselineCurve, difference: Estimate, tokens: int, contestant: Sequence[float] = ()) -> Speedup:
    """Speedup of a contestant whose paired difference (baseline - contestant) at ``tokens`` is given.

    ``contestant``: its final losses, which only sharpen the estimate of the noise. Without an interval of the
    difference, the speedup's interval is the whole of ``limits``. Raises AnalysisError when the curve has no run at
    ``tokens``.
    """
    if tokens not in curve.tokens:
        raise AnalysisError(
            f"the baseline has no run at the contest's budget of {tokens} tokens, only at {curve.tokens}"
        )
    anchor = curve.tokens.index(tokens)
    ratios = np.array(curve.tokens, dtype=float) / tokens
    limits = (float(ratios[0]), float(ratios[-1]))
    losses = np.array(curve.losses)

    value, beyond = _invert(ratios, curve.falling(losses[None]), anchor, np.array([difference.value]))
    bound: Bound | None = "at least" if beyond[0] > 0 else "at most" if beyond[0] < 0 else None
    if not difference.has_interval:
        return Speedup(float(value[0]), *limits, bound, limits)

    drawn = _difference_quantiles(difference)
    noisy = losses + _curve_noise(curve, anchor, difference, drawn, contestant)
    speedups = np.sort(_invert(ratios, curve.falling(noisy), anchor, drawn)[0])
    return Speedup(float(value[0]), float(speedups[TAIL - 1]), float(speedups[-TAIL]), bound, limits)


def shifted_speedup(curve: BaselineCurve, difference: float, tokens: int) -> float:
    """Speedup at another difference from the baseline, without an interval: how sensitive it is."""
    ratios = np.array(curve.tokens, dtype=float) / tokens
    fitted = curve.falling(np.array([curve.losses]))
    return float(_invert(ratios, fitted, curve.tokens.index(tokens), np.array([difference]))[0][0])


def _difference_quantiles(difference: Estimate) -> Array:
    """Quantiles 1/DRAWS .. (DRAWS-1)/DRAWS of the difference; numbers TAIL and -TAIL are its interval's ends."""
    from scipy.special import stdtrit

    probability = np.arange(1, DRAWS) / DRAWS
    student = stdtrit(difference.count - 1, probability)
    drawn: Array = difference.value + (difference.high - difference.value) * student / student[-TAIL]
    drawn[TAIL - 1], drawn[-TAIL] = difference.low, difference.high
    return drawn


def _curve_noise(
    curve: BaselineCurve, anchor: int, difference: Estimate, drawn: Array, contestant: Sequence[float]
) -> Array:
    """Errors of the curve's points (draws, budgets); zero where nothing was repeated."""
    sigma, degrees = pooled_deviation([*curve.runs, contestant])
    if not degrees:
        return np.zeros((drawn.size, len(curve.tokens)))
    deviation = np.full(len(curve.tokens), sigma)
    deviation[anchor] = np.sqrt(max(sigma**2 - difference.deviation**2 / 4, 0.0))
    noise = np.random.default_rng(SEED).standard_t(degrees, (drawn.size, len(curve.tokens)))
    noise *= deviation / np.sqrt(curve.counts)
    noise[:, anchor] += (drawn - difference.value) / 2
    return noise


def _invert(ratios: Array, curves: Array, anchor: int, difference: Array) -> tuple[Array, Array]:
    """Speedups (draws,) of differences (draws,) on falling curves (draws, budgets); +1 or -1 where beyond the budgets.

    In logs of ratios the anchor is at exactly 0, so a difference of 0 is found at exactly 1.
    """
    target = curves[:, anchor] - difference
    beyond = (target < curves[:, -1]).astype(float) - (target > curves[:, 0])
    if ratios.size == 1:
        return np.ones_like(target), beyond
    speedup = np.exp(inverse(np.log(ratios), curves, target))
    return np.where(beyond > 0, ratios[-1], np.where(beyond < 0, ratios[0], speedup)), beyond
