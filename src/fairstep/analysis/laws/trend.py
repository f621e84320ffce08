"""Does the advantage shrink? The trend of a speedup against model size and against data ratio, with its interval.

All speedups at one size share the baseline's law, so their errors are not independent. A regression over all cells
would be too sure of itself. The unit is therefore the size (a summary-measures analysis):

* against size, the mean log speedup of each size is regressed on log parameters;
* against data ratio, each size gives one slope, and the mean of the slopes gets a t-interval over sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairstep.analysis.statistics import AnalysisError, Estimate, mean_interval, t_quantile


@dataclass(frozen=True)
class Trend:
    """Factor of the speedup when size (or data ratio) doubles: below 1 it shrinks. ``sizes``: how many there were."""

    factor: float
    low: float
    high: float
    sizes: int

    @property
    def direction(self) -> str:
        """``shrinks``, ``grows``, or ``not separable`` from no trend."""
        return "shrinks" if self.high < 1 else "grows" if self.low > 1 else "not separable"


def size_trend(rows: Iterable[Mapping[str, Any]], parameters: Mapping[str, float], ratios: Sequence[float]) -> Trend:
    """Against size, over the sizes that have a speedup at every one of ``ratios`` (so that means are comparable).

    ``rows``: ``model_size, chinchilla_ratio, speedup`` of one optimizer. Raises AnalysisError below two such sizes.
    """
    table = _by_size(rows)
    complete = {size: at for size, at in table.items() if all(ratio in at for ratio in ratios)}
    if len(complete) < 2:
        raise AnalysisError(
            f"a trend needs speedups at two or more sizes at ratios {list(ratios)}, not {len(complete)}"
        )
    x = np.log2([parameters[size] for size in complete])
    y = np.array([np.mean([math.log2(at[ratio]) for ratio in ratios]) for at in complete.values()])
    return _trend(straight_line(x, y), len(complete))


def ratio_trend(rows: Iterable[Mapping[str, Any]]) -> Trend:
    """Against the data ratio at fixed size. Raises AnalysisError when no size has two ratios."""
    several = [at for at in _by_size(rows).values() if len(at) > 1]
    slopes = [straight_line(np.log2(list(at)), np.log2(list(at.values()))).value for at in several]
    if not slopes:
        raise AnalysisError("a trend against the data ratio needs a size with speedups at two or more ratios")
    return _trend(mean_interval(slopes), len(slopes))


def straight_line(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Slope of the least-squares line, with its t-interval (infinite with two points). Raises AnalysisError."""
    if x.size < 2 or np.ptp(x) == 0:
        raise AnalysisError("a slope needs at least two different places")
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * y).sum() / spread)
    if x.size == 2:
        return Estimate(slope, -math.inf, math.inf, math.nan, 2)
    residual = y - y.mean() - slope * (x - x.mean())
    error = math.sqrt(float((residual**2).sum()) / (x.size - 2) / spread)
    half = t_quantile(x.size - 2) * error
    return Estimate(slope, slope - half, slope + half, error * math.sqrt(x.size), int(x.size))


def _trend(slope: Estimate, sizes: int) -> Trend:
    return Trend(2**slope.value, 2**slope.low, 2**slope.high, sizes)


def _by_size(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[float, float]]:
    table: dict[str, dict[float, float]] = {}
    for row in rows:
        if row["speedup"] and math.isfinite(row["speedup"]):
            table.setdefault(row["model_size"], {})[row["chinchilla_ratio"]] = row["speedup"]
    return table
