"""Scaling laws with intervals: loss against tokens, loss against size and tokens, hyperparameters against both.

    loss_law            L(D)    = alpha D^-B + beta                 one model size (W section 4)
    joint_law           L(N, D) = a N^-A + b D^-B + c               Hoffmann et al., arXiv 2203.15556, eq. 2
    hyperparameter_law  h(N, D) = alpha N^-A D^-B                   straight in logs: grids are factors apart
    offset_law          h(N, D) = alpha N^-A D^-B + beta            W's form for hyperparameters (its phase III)

The fit is least squares in nats (in logs for the hyperparameter law). Each point is weighted by its number of runs.

**Noise.** sigma comes from repeated runs, or is given. If the residuals scatter more (F test at 5 %), the law does not
fit, and their scatter is used instead; otherwise both are pooled. Without repeated runs the residuals alone give sigma.

**Intervals** are 95 % and from a bootstrap of 1,000 refits. Each refit adds errors of Student's t, with the degrees of
freedom of sigma, to the fitted values. Resampling whole points is not offered: many draws do not determine the law, and
the intervals cover 91 % with 12 points (docs/log.md).

**Grids.** A hyperparameter that was tried at factors of 2 is known to half a factor only. Its logarithm carries the
variance of that rounding, (ln 2)^2 / 12, beside sigma.

**leave_one_out** is the root mean square error of predicting each point from the others. It says most about a law: with
four points and three parameters the residuals look small whatever the truth is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fairstep.analysis.laws.power_fit import Array, Form, fit
from fairstep.analysis.statistics import LEVEL, AnalysisError, plain, pooled_deviation

DRAWS = 1000
SEED = 20_250_902
FAR = 300.0
"""Logarithm of the factor at which draws end. With one degree of freedom they may be anywhere, and beyond what numbers
hold products are undefined."""
HUGE = 1e300
SAME_GRID = 0.05
"""Steps by which a value may lie off its grid: grids are written with two digits."""
SURPRISING = 3.0
"""Times the rmse above which leaving one point out says that a single point decides the law."""
LEAST_ERROR = 1e-9
"""Nats, or in logs: smaller errors are rounding."""
COLLINEAR = 0.99
"""Correlation of the logarithms of size and tokens from which their exponents cannot be told apart."""

LOSS = Form(("alpha", "beta"), ("B",), ((0,), ()), (0,), ((0.02, 2.0),))
JOINT = Form(("a", "b", "c"), ("A", "B"), ((0,), (1,), ()), (0, 1), ((0.02, 1.5), (0.02, 1.5)))
OFFSET = Form(("alpha", "beta"), ("A", "B"), ((0, 1), ()), (0, 1), ((-1.5, 1.5), (-1.5, 1.5)), free=True)
POWER = Form(("alpha",), ("A", "B"), ((0, 1),), (0, 1), ((-2.0, 2.0), (-2.0, 2.0)))


@dataclass(frozen=True)
class Noise:
    """Standard deviation of one run's value, known with so many degrees of freedom."""

    sigma: float
    degrees: float


@dataclass(frozen=True)
class Law:
    """A fitted law. ``low`` and ``high`` are -inf and inf where the points give no interval.

    ``x`` (n, m) and ``y`` (n,) are the points; ``draws`` (DRAWS, p) are refitted parameters, in the order of
    ``form.parameters``; ``warnings`` are sentences that belong beside every use.
    """

    form: Form
    x: Array = field(repr=False)
    y: Array = field(repr=False)
    vector: Array = field(repr=False)
    draws: Array = field(repr=False)
    rmse: float
    leave_one_out: float
    noise: Noise
    warnings: tuple[str, ...]
    logarithmic: bool = False

    @property
    def parameters(self) -> dict[str, float]:
        return dict(zip(self.form.parameters, map(float, self.vector), strict=True))

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % interval of every parameter."""
        return {name: self._interval(self.draws[:, place]) for place, name in enumerate(self.form.parameters)}

    @property
    def residuals(self) -> tuple[float, ...]:
        """Point minus law, in the unit of the points."""
        return tuple((self.y - self._values(self.vector[None], self.x)[0]).tolist())

    def at(self, *x: float) -> float:
        """The law's value at one x."""
        return float(self._values(self.vector[None], np.array([x]))[0, 0])

    def interval_at(self, *x: float) -> tuple[float, float]:
        """95 % interval of the law's value at one x (of the law, not of a run, which adds its own noise)."""
        return self._interval(self._values(self.draws, np.array([x]))[:, 0])

    def covers(self, *x: float) -> bool:
        """Whether x lies within the points along every axis."""
        point = np.array(x)
        return bool(((self.x.min(0) <= point) & (point <= self.x.max(0))).all())

    def clamped(self, *x: float) -> tuple[float, ...]:
        """x, or along every axis where it lies beyond the points the nearest end of them."""
        return tuple(np.clip(np.array(x), self.x.min(0), self.x.max(0)).tolist())

    def inverse(self, loss: float | Array) -> float:
        """Of a loss law: D at which the law reaches a loss; inf if it never does."""
        return float(inverse(self.vector[None], np.array([loss]))[0])

    def row(self) -> dict[str, object]:
        """Flat JSON: parameters with intervals, errors, warnings."""
        row: dict[str, object] = {}
        for name, (low, high) in self.intervals.items():
            row |= {name: self.parameters[name], f"{name}_low": plain(low), f"{name}_high": plain(high)}
        row |= {"points": len(self.y), "rmse": self.rmse, "leave_one_out": plain(self.leave_one_out)}
        return row | {"sigma": plain(self.noise.sigma), "warnings": " ".join(self.warnings)}

    def _values(self, parameters: Array, x: Array) -> Array:
        with np.errstate(over="ignore"):  # a draw far out is infinite
            return self.form.value(parameters, np.log(x))

    def _interval(self, drawn: Array) -> tuple[float, float]:
        if not len(drawn):
            return -math.inf, math.inf
        finite = np.clip(drawn, -HUGE, HUGE)  # between two infinite draws nothing is defined
        low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="weibull")
        return _ended(low), _ended(high)


def _ended(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= HUGE else float(value)


def inverse(parameters: Array, loss: Array) -> Array:
    """D (sets,) at which loss laws (sets, 3) reach losses (sets,); inf where they never do."""
    alpha, beta, exponent = parameters.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        tokens = ((loss - beta) / alpha) ** (-1 / exponent)
    return np.where((loss > beta) & (alpha > 0), tokens, np.inf)


Losses = Sequence[float | Sequence[float]]
"""For every point one value, or the values of its repeated runs."""


def loss_law(tokens: Sequence[float], losses: Losses, noise: Noise | None = None) -> Law:
    """Loss in nats against tokens, or against Chinchilla ratios. Raises AnalysisError for too few or bad points."""
    return _law(LOSS, np.array(tokens, dtype=float)[:, None], losses, noise)


def joint_law(sizes: Sequence[float], tokens: Sequence[float], losses: Losses, noise: Noise | None = None) -> Law:
    """Loss against matrix parameters and tokens. Raises AnalysisError for too few or bad points."""
    return _law(JOINT, np.column_stack([sizes, tokens]).astype(float), losses, noise)


def offset_law(
    sizes: Sequence[float], tokens: Sequence[float], values: Sequence[float], noise: Noise | None = None
) -> Law:
    """A hyperparameter by W's own form. On values that lie on a grid of factors of 2 it is nearly degenerate."""
    return _law(OFFSET, np.column_stack([sizes, tokens]).astype(float), list(values), noise)


def hyperparameter_law(
    sizes: Sequence[float], tokens: Sequence[float], values: Sequence[float], step: float | None = None
) -> Law:
    """A positive hyperparameter as a power of size and tokens: linear regression in logs. Raises AnalysisError.

    ``step``: factor between neighbours of the grid that the values were chosen from, 1: no grid. None: 2 or its root
    where all values are whole steps apart, else 1.
    """
    if any(not value > 0 for value in values):
        raise AnalysisError("a hyperparameter law needs positive values, since it is fitted in logs")
    grid = math.log(_grid_step(values) if step is None else step)
    x = np.column_stack([sizes, tokens]).astype(float)
    return _law(POWER, x, list(values), None, logarithmic=True, grid=grid)


def _grid_step(values: Sequence[float]) -> float:
    places = np.log2(np.array(values, dtype=float))
    for steps in (1, 2):
        apart = steps * (places - places[:1])
        if np.abs(apart - apart.round()).max(initial=0) < SAME_GRID:
            return float(2 ** (1 / steps))
    return 1.0


def _law(
    form: Form, x: Array, values: Losses, noise: Noise | None, logarithmic: bool = False, grid: float = 0.0
) -> Law:
    """The law of these values. Of values that it was asked for before it is the one that it was."""
    groups = tuple(tuple(np.atleast_1d(np.asarray(group, dtype=float)).tolist()) for group in values)
    return _fitted(form, tuple(map(tuple, x.tolist())), groups, noise, logarithmic, grid)


@functools.lru_cache(maxsize=256)
def _fitted(
    form: Form,
    places: tuple[tuple[float, ...], ...],
    values: tuple[tuple[float, ...], ...],
    noise: Noise | None,
    logarithmic: bool,
    grid: float,
) -> Law:
    x, groups = np.array(places), [np.array(group) for group in values]
    y, counts = _checked(form, x, groups)
    if noise is None and (pooled := pooled_deviation([group.tolist() for group in groups]))[1]:
        noise = Noise(*pooled)
    solve = _solve_in_logs if logarithmic else fit
    again = solve if logarithmic else functools.partial(fit, grid=8, tolerance=1e-8)
    vector = solve(form, x, y[None], counts[None])[0]
    fitted = form.value(vector, np.log(x))
    residuals = np.log(y) - np.log(fitted) if logarithmic else y - fitted
    spare = len(y) - len(form.parameters)
    warnings = _warnings(form, x, vector, len(y), spare)
    noise = _noise(noise, float((counts * residuals**2).sum()), spare, warnings)
    noise = Noise(math.hypot(noise.sigma, grid / math.sqrt(12)), noise.degrees)
    rng = np.random.default_rng(SEED)
    if noise.degrees > 0:
        errors = noise.sigma * student(rng, noise.degrees, DRAWS, len(y)) / np.sqrt(counts)
        drawn = fitted * np.exp(np.clip(errors, -FAR, FAR)) if logarithmic else fitted + errors
        draws = again(form, x, drawn, np.broadcast_to(counts, drawn.shape))
    else:
        draws = np.empty((0, len(form.parameters)))
    rmse = float(np.sqrt((residuals**2).mean()))
    out = _leave_one_out(form, x, y, counts, logarithmic) if spare > 0 else math.nan
    if out > max(SURPRISING * rmse, LEAST_ERROR):
        warnings.append(
            f"Points left out are missed by {out:.2g}, and fitted points by {rmse:.2g}: single points decide the law."
        )
    law = Law(form, x, y, vector, draws, rmse, out, noise, (), logarithmic)
    return replace(law, warnings=(*warnings, *_cut(law)))


def _cut(law: Law) -> list[str]:
    """A sentence for every end of an interval that is a bound of the fit, unless the estimate is at that bound too."""
    if not len(law.draws) or law.logarithmic:  # regression in logs has no bounds
        return []
    form = law.form
    coefficients = dict.fromkeys(form.coefficients, (-math.inf if form.free else 0.0, math.inf))
    bounds = coefficients | dict(zip(form.exponents, form.bounds, strict=True))
    return [
        f"The interval of {name} ends at the bound of the fit, {bound:g}: without the bound it would be wider."
        for name, pair in bounds.items()
        for end, bound in zip(law.intervals[name], pair, strict=True)
        if math.isclose(end, bound, abs_tol=1e-9) and not math.isclose(law.parameters[name], bound, abs_tol=1e-9)
    ]


def student(rng: np.random.Generator, degrees: float, sets: int, points: int) -> Array:
    """Errors (sets, points) whose unknown sigma is one for all points of a set: normal over a common chi.

    Every column runs through the quantiles 1/2, 3/2, ... of its distribution over ``sets``, shuffled (a Latin
    hypercube): the ends of an interval then depend on the draw much less than with independent numbers.
    """
    from scipy.special import chdtri, ndtri

    def quantiles() -> Array:
        return (rng.permutation(sets) + 0.5) / sets

    scale = np.sqrt(degrees / chdtri(degrees, quantiles())) if math.isfinite(degrees) else np.ones(sets)
    columns = [ndtri(quantiles()) for _ in range(points)]
    return np.column_stack(columns) * scale[:, None]


def _checked(form: Form, x: Array, groups: list[Array]) -> tuple[Array, Array]:
    if len(groups) != len(x):
        raise AnalysisError(f"a law needs one value for each of its {len(x)} points, not {len(groups)}")
    if any(not group.size or not np.isfinite(group).all() for group in groups):
        raise AnalysisError("a law needs a finite value at every point; leave diverged and unfinished runs out")
    if not (np.isfinite(x).all() and (x > 0).all()):
        raise AnalysisError("a law needs positive sizes and token counts")
    wanted = len(form.parameters)
    if len(np.unique(x, axis=0)) < wanted:
        raise AnalysisError(f"a law of {wanted} parameters needs at least {wanted} different points, not {len(x)}")
    for column in set(form.variables):
        if len(np.unique(x[:, column])) < 2:
            raise AnalysisError("a law needs at least two different values along every axis")
    y = np.array([group.mean() for group in groups])
    if form in (LOSS, JOINT) and np.ptp(y) == 0:
        raise AnalysisError(f"all losses are {y[0]:g}, so no law can be fitted to how they fall")
    return y, np.array([group.size for group in groups], dtype=float)


def _noise(noise: Noise | None, squares: float, spare: int, warnings: list[str]) -> Noise:
    """Sigma from repeated runs and residuals together, or from residuals that say that the law does not fit."""
    if noise is None or not noise.degrees:
        return Noise(math.sqrt(squares / spare), spare) if spare > 0 else Noise(math.nan, 0)
    if spare < 1 or not math.isfinite(noise.degrees):
        return noise
    from scipy.special import fdtrc

    if noise.sigma == 0 or fdtrc(spare, noise.degrees, squares / spare / noise.sigma**2) < 1 - LEVEL:
        warnings.append("The points scatter about the law more than repeated runs do: the law does not quite fit.")
        return Noise(math.sqrt(squares / spare), spare)
    total = noise.degrees + spare
    return Noise(math.sqrt((noise.degrees * noise.sigma**2 + squares) / total), total)


def _warnings(form: Form, x: Array, vector: Array, points: int, spare: int) -> list[str]:
    warnings = []
    if spare <= 1:
        more = "no" if spare <= 0 else "only one"
        warnings.append(
            f"{points} points for {len(vector)} parameters leave {more} degree of freedom to check the law by."
        )
    if len(form.exponents) == 2 and abs(float(np.corrcoef(np.log(x).T)[0, 1])) > COLLINEAR:
        warnings.append(
            f"Size and tokens are collinear (tokens follow size): {' and '.join(form.exponents)} cannot be told apart, "
            "and the law holds along that line only."
        )
    for place, (low, high) in enumerate(form.bounds, len(form.coefficients)):
        if np.isclose(vector[place], low) or np.isclose(vector[place], high):
            warnings.append(f"The exponent {form.parameters[place]} is at its bound of {vector[place]:g}.")
    if not form.free and (zero := [n for n, v in zip(form.coefficients, vector, strict=False) if v <= 0]):
        warnings.append(f"{', '.join(zero)} is at its bound of 0.")
    return warnings


def _leave_one_out(form: Form, x: Array, y: Array, counts: Array, logarithmic: bool) -> float:
    weights = np.where(np.eye(len(y), dtype=bool), 0.0, counts)
    parameters = (_solve_in_logs if logarithmic else fit)(form, x, np.broadcast_to(y, weights.shape), weights)
    predicted = np.diagonal(form.value(parameters, np.log(x)))
    errors = np.log(y / predicted) if logarithmic else y - predicted
    return float(np.sqrt((errors**2).mean()))


def _solve_in_logs(form: Form, x: Array, y: Array, weights: Array) -> Array:
    """One term, no offset: exact weighted regression of log y on logs of x."""
    design = np.column_stack([np.ones(len(x)), -np.log(x[:, list(form.variables)])])
    middle = design.mean(0) * [0, *[1] * (design.shape[1] - 1)]
    centred = design - middle
    alike = weights[:1] if (weights == weights[0]).all() else weights  # draws of one data set share their weights
    normal = np.einsum("np,sn,nq->spq", centred, alike, centred)
    right = np.einsum("np,sn->sp", centred, weights * np.log(y))
    solved = (np.linalg.pinv(normal) @ right[..., None])[..., 0]
    solved[:, 0] = np.exp(np.clip(solved[:, 0] - (solved[:, 1:] * middle[1:]).sum(1), -FAR, FAR))
    return solved
