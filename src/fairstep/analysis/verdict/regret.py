"""What a finer learning-rate grid could still gain: the regret of the chosen rate, from the search's own losses.

A verdict names optimizers, and the loss of an optimizer is the loss at its best learning rate. The chosen rate is the
best of a grid with one noisy run at each point. Around it the loss is taken as

    L(x) = L* + c (x - x*)^2,    x = log2(rate / chosen),

and the regret of the choice is r = c x*^2. Its mean and variance come from the posterior of (x*, c) given the tuning
losses. The prior is flat in x* over the points used, and flat in log c around the spread of the losses. L* is
integrated out. The deviation of one run is given. Equal optimizers, tuned by this grid, differ by r_a - r_b, so an
interval that names optimizers adds 1.96 sqrt(E (r_a - r_b)^2) in quadrature.

In simulations plain intervals called 9 to 50 % of equal pairs different, and intervals with this term at most 6 %
(docs/log.md, ``tests/analysis/test_regret.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = 2.1
"""Points within this factor of the chosen rate are used; farther ones do not lie on a parabola. Of coarser grids, the
nearest on each side."""

CURVATURES = np.geomspace(1 / 16, 4, 65)
"""Curvatures c that are weighed, over the spread of the losses used (nats per squared doubling)."""


@dataclass(frozen=True)
class Regret:
    """Mean and variance, in nats and squared nats, of what the chosen learning rate loses to the best one."""

    mean: float
    variance: float

    def difference(self, other: Regret) -> float:
        """Root of the mean squared difference of two regrets, in nats."""
        return math.sqrt(self.variance + other.variance + (self.mean - other.mean) ** 2)


def regret(rates: Sequence[float], losses: Sequence[float], chosen: float, sigma: float) -> Regret | None:
    """The regret of ``chosen``, one of ``rates``, whose tuning runs ended at ``losses`` in nats per token.

    ``sigma``: deviation of one run's loss over seeds, in nats.

    None where the losses give no curvature: no point on one side of the chosen rate, no noise to weigh them by, or no
    spread. Diverged runs are left out by the caller.
    """
    x = np.log2(np.asarray(rates, dtype=float) / chosen)
    y = np.asarray(losses, dtype=float)
    below, above = x[x < -1e-9], x[x > 1e-9]
    if not (len(below) and len(above)) or not sigma > 0:
        return None
    reach = max(math.log2(WINDOW), -below.max(), above.min()) + 1e-9
    near = np.abs(x) <= reach
    x, y = x[near], y[near]
    spread = float(np.ptp(y))
    if spread == 0:
        return None
    width = np.abs(x).max()
    best = np.linspace(-width, width, 97)[:, None]  # x*
    curvature = spread * CURVATURES  # c
    shape = (best[..., None] - x) ** 2  # (x*, 1, point)
    residual = y - curvature[:, None] * shape  # (x*, c, point), without L*
    squares = ((residual - residual.mean(-1, keepdims=True)) ** 2).sum(-1)
    weights = np.exp((squares.min() - squares) / (2 * sigma**2))
    weights /= weights.sum()
    values = curvature * best**2
    mean = float((weights * values).sum())
    return Regret(mean, max(float((weights * values**2).sum()) - mean**2, 0.0))
