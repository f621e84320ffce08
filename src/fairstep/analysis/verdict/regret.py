"""What a finer grid could still gain: the regret of the chosen hyperparameters, from the search's own losses.

A verdict names optimizers, and the loss of an optimizer is the loss at its best hyperparameters. The chosen ones are
the best of a grid with one noisy run at each point. Along one hyperparameter, through the chosen configuration, the
loss is taken as

    L(x) = L* + c (x - m)^2,

where x is 0 at the chosen value: log2(rate / chosen) of a learning rate, steps of the grid of any other. The posterior
of (m, c) given the tuning losses has a prior flat in m over the points used, and flat in log c around the spread of the
losses. L* is integrated out. The deviation of one run is given.

Of one hyperparameter the regret is r = c m^2. Of several, with u_i = m_i sqrt(c_i), it is

    r = u' P^-1 u,

where P has ones on its diagonal and rho_ij = d^2 L / dx_i dx_j / (2 sqrt(c_i c_j)) beside it. Configurations of the
search that differ from the chosen one in two hyperparameters give rho_ij; where there are none, it is uniform up to
1 / (n - 1) for n hyperparameters, which keeps one optimum. Mean and variance of r are over draws from these posteriors
whose optimum lies within ``REACH`` times the points used.

Equal optimizers, tuned by such a grid, differ by r_a - r_b, so an interval that names optimizers adds
1.96 sqrt(E (r_a - r_b)^2) in quadrature. A hyperparameter whose chosen value is the outermost one tried, or that was
tried beside another configuration only, gives no curvature and is not covered.

In simulations with the learning rate alone, plain intervals called 9 to 50 % of equal pairs different, and intervals
with this term at most 6 % (docs/log.md, ``tests/analysis/test_regret.py``). With two to four hyperparameters:
docs/results/thrift.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOW = 2.1
"""Learning rates within this factor of the chosen one are used; farther ones do not lie on a parabola. Of coarser
grids, and of other hyperparameters, the nearest on each side."""

CURVATURES = np.geomspace(1 / 16, 4, 65)
"""Curvatures c that are weighed, over the spread of the losses used (nats per squared step)."""

DRAWS = 1500
"""Draws from the posteriors of several hyperparameters: the deviation of r has an error of about 2 %."""

REACH = 2.0
"""The optimum over several hyperparameters is at most this many times as far away as the points used."""

WIDEST = 0.99
"""Largest |rho|."""

Line = tuple[np.ndarray, np.ndarray]
"""Places x along one hyperparameter, and losses."""


@dataclass(frozen=True)
class Regret:
    """Mean and variance, in nats and squared nats, of what the chosen hyperparameters lose to the best ones."""

    mean: float
    variance: float

    def difference(self, other: Regret) -> float:
        """Root of the mean squared difference of two regrets, in nats."""
        return math.sqrt(self.variance + other.variance + (self.mean - other.mean) ** 2)


@dataclass(frozen=True)
class Neighbours:
    """Losses around a chosen configuration, in nats per token. ``lines``: hyperparameter -> places and losses of the
    configurations that differ from it in nothing else. ``planes``: two hyperparameters -> the same for both."""

    lines: Mapping[str, Line]
    planes: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, tried: Iterable[tuple[Mapping[str, Any], float]], chosen: Mapping[str, Any]) -> Neighbours:
        """From all configurations ``tried`` and their losses. Diverged runs, words and switches are left out."""
        moved: dict[tuple[str, ...], list[tuple[Mapping[str, Any], float]]] = {}
        for configuration, loss in tried:
            names = tuple(sorted(n for n in configuration if configuration[n] != chosen.get(n)))
            if len(names) <= 2 and configuration.keys() == chosen.keys() and math.isfinite(loss):
                moved.setdefault(names, []).append((configuration, loss))
        here = [loss for _, loss in moved.pop((), [])]
        places: dict[str, dict[float, float]] = {}
        lines: dict[str, Line] = {}
        for name in (names[0] for names in moved if len(names) == 1 and here):
            if all(_number(one[name]) for one in (chosen, *(tried for tried, _ in moved[name,]))):
                losses = {float(tried[name]): loss for tried, loss in moved[name,]} | {float(chosen[name]): here[0]}
                places[name] = _places(name, float(chosen[name]), losses)
                lines[name] = np.array(list(places[name].values())), np.array([losses[v] for v in places[name]])
        planes = {}
        for names in moved:
            if len(names) == 2 and set(names) <= places.keys():
                a, b = names
                on = [(places[a].get(t[a]), places[b].get(t[b]), loss) for t, loss in moved[names]]
                if near := [point for point in on if None not in point]:
                    planes[a, b] = tuple(np.array(near, dtype=float).T)
        return cls(lines, planes)

    @property
    def covered(self) -> tuple[str, ...]:
        """Hyperparameters with losses on both sides of the chosen value."""
        return tuple(sorted(name for name, line in self.lines.items() if _bends(*line)))

    def regret(self, sigma: float, only: Iterable[str] | None = None) -> Regret | None:
        """The regret of the chosen values, or of ``only`` some of them. ``sigma``: deviation of one run's loss over
        seeds, in nats.

        None where no hyperparameter has a curvature: no point on one side of the chosen value, no noise to weigh the
        points by, or no spread.
        """
        names = [name for name in self.covered if only is None or name in only]
        if not names or not sigma > 0:
            return None
        known = {name: _Posterior.of(*self.lines[name], sigma) for name in names}
        if len(known) > 1:
            return self._joint(known, sigma)
        (posterior,) = known.values()
        values = posterior.curvature * posterior.best**2
        mean = float((posterior.weights * values).sum())
        return Regret(mean, max(float((posterior.weights * values**2).sum()) - mean**2, 0.0))

    def _joint(self, known: Mapping[str, _Posterior], sigma: float) -> Regret:
        generator = np.random.default_rng(0)
        drawn = {name: posterior.draw(generator) for name, posterior in known.items()}  # (m, c) of every draw
        correlation = np.tile(np.eye(len(known)), (DRAWS, 1, 1))  # P
        for (i, a), (j, b) in itertools.combinations(enumerate(known), 2):
            uniform = generator.random(DRAWS)
            if (a, b) in self.planes:
                rho = self._interaction((a, b), drawn, sigma, uniform)
            else:
                rho = (2 * uniform - 1) * min(1 / (len(known) - 1), WIDEST)
            correlation[:, i, j] = correlation[:, j, i] = rho
        m = np.stack([drawn[name][0] for name in known], -1)
        root = np.sqrt(np.stack([drawn[name][1] for name in known], -1))
        one_optimum = np.linalg.eigvalsh(correlation)[:, 0] > 1e-3
        correlation[~one_optimum] = np.eye(len(known))
        solved = np.linalg.solve(correlation, (root * m)[..., None])[..., 0]
        width = np.array([posterior.width for posterior in known.values()])
        kept = one_optimum & (np.abs(solved / root) <= REACH * width).all(-1)
        values = (root * m * solved).sum(-1)[kept] if kept.any() else ((root * m) ** 2).sum(-1)
        return Regret(float(values.mean()), float(values.var()))

    def _interaction(
        self,
        pair: tuple[str, str],
        drawn: Mapping[str, tuple[np.ndarray, np.ndarray]],
        sigma: float,
        uniform: np.ndarray,
    ) -> np.ndarray:
        """rho of every draw, from a normal posterior cut at ``WIDEST``: the residuals of the two lines and of their
        plane against x_a x_b."""
        from scipy.special import ndtr, ndtri

        (ma, ca), (mb, cb) = (tuple(value[:, None] for value in drawn[name]) for name in pair)
        (xa, ya), (xb, yb), (pa, pb, py) = self.lines[pair[0]], self.lines[pair[1]], self.planes[pair]
        a = np.concatenate([xa, np.zeros_like(xb), pa])
        b = np.concatenate([np.zeros_like(xa), xb, pb])
        shape = ca * ((a - ma) ** 2 - ma**2) + cb * ((b - mb) ** 2 - mb**2)
        residual = np.concatenate([ya, yb, py]) - shape
        product = a * b - (a * b).mean()
        slope = (residual * product).sum(-1) / (product**2).sum()  # d^2 L / dx_a dx_b
        deviation = sigma / math.sqrt((product**2).sum())
        scale = 2 * np.sqrt(ca * cb)[:, 0]
        low, high = (ndtr((end * scale - slope) / deviation) for end in (-WIDEST, WIDEST))
        cut = np.clip(low + uniform * (high - low), 1e-12, 1 - 1e-12)
        return np.clip((slope + deviation * ndtri(cut)) / scale, -WIDEST, WIDEST)


@dataclass(frozen=True)
class _Posterior:
    """``best`` (m, as a column) and ``curvature`` (c, as a row) with their ``weights``; the points lie within ``width``
    of 0."""

    best: np.ndarray
    curvature: np.ndarray
    weights: np.ndarray
    width: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, sigma: float) -> _Posterior:
        """Given losses y at places x."""
        width = float(np.abs(x).max())
        best = np.linspace(-width, width, 97)[:, None]
        curvature = float(np.ptp(y)) * CURVATURES
        shape = (best[..., None] - x) ** 2  # (m, 1, point)
        residual = y - curvature[:, None] * shape  # (m, c, point), without L*
        squares = ((residual - residual.mean(-1, keepdims=True)) ** 2).sum(-1)
        weights = np.exp((squares.min() - squares) / (2 * sigma**2))
        return cls(best, curvature, weights / weights.sum(), width)

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """m and c of every draw."""
        total = np.cumsum(self.weights.ravel())
        at = np.minimum(np.searchsorted(total, generator.random(DRAWS) * total[-1]), total.size - 1)
        row, column = np.unravel_index(at, self.weights.shape)
        return self.best[row, 0], self.curvature[column]


def _bends(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(x.min() < 0 < x.max() and np.ptp(y) > 0)


def _places(name: str, chosen: float, values: Iterable[float]) -> dict[float, float]:
    """Values -> places x, of those that are used."""
    ordered = sorted(values)
    if name != "lr":
        at = ordered.index(chosen)
        return {value: float(x) for x, value in enumerate(ordered, -at) if abs(x) <= 1}
    x = {value: math.log2(value / chosen) for value in ordered if value > 0 < chosen}
    below, above = [place for place in x.values() if place < -1e-9], [place for place in x.values() if place > 1e-9]
    if not below or not above:
        return x
    reach = max(math.log2(WINDOW), -max(below), min(above)) + 1e-9
    return {value: place for value, place in x.items() if abs(place) <= reach}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
