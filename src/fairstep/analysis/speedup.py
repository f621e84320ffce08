"""A loss difference as tokens: how many tokens the baseline needs for the contestant's loss.

    speedup = tokens that the baseline needs for the contestant's final loss / tokens of the contestant   (W section 4)

**Curve.** The baseline's mean final loss of separate full runs, each with its own schedule, at several budgets; never
a point inside one run, whose learning rate has not decayed yet. Between budgets the loss is a monotone cubic of log
tokens (Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5, 1984). Straight lines would lie above a convex curve and so
overstate every speedup, by up to 3 % between budgets a factor of 2 apart. A loss that rises with tokens is noise, or
hyperparameters that do not suit the budget; it is repaired by isotonic regression, weighted by the number of runs,
which makes budgets that are out of order equal.

**Anchor.** With d = the paired difference baseline - contestant at the contest's budget T, the contestant's loss on the
baseline's scale is curve(T) - d, and speedup = curve^-1(curve(T) - d) / T. So d = 0 is a speedup of exactly 1, and
d > 0 exactly when speedup > 1.

**Interval.** Two noises matter: that of d, and that of the curve, whose budgets have few seeds. Both are drawn
together: d over the quantiles 1/2000, 2/2000, ... of its t-distribution, and every point of the curve from the
t-distribution of the deviation sigma pooled over the repeated runs of baseline and contestant, over sqrt(its runs). At
the budget T the noise is not independent of d, which contains the same runs: with equal variances on both sides the
regression of the baseline's error on that of d has slope 1/2 and leaves the variance sigma^2 - s_d^2 / 4, whatever the
correlation within pairs. ``low`` and ``high`` are the 50th smallest and largest speedup. Every draw obeys the anchor
(d_i > 0 exactly when speedup_i > 1), and the 50th quantile of d *is* the end of its t-interval; hence

    low > 1  <=>  the interval of d lies above 0,        high < 1  <=>  it lies below 0,

and the interval in tokens can never contradict the paired test that gives the verdict.

**Bounds.** Nothing is extrapolated. A loss below that of the largest budget trained gives that budget's ratio, flagged
"at least"; one above that of the smallest budget, "at most". Ends of the interval are clipped in the same way, so a
contest at the largest (smallest) budget shows "at least 1.00" ("at most 1.00").
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairstep.analysis.statistics import LEVEL, AnalysisError, Estimate, pooled_deviation

DRAWS = 2000
TAIL = round(DRAWS * (1 - LEVEL) / 2)
SEED = 20_240_901
"""Of the curve's noise: the same runs always give the same interval."""

LEAST_FALL = 1e-9
"""Nats per token by which every budget lies below the one before, so that a repaired curve can be inverted."""

PIECES = 16
"""Straight pieces that stand for the cubic between two budgets."""

Bound = Literal["at least", "at most"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class BaselineCurve:
    """The baseline's final losses (nats per token): for every budget in tokens, rising, one loss per run."""

    tokens: tuple[int, ...]
    runs: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, runs: Mapping[int, Sequence[float]]) -> BaselineCurve:
        """Raises AnalysisError for no budgets, or one without tokens or runs."""
        if not runs or any(tokens <= 0 or not losses for tokens, losses in runs.items()):
            raise AnalysisError("a baseline curve needs budgets of at least one token with at least one run each")
        budgets = tuple(sorted(runs))
        return cls(budgets, tuple(tuple(runs[budget]) for budget in budgets))

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean loss at every budget."""
        return tuple(float(np.mean(losses)) for losses in self.runs)

    @property
    def fitted(self) -> tuple[float, ...]:
        """Mean losses after the repair: the curve that is inverted."""
        return tuple(_repair(np.array([self.losses]), self._counts)[0].tolist())

    @property
    def _counts(self) -> Array:
        return np.array([len(losses) for losses in self.runs], dtype=float)


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
    difference, that of the speedup is the whole of ``limits``. Raises AnalysisError when the curve has no run at
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

    value, beyond = _invert(ratios, _repair(losses[None], curve._counts), anchor, np.array([difference.value]))
    bound: Bound | None = "at least" if beyond[0] > 0 else "at most" if beyond[0] < 0 else None
    if not difference.has_interval:
        return Speedup(float(value[0]), *limits, bound, limits)

    drawn = _difference_quantiles(difference)
    noisy = losses + _curve_noise(curve, anchor, difference, drawn, contestant)
    speedups = np.sort(_invert(ratios, _repair(noisy, curve._counts), anchor, drawn)[0])
    return Speedup(float(value[0]), float(speedups[TAIL - 1]), float(speedups[-TAIL]), bound, limits)


def shifted_speedup(curve: BaselineCurve, difference: float, tokens: int) -> float:
    """Speedup at another difference from the baseline, without an interval: how sensitive it is."""
    ratios = np.array(curve.tokens, dtype=float) / tokens
    fitted = _repair(np.array([curve.losses]), curve._counts)
    return float(_invert(ratios, fitted, curve.tokens.index(tokens), np.array([difference]))[0][0])


def curve_line(tokens: Sequence[float], fitted: Sequence[float]) -> tuple[list[float], list[float]]:
    """The curve through the repaired losses at the budgets, read off finely enough to be drawn: tokens and losses."""
    x, y = _line(np.log(np.array(tokens, dtype=float)), np.array([fitted]))
    return np.exp(x).tolist(), y[0].tolist()


def _difference_quantiles(difference: Estimate) -> Array:
    """Quantiles 1/DRAWS .. (DRAWS-1)/DRAWS of the difference; numbers TAIL and -TAIL are its interval's ends."""
    from scipy.special import stdtrit

    probability = np.arange(1, DRAWS) / DRAWS
    drawn: Array = difference.value + difference.standard_error * stdtrit(difference.count - 1, probability)
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
    noise *= deviation / np.sqrt(curve._counts)
    noise[:, anchor] += (drawn - difference.value) / 2
    return noise


def _repair(losses: Array, weights: Array) -> Array:
    """Falling curves (draws, budgets) nearest to losses (draws, budgets) in weighted squares.

    The min-max formula of isotonic regression, g_k = min_{i<=k} max_{j>=k} mean(y_i..y_j), does all draws at once; it
    would be slow for many budgets, and a contest has a handful.
    """
    fitted = losses.copy()
    rising = (np.diff(losses, axis=1) > 0).any(axis=1)
    wrong, count = losses[rising], losses.shape[1]
    for k in range(count if rising.any() else 0):
        best = np.full(wrong.shape[0], np.inf)
        for i in range(k + 1):
            means = [np.average(wrong[:, i : j + 1], axis=1, weights=weights[i : j + 1]) for j in range(k, count)]
            best = np.minimum(best, np.max(means, axis=0))
        fitted[rising, k] = best
    return fitted - LEAST_FALL * np.arange(count)


def _line(log_tokens: Array, curves: Array) -> tuple[Array, Array]:
    """Curves (draws, budgets) on a fine grid that has every budget as a point: (points,) and losses (draws, points)."""
    from scipy.interpolate import PchipInterpolator

    if log_tokens.size == 1:
        return log_tokens, curves
    parts = [np.linspace(start, end, PIECES, endpoint=False) for start, end in itertools.pairwise(log_tokens)]
    x = np.append(np.concatenate(parts), log_tokens[-1])
    return x, PchipInterpolator(log_tokens, curves, axis=1)(x)


def _invert(ratios: Array, curves: Array, anchor: int, difference: Array) -> tuple[Array, Array]:
    """Speedups (draws,) of differences (draws,) on falling curves (draws, budgets); +1 or -1 where beyond the budgets.

    In logs of ratios the anchor is at exactly 0, so a difference of 0 is found at exactly 1.
    """
    target = curves[:, anchor] - difference
    beyond = (target < curves[:, -1]).astype(float) - (target > curves[:, 0])
    if ratios.size == 1:
        return np.ones_like(target), beyond
    x, y = _line(np.log(ratios), curves)
    draw = np.arange(target.size)
    right = np.clip((y > target[:, None]).sum(axis=1), 1, x.size - 1)
    left = right - 1
    share = np.clip((y[draw, left] - target) / (y[draw, left] - y[draw, right]), 0, 1)
    speedup = np.exp(x[left] + share * (x[right] - x[left]))
    return np.where(beyond > 0, ratios[-1], np.where(beyond < 0, ratios[0], speedup)), beyond
