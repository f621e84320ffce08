"""The baseline's loss against tokens, from separate full runs at several budgets.

Each point is the mean final loss of runs with one budget and its own schedule. A point inside one run would not do: its
learning rate has not decayed yet. Between budgets the loss is a monotone cubic of log tokens (Fritsch and Butland, SIAM
J. Sci. Stat. Comput. 5, 1984). Straight lines would lie above a convex curve and overstate every speedup, by up to 3 %
between budgets a factor of 2 apart.

A loss that rises with tokens is noise, or the hyperparameters do not suit the budget. Isotonic regression, weighted by
the number of runs, repairs it: budgets that are out of order become equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fairstep.analysis.statistics import AnalysisError, pooled_deviation, t_quantile

Array = NDArray[np.float64]

LEAST_FALL = 1e-9
"""Nats per token by which every budget lies below the one before, so that a repaired curve can be inverted."""

SMOOTHED = 4
"""Budgets from which on a law is laid through them. A cubic through every noisy point would make intervals wider with
every budget."""

EXPONENTS = np.linspace(0.05, 1.5, 59)
"""Exponents B that are tried."""

HALVINGS = 60
"""Of the interval between two budgets in which a loss is sought: to the last bit of its log tokens."""

DRAWN = 16
"""Points between two budgets that are drawn."""


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
        """Mean losses after smoothing and repair: the curve that is inverted."""
        return tuple(self.falling(np.array([self.losses]))[0].tolist())

    def falling(self, losses: Array) -> Array:
        """Curves (draws, budgets) through losses (draws, budgets): smooth from ``SMOOTHED`` budgets on, and falling."""
        return repair(losses @ self.smoother.T, self.counts)

    @cached_property
    def smoother(self) -> Array:
        """Matrix (budgets, budgets) from losses to the law L = beta + alpha D^-B nearest to them in weighted squares.

        B is the one that fits the means best. Its own error enters by the law's derivative after B, D^-B log D, as a
        third term. The identity below ``SMOOTHED`` budgets.
        """
        if len(self.tokens) < SMOOTHED:
            return np.eye(len(self.tokens))
        logs = np.log(np.array(self.tokens, dtype=float) / self.tokens[-1])
        means, roots = np.array(self.losses), np.sqrt(self.counts)

        def basis(exponent: float) -> Array:
            power = np.exp(-exponent * logs)
            return np.stack([np.ones_like(logs), power, power * logs], axis=1) * roots[:, None]

        def squares(exponent: float) -> float:
            two = basis(exponent)[:, :2]
            return float(((two @ np.linalg.lstsq(two, means * roots, rcond=None)[0] - means * roots) ** 2).sum())

        best = basis(min(EXPONENTS, key=squares))
        return best @ np.linalg.pinv(best) * roots[None, :] / roots[:, None]

    @property
    def rises(self) -> bool:
        """Whether a budget's loss lies above a smaller budget's beyond noise (95 %, deviation pooled over budgets)."""
        sigma, degrees = pooled_deviation(self.runs)
        if not degrees:
            return False
        limit = t_quantile(degrees) * sigma
        budgets = list(zip(self.losses, 1 / self.counts, strict=True))
        return any(
            after - before > limit * np.sqrt(one + other)
            for (before, one), (after, other) in itertools.combinations(budgets, 2)
        )

    @property
    def counts(self) -> Array:
        """Runs at every budget."""
        return np.array([len(losses) for losses in self.runs], dtype=float)


def curve_line(tokens: Sequence[float], fitted: Sequence[float]) -> tuple[list[float], list[float]]:
    """The curve through the repaired losses at the budgets, read off finely enough to be drawn: tokens and losses."""
    from scipy.interpolate import PchipInterpolator

    if len(tokens) == 1:
        return list(tokens), list(fitted)
    logs = np.log(np.array(tokens, dtype=float))
    parts = [np.linspace(start, end, DRAWN, endpoint=False) for start, end in itertools.pairwise(logs)]
    x = np.append(np.concatenate(parts), logs[-1])
    return np.exp(x).tolist(), PchipInterpolator(logs, fitted)(x).tolist()


def repair(losses: Array, weights: Array) -> Array:
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


def inverse(log_tokens: Array, curves: Array, target: Array) -> Array:
    """Log tokens (draws,) at which falling curves (draws, budgets) reach target losses (draws,), which lie between the
    losses of the first and the last of at least two budgets. A budget's own loss is found at exactly its tokens."""
    from scipy.interpolate import PchipInterpolator

    draw = np.arange(target.size)
    right = np.clip((curves > target[:, None]).sum(axis=1), 1, log_tokens.size - 1)
    start, end = log_tokens[right - 1], log_tokens[right]
    cubic = PchipInterpolator(log_tokens, curves, axis=1).c[:, right - 1, draw]
    low, high = np.zeros(target.size), end - start
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = np.polyval(cubic, middle) > target
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(curves[draw, right] == target, end, start + low)
