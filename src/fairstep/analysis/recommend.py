"""Which optimizer for a workload that nobody ran: expected speedups over AdamW, with intervals that widen off the data.

The logarithm of an optimizer's speedup is a Gaussian process over (log2 parameters, log2 Chinchilla ratio, log2 batch):
universal kriging (Matheron 1969; Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, sections 2.2
and 2.7). Its covariance has four parts, whose sizes are those of the data (maximum marginal likelihood over all
optimizers together):

* a level and three slopes of the optimizer: inside the data an average, outside it a line that gets unsure;
* a wandering deviation from the line (exponential covariance, so that no direction is carried on beyond the data),
  which forgets at a rate of its own along each axis;
* the study: tuning, data and code make two studies of one cell differ. A new workload is a study of its own, so its
  interval contains all of that; a store's own contests are the same study as the workload that is asked about;
* the cell: what is left, beside the error that a point's source states.

Differences in loss follow from speedups through ``fall_law``: the nats that AdamW gains when tokens double.

Places are ties unless two speedups are separated at 95 %, each pair by itself, their errors taken as independent.

Checked by leaving out published data (docs/recommend.md): 95 % intervals cover 96 % of left-out cells, 93 % of the
cells of a left-out model size, 94 % of those of a left-out paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairstep.analysis.laws import Law
from fairstep.analysis.powers import Array
from fairstep.analysis.ranking import ranking
from fairstep.analysis.recommend_points import BASELINE, NORMAL, Point, Target
from fairstep.analysis.statistics import AnalysisError

AXES = ("matrix parameters", "Chinchilla ratio", "tokens a batch")
LEAST_POINTS = 3
START = (0.2, 0.05, 0.05, 0.05, 0.1, 0.1, 0.05, 4.0, 4.0, 4.0)
BOUNDS = ((1e-3, 3.0),) * 7 + ((0.5, 30.0),) * 3
FAR = 1.0
"""Doublings beyond the data along an axis from which a workload counts as outside it."""


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

    def covariance(self, a: Array, b: Array, studies: tuple[Sequence[str], Sequence[str]]) -> Array:
        """(n, m) of true values at places a (n, 3) and b (m, 3) of the given studies, without the part of the cell."""
        slopes = np.array([self.slope_size, self.slope_ratio, self.slope_batch]) ** 2
        reaches = np.array([self.reach_size, self.reach_ratio, self.reach_batch])
        distance = np.sqrt((((a[:, None] - b[None]) / reaches) ** 2).sum(-1))
        same = np.array(studies[0])[:, None] == np.array(studies[1])[None]
        line: Array = self.level**2 + (a * slopes) @ b.T
        return line + self.wander**2 * np.exp(-distance) + self.study**2 * same


@dataclass(frozen=True)
class Forecast:
    """An optimizer's speedup in tokens over AdamW at a workload, ``chance`` that it is above 1, ``gap`` in nats.

    ``rank_best`` and ``rank_worst`` are the range of its rank, ``cells`` how many points speak of it, ``nearest`` the
    closest, ``outside`` how the workload lies beyond all of them.
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
    tied: bool
    cells: int
    nearest: Point | None
    distance: float
    outside: tuple[str, ...]


def fit_scales(points: Iterable[Point]) -> Scales:
    """The scales under which the points are most likely, all optimizers together."""
    from scipy.optimize import minimize

    groups = [_arrays(members) for members in _by_optimizer(points).values()]
    middle = _middle(points)

    def unlikely(logs: Array) -> float:
        scales = Scales(*np.exp(logs))
        parts = [_unlikely(scales, places - middle, *rest) for places, *rest in groups]  # type: ignore[arg-type]
        return float(np.sum(parts))

    bounds = [(math.log(low), math.log(high)) for low, high in BOUNDS]
    found = minimize(unlikely, np.log(START), method="L-BFGS-B", bounds=bounds, options={"maxiter": 80})
    return Scales(*map(float, np.exp(found.x)))


def forecast(
    points: Collection[Point],
    target: Target,
    law: Law,
    study: str = "",
    scales: Scales | None = None,
    fall: float | None = None,
) -> list[Forecast]:
    """Forecasts for every optimizer with at least three points, and AdamW itself; highest speedup first.

    ``study``: that of the target, for a store's own contests; ``fall``: nats per doubling at the target, if it is known
    better than by ``law``. Raises AnalysisError without points.
    """
    from scipy.special import ndtr

    groups = {name: members for name, members in _by_optimizer(points).items() if len(members) >= LEAST_POINTS}
    if not groups:
        raise AnalysisError("no optimizer has been compared with AdamW in three or more cells")
    scales = scales or fit_scales(points)
    middle = _middle(points)
    values = {name: _predict(scales, members, target, study, middle) for name, members in groups.items()}
    values[BASELINE] = (0.0, 0.0)
    places = {place.name: place for place in ranking({n: -v for n, (v, _) in values.items()}, _separation(values))}
    fall = law.at(target.parameters, target.tokens) if fall is None else fall
    found = []
    for name, (value, deviation) in values.items():
        ends = (value, value - NORMAL * deviation, value + NORMAL * deviation)
        gap, gap_low, gap_high = (gap_of(end, fall, law.parameters["B"]) for end in ends)
        members = groups.get(name, [])
        nearest = min(members, key=lambda point: apart(point, target), default=None)
        found.append(
            Forecast(
                optimizer=name,
                speedup=2 ** ends[0],
                low=2 ** ends[1],
                high=2 ** ends[2],
                chance=float(ndtr(value / deviation)) if deviation else 0.5,
                gap=gap,
                gap_low=gap_low,
                gap_high=gap_high,
                rank_best=places[name].best,
                rank_worst=places[name].worst,
                tied=places[name].best != places[name].worst,
                cells=len(members),
                nearest=nearest,
                distance=apart(nearest, target) if nearest else 0.0,
                outside=outside(members, target) if members else (),
            )
        )
    return sorted(found, key=lambda row: -row.speedup)


def gap_of(log_speedup: float, fall: float, exponent: float) -> float:
    """Nats that AdamW's loss falls by from D to S D tokens, when doubling D gains ``fall`` ~ D^-exponent at D."""
    grown = 1 - 2 ** (-exponent * log_speedup)
    return float(fall * grown / (exponent * math.log(2)))


def apart(point: Point, target: Target) -> float:
    """Distance in doublings, over all three axes."""
    return math.dist(point.place, target.place)


def outside(points: Collection[Point], target: Target) -> tuple[str, ...]:
    """A sentence part for every axis along which the target lies more than a doubling beyond all points."""
    found = []
    for axis, name in enumerate(AXES):
        known, here = [point.place[axis] for point in points], target.place[axis]
        beyond = max(min(known) - here, here - max(known))
        if beyond > FAR:
            side = "below" if here < min(known) else "above"
            found.append(f"{name} {2**beyond:.3g} times {side} the data")
    return tuple(found)


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
    known = scales.covariance(places, places, (studies, studies))
    return known + np.diag(errors**2 + scales.cell**2)


def _unlikely(scales: Scales, places: Array, studies: Sequence[str], values: Array, errors: Array) -> float:
    """Negative logarithm of the likelihood, without its constant."""
    lower = np.linalg.cholesky(_noisy(scales, places, studies, errors))
    white = np.linalg.solve(lower, values)
    return float(white @ white / 2 + np.log(np.diag(lower)).sum())


def _predict(scales: Scales, points: Sequence[Point], target: Target, study: str, middle: Array) -> tuple[float, float]:
    """log2 of the speedup of a well-tuned run at the target, and its standard deviation."""
    places, studies, values, errors = _arrays(points)
    here = np.array([target.place]) - middle
    cross = scales.covariance(here, places - middle, ([study], studies))[0]
    weights = np.linalg.solve(_noisy(scales, places - middle, studies, errors), cross)
    prior = scales.covariance(here, here, ([study], [study]))[0, 0] + scales.cell**2
    return float(weights @ values), math.sqrt(max(prior - float(weights @ cross), 0.0))


def _separation(values: Mapping[str, tuple[float, float]]) -> Callable[[str, str], bool]:
    def separated(first: str, second: str) -> bool:
        (a, s), (b, t) = values[first], values[second]
        return abs(a - b) > NORMAL * math.hypot(s, t)

    return separated
