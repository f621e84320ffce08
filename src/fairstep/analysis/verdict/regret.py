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

A search that goes from one hyperparameter to the next has the losses along some beside another configuration than the
chosen one. With x_j the places of that one, m_i there is moved by -rho_ij sqrt(c_j / c_i) x_j, which every draw undoes.
Losses of shorter schedules stand in where there are none at the length of the final runs; an optimum moves by ``DRIFT``
steps with every doubling of the tokens, and the search carries the learning rate.

Equal optimizers, tuned by such a grid, differ by r_a - r_b, so an interval that names optimizers adds
1.96 sqrt(E (r_a - r_b)^2) in quadrature. A hyperparameter without a loss on both sides of its chosen value gives no
curvature and is not covered: its best value is at an edge, or it is a word or a switch.

In simulations with the learning rate alone, plain intervals called 9 to 50 % of equal pairs different, and intervals
with this term at most 6 % (docs/log.md, ``tests/analysis/test_regret.py``). With two to four hyperparameters:
docs/results/thrift.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairstep.runs.frozen import is_number

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

DRIFT = 0.25
"""Steps that the best value of a hyperparameter moves when tokens double (deviation; W, docs/results/thrift.md)."""

Configuration = Mapping[str, Any]
Results = Sequence[tuple[Configuration, float]]


@dataclass(frozen=True)
class Line:
    """Places ``x`` and losses ``y`` along one hyperparameter, beside the places ``beside`` of others (0: chosen, left
    out; of one that is not covered, not used). ``drift``: deviation in steps of its centre from the one at the length
    of the final runs."""

    x: np.ndarray
    y: np.ndarray
    beside: Mapping[str, float] = field(default_factory=dict)
    drift: float = 0.0

    @property
    def bends(self) -> bool:
        """Whether the losses are on both sides of the chosen value, and not all equal."""
        return bool(self.x.min() < 0 < self.x.max() and np.ptp(self.y) > 0)


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
    """Losses around a chosen configuration, in nats per token. ``lines``: the hyperparameters with a curvature.
    ``planes``: two hyperparameters -> places of the first, of the second, and losses, of the configurations that differ
    from the chosen one in both of them."""

    lines: Mapping[str, Line]
    planes: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, tried: Results, chosen: Configuration, shorter: Results = (), doublings: float = 0.0) -> Neighbours:
        """From all configurations ``tried`` and their losses, and from ``shorter`` schedules, which have so many
        doublings of tokens fewer than the final runs. Diverged runs, words and switches are left out."""
        near = [(one, loss) for one, loss in tried if one.keys() == chosen.keys() and math.isfinite(loss)]
        early = [(one, loss) for one, loss in shorter if one.keys() == chosen.keys() and math.isfinite(loss)]
        numeric = [name for name in chosen if all(_number(name, one[name]) for one, _ in ((chosen, 0), *near, *early))]
        places = {name: _places(name, chosen[name], {one[name] for one, _ in (*near, *early)}) for name in numeric}
        lines: dict[str, Line] = {}
        for name in numeric:
            line = _line(name, near, chosen, places)
            if line is None and name != "lr":
                line = _line(name, early, chosen, places, DRIFT * doublings)
            if line is not None:
                lines[name] = line
        straight = {name: set(line.x) for name, line in lines.items() if not line.beside and not line.drift}
        planes: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for one, loss in near:
            moved = tuple(sorted(name for name in chosen if one[name] != chosen[name]))
            if len(moved) == 2 and set(moved) <= straight.keys():
                a, b = (places[name][one[name]] for name in moved)
                if a in straight[moved[0]] and b in straight[moved[1]]:
                    planes.setdefault((moved[0], moved[1]), []).append((a, b, loss))
        return cls(lines, {pair: tuple(np.array(points).T) for pair, points in planes.items()})

    @property
    def covered(self) -> tuple[str, ...]:
        """Hyperparameters with losses on both sides of the chosen value."""
        return tuple(sorted(self.lines))

    def regret(self, sigma: float) -> Regret | None:
        """The regret of the chosen values. ``sigma``: deviation of one run's loss over seeds, in nats.

        None where no hyperparameter has a curvature: no point on one side of the chosen value, no noise to weigh the
        points by, or no spread.
        """
        if not self.lines or not sigma > 0:
            return None
        known = {name: _Posterior.of(self.lines[name], sigma) for name in self.covered}
        if len(known) > 1 or any(line.drift for line in self.lines.values()):
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
        for i, name in enumerate(known):
            line = self.lines[name]
            m[:, i] += line.drift * generator.standard_normal(DRAWS)
            for j, other in enumerate(known):
                m[:, i] += correlation[:, i, j] * root[:, j] / root[:, i] * line.beside.get(other, 0.0)
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
        first, second, (pa, pb, py) = self.lines[pair[0]], self.lines[pair[1]], self.planes[pair]
        a = np.concatenate([first.x, np.zeros_like(second.x), pa])
        b = np.concatenate([np.zeros_like(first.x), second.x, pb])
        shape = ca * ((a - ma) ** 2 - ma**2) + cb * ((b - mb) ** 2 - mb**2)
        residual = np.concatenate([first.y, second.y, py]) - shape
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
    def of(cls, line: Line, sigma: float) -> _Posterior:
        x, y = line.x, line.y
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


def _line(
    name: str, tried: Results, chosen: Configuration, places: Mapping[str, Mapping[Any, float]], drift: float = 0.0
) -> Line | None:
    """The losses along one hyperparameter, beside the chosen configuration or else the nearest to it; None where none
    have a curvature. With a ``drift`` the schedules are shorter, and the learning rate may be any."""
    found: dict[tuple[tuple[str, Any], ...], dict[float, float]] = {}
    for one, loss in tried:
        others = tuple((n, value) for n, value in sorted(one.items()) if n != name)
        found.setdefault(others, {})[places[name][one[name]]] = loss
    lines: list[tuple[tuple[float, float], Line]] = []
    for others, losses in found.items():
        moved = {n: value for n, value in others if value != chosen[n] and not (drift and n == "lr")}
        beside = {n: places[n][value] for n, value in moved.items() if n in places}
        if 0.0 in losses and moved.keys() == beside.keys() and max(map(abs, beside.values()), default=0.0) <= REACH:
            used = _used(name, losses)
            distance = (len(beside), sum(map(abs, beside.values())) + (min(losses.values()) if drift else 0.0))
            lines.append((distance, Line(np.array(list(used)), np.array(list(used.values())), beside, drift)))
    ordered = [line for _, line in sorted(lines, key=lambda pair: pair[0])]
    if whole := next((line for line in ordered if line.bends), None):
        return whole
    below = next((line for line in ordered if line.x.min() < 0), None)
    above = next((line for line in ordered if line.x.max() > 0), None)
    joined = _joined(below, above) if below and above else None
    return joined if joined and joined.bends else None


def _joined(below: Line, above: Line) -> Line:
    """A line from two that lie beside different configurations, one on each side: differences from the chosen value's
    loss. An interaction moves its centre by half of what it moves each."""
    x = np.concatenate([below.x[below.x < 0], [0.0], above.x[above.x > 0]])
    sides = [line.y[chosen] - line.y[line.x == 0] for line, chosen in ((below, below.x < 0), (above, above.x > 0))]
    names = below.beside.keys() | above.beside.keys()
    beside = {name: (below.beside.get(name, 0.0) + above.beside.get(name, 0.0)) / 2 for name in names}
    return Line(x, np.concatenate([sides[0], [0.0], sides[1]]), beside, below.drift)


def _places(name: str, chosen: Any, values: Iterable[Any]) -> dict[Any, float]:
    """Values -> places x."""
    ordered = sorted({*values, chosen})
    if name == "lr":
        return {value: math.log2(value / chosen) for value in ordered}
    return {value: float(x) for x, value in enumerate(ordered, -ordered.index(chosen))}


def _used(name: str, losses: Mapping[float, float]) -> dict[float, float]:
    """The places that a parabola goes through, with their losses."""
    below, above = [x for x in losses if x < -1e-9], [x for x in losses if x > 1e-9]
    reach = max(-max(below, default=0.0), min(above, default=0.0), math.log2(WINDOW) if name == "lr" else 0.0) + 1e-9
    return {x: loss for x, loss in sorted(losses.items()) if abs(x) <= reach}


def _number(name: str, value: Any) -> bool:
    return is_number(value) and (name != "lr" or value > 0)
