"""Expected speedups over AdamW at a workload that nobody ran, with intervals that widen away from the data.

The logarithm of an optimizer's speedup is a Gaussian process over (log2 parameters, log2 Chinchilla ratio, log2 batch):
universal kriging (Matheron 1969; Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, sections 2.2
and 2.7). Its covariance has four parts. Their sizes maximise the marginal likelihood of all optimizers together:

* a level and three slopes of the optimizer. Outside the optimizer's data the line stays at its value at the nearest
  edge, since a trend over a factor of 10 says nothing about a factor of 10,000; what a slope could add there widens the
  interval;
* a wandering deviation from the line. Its covariance is exponential, so no direction is carried on beyond the data, and
  it has one length scale along each axis;
* the study. Two studies of one cell differ in tuning, data and code. A new workload is a new study, so its interval
  contains all of that; the contests of a store are of the same study as the workload that is asked about. Two papers
  give one difference, which says little about its size: it is at least ``LEAST_STUDY``;
* the cell: what is left, beside the error that a point's source states.

Gaps in loss follow from speedups through ``points.loss_drop_law``: the nats that AdamW gains when tokens double.

The scales are fitted and then treated as known. Intervals are therefore of Student's t with ``DEGREES``. With both
choices, and everything fitted anew without the cells left out, ``COVERAGE`` of the published cells lie in their
intervals (tests/recommend/test_coverage.py).

Where a workload is ``outside`` the data, the numbers are a guess at the edge, and nothing is concluded from them: no
verdict, no rank. Otherwise ranks are ties unless two speedups are separated at 95 %, each pair by itself, with
independent errors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairstep.analysis.laws.law import Law
from fairstep.analysis.laws.power_fit import Array
from fairstep.analysis.statistics import AnalysisError, t_quantile
from fairstep.analysis.verdict.ranking import ranking
from fairstep.recommend.points import BASELINE, Point, Target, log_distance

AXES = ("matrix parameters", "Chinchilla ratio", "tokens a batch")
LEAST_POINTS = 3
START = (0.2, 0.05, 0.05, 0.05, 0.1, 0.2, 0.05, 4.0, 4.0, 4.0)
LEAST_STUDY = 0.18
"""Least standard deviation between studies, in log2 of a speedup (13 %): the least one that covers a paper left out."""
BOUNDS = (*((1e-3, 3.0),) * 5, (LEAST_STUDY, 3.0), (1e-3, 3.0), *((0.5, 30.0),) * 3)
DEGREES = 5
"""Of Student's t: half an interval is 2.57 standard deviations."""
COVERAGE = {"paper": 0.944, "model size": 0.942, "cell": 0.973}
"""What is left out -> share of its published cells that lie in their 95 % intervals."""
FAR = 1.0
"""Doublings beyond the data along an axis from which a workload counts as outside it."""
LEAST_STEPS = 100
"""Optimizer steps below which nobody measured anything."""


@dataclass(frozen=True)
class Scales:
    """Standard deviations of the process in log2 of a speedup; slopes per doubling, reaches in doublings."""

    level: float
    slope_size: float
    slope_ratio: float
    slope_batch: float
    wander: float
    study: float
    cell: float
    reach_size: float
    reach_ratio: float
    reach_batch: float

    @property
    def slopes(self) -> Array:
        return np.array([self.slope_size, self.slope_ratio, self.slope_batch])

    @property
    def reaches(self) -> Array:
        return np.array([self.reach_size, self.reach_ratio, self.reach_batch])

    def covariance(self, a: Array, b: Array, studies: tuple[Sequence[str], Sequence[str]]) -> Array:
        """(n, m) of true values at places a (n, 3) and b (m, 3) of the given studies, without the part of the cell.

        b are the data: the line of a place beyond them is taken at their edge.
        """
        distance = np.sqrt((((a[:, None] - b[None]) / self.reaches) ** 2).sum(-1))
        same = np.array(studies[0])[:, None] == np.array(studies[1])[None]
        line: Array = self.level**2 + (a.clip(b.min(0), b.max(0)) * self.slopes**2) @ b.T
        return line + self.wander**2 * np.exp(-distance) + self.study**2 * same


@dataclass(frozen=True)
class Forecast:
    """An optimizer's speedup in tokens over AdamW at a workload, ``chance`` that it is above 1, ``gap`` in nats.

    ``rank_best`` and ``rank_worst`` are the range of its rank, ``cells`` how many points speak of it, ``nearest`` the
    closest, ``outside`` how the workload lies beyond all of them (then there is no verdict and no rank).
    """

    optimizer: str
    speedup: float
    low: float
    high: float
    chance: float
    gap: float
    gap_low: float
    gap_high: float
    rank_best: int
    rank_worst: int
    cells: int
    nearest: Point | None
    outside: tuple[str, ...]


@functools.cache
def fit_scales(points: tuple[Point, ...]) -> Scales:
    """The scales under which the points are most likely, all optimizers together, with the least study."""
    from scipy.optimize import minimize

    groups = [_arrays(members) for members in _by_optimizer(points).values()]
    middle = _middle(points)

    def unlikely(logs: Array) -> tuple[float, Array]:
        scales = Scales(*np.exp(logs))
        parts = [_unlikely(scales, places - middle, *rest) for places, *rest in groups]  # type: ignore[arg-type]
        return sum(value for value, _ in parts), np.sum([slopes for _, slopes in parts], axis=0)

    bounds = [(math.log(low), math.log(high)) for low, high in BOUNDS]
    fitted = minimize(unlikely, np.log(START), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return Scales(*map(float, np.exp(fitted.x)))


def forecast(
    points: Collection[Point],
    target: Target,
    law: Law,
    study: str = "",
    scales: Scales | None = None,
    drop: float | None = None,
) -> list[Forecast]:
    """Forecasts for every optimizer with at least three points, and AdamW itself; highest speedup first.

    ``study``: the target's, for the contests of a store; ``drop``: nats per doubling at the target, if it is known
    better than by ``law``. Raises AnalysisError without points.
    """
    from scipy.special import stdtr

    groups = {name: members for name, members in _by_optimizer(points).items() if len(members) >= LEAST_POINTS}
    if not groups:
        raise AnalysisError("no optimizer has been compared with AdamW in three or more cells")
    scales = scales or fit_scales(tuple(points))
    middle = _middle(points)
    values = {name: _predict(scales, members, target, study, middle) for name, members in groups.items()}
    values[BASELINE] = (0.0, 0.0)
    beyond = {name: outside(members, target) for name, members in groups.items()}
    judged = {name for name in values if not beyond.get(name)}
    separated = _separation(values, judged)
    places = {place.name: place for place in ranking({n: -v for n, (v, _) in values.items()}, separated)}
    drop = law.at(*law.clamped(target.parameters, target.tokens)) if drop is None else drop
    half, forecasts = t_quantile(DEGREES), []
    for name, (value, deviation) in values.items():
        ends = (value, value - half * deviation, value + half * deviation)
        gap, gap_low, gap_high = (gap_of(end, drop, law.parameters["B"]) for end in ends)
        members = groups.get(name, [])
        nearest = min(members, key=lambda point: log_distance(point, target), default=None)
        forecasts.append(
            Forecast(
                optimizer=name,
                speedup=2 ** ends[0],
                low=2 ** ends[1],
                high=2 ** ends[2],
                chance=float(stdtr(DEGREES, value / deviation)) if deviation else 0.5,
                gap=gap,
                gap_low=gap_low,
                gap_high=gap_high,
                rank_best=places[name].best,
                rank_worst=places[name].worst,
                cells=len(members),
                nearest=nearest,
                outside=beyond.get(name, ()),
            )
        )
    return sorted(forecasts, key=lambda row: -row.speedup)


def gap_of(log_speedup: float, drop: float, exponent: float) -> float:
    """Nats that AdamW's loss falls by from D to S D tokens, when doubling D gains ``drop`` ~ D^-exponent at D."""
    grown = 1 - 2 ** (-exponent * log_speedup)
    return float(drop * grown / (exponent * math.log(2)))


def outside(points: Collection[Point], target: Target) -> tuple[str, ...]:
    """A sentence part for every axis along which the target lies more than a doubling beyond all points, and for a run
    of fewer than ``LEAST_STEPS`` steps."""
    steps = int(target.tokens // target.batch_tokens)
    parts = [f"{steps} step{'s' * (steps != 1)}, fewer than {LEAST_STEPS}"] if steps < LEAST_STEPS else []
    for axis, name in enumerate(AXES):
        places, here = [point.place[axis] for point in points], target.place[axis]
        beyond = max(min(places) - here, here - max(places))
        if beyond > FAR:
            side = "below" if here < min(places) else "above"
            parts.append(f"{name} {2**beyond:.3g} times {side} the data")
    return tuple(parts)


def _by_optimizer(points: Iterable[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.optimizer, []).append(point)
    return groups


def _middle(points: Iterable[Point]) -> Array:
    return np.mean([point.place for point in points], axis=0)


def _arrays(points: Sequence[Point]) -> tuple[Array, list[str], Array, Array]:
    places = np.array([point.place for point in points])
    values = np.array([point.value for point in points])
    return places, [point.study for point in points], values, np.array([point.deviation for point in points])


def _noisy(scales: Scales, places: Array, studies: Sequence[str], errors: Array) -> Array:
    exact = scales.covariance(places, places, (studies, studies))
    return exact + np.diag(errors**2 + scales.cell**2)


def _unlikely(
    scales: Scales, places: Array, studies: Sequence[str], values: Array, errors: Array
) -> tuple[float, Array]:
    """Negative logarithm of the likelihood, without its constant, and its derivatives by the logarithms of the scales.

    With K the covariance of the values y and a = K^-1 y, the derivative is tr((K^-1 - a a^T) dK) / 2 (Rasmussen and
    Williams, equation 5.9).
    """
    lower = np.linalg.cholesky(_noisy(scales, places, studies, errors))
    inverse = np.linalg.inv(lower)
    white = inverse @ values
    solved = inverse.T @ white
    weights = inverse.T @ inverse - np.outer(solved, solved)
    apart = places[:, None] - places[None]
    terms = (apart / scales.reaches) ** 2
    distance = np.sqrt(terms.sum(-1))
    near = scales.wander**2 * np.exp(-distance)
    same = np.array(studies)[:, None] == np.array(studies)[None]
    shares = np.divide(terms, distance[..., None], out=np.zeros_like(terms), where=distance[..., None] > 0)
    slopes = (
        scales.level**2 * weights.sum(),
        *(scales.slopes**2 * np.einsum("ij,ik,jk->k", weights, places, places)),
        (weights * near).sum(),
        scales.study**2 * weights[same].sum(),
        scales.cell**2 * np.trace(weights),
        *(np.einsum("ij,ijk->k", weights * near, shares) / 2),
    )
    return float(white @ white / 2 + np.log(np.diag(lower)).sum()), np.array(slopes)


def _predict(scales: Scales, points: Sequence[Point], target: Target, study: str, middle: Array) -> tuple[float, float]:
    """log2 of the speedup of a well-tuned run at the target, and its standard deviation."""
    places, studies, values, errors = _arrays(points)
    here = np.array([target.place]) - middle
    cross = scales.covariance(here, places - middle, ([study], studies))[0]
    weights = np.linalg.solve(_noisy(scales, places - middle, studies, errors), cross)
    edge = here.clip((places - middle).min(0), (places - middle).max(0))
    beyond = float((((here - edge) * scales.slopes) ** 2).sum())
    prior = scales.covariance(edge, edge, ([study], [study]))[0, 0] + scales.cell**2 + beyond
    return float(weights @ values), math.sqrt(max(prior - float(weights @ cross), 0.0))


def _separation(values: Mapping[str, tuple[float, float]], judged: Collection[str]) -> Callable[[str, str], bool]:
    half = t_quantile(DEGREES)

    def separated(first: str, second: str) -> bool:
        (a, s), (b, t) = values[first], values[second]
        return first in judged and second in judged and abs(a - b) > half * math.hypot(s, t)

    return separated
