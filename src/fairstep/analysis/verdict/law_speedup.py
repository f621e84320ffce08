"""Speedups by W's definition: the baseline's law of one size, inverted at another optimizer's loss.

    S = D_baseline / D,   D_baseline = ((L - beta) / alpha)^(-1 / B)                              (W section 4)

This definition is for tables with one loss in each cell. The law smooths and extrapolates, and the contestant's loss is
compared with the law instead of the baseline's run. A straight line between budgets (in log tokens) stands beside it.
Where the two disagree, the shape of the law decides the number.

A contest's verdict does not rest on it but on ``speedup.py``: paired seeds, anchored at the contest's budget, nothing
extrapolated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairstep.analysis.laws.law import DRAWS, SEED, Law, Noise, inverse, loss_law, student
from fairstep.analysis.laws.power_fit import Array
from fairstep.analysis.statistics import LEVEL, AnalysisError

MILLINAT = 1e-3


@dataclass(frozen=True)
class LawSpeedup:
    """``value`` by the law with its interval; ``per_millinat``: relative change of it when the loss falls by 0.001;
    ``straight``: by straight lines between the budgets, nan beyond them. inf: the law never reaches the loss."""

    value: float
    low: float
    high: float
    per_millinat: float
    straight: float


def law_speedup(law: Law, loss: float, tokens: float, noise: Noise | None = None, runs: int = 1) -> LawSpeedup:
    """Speedup of a mean final ``loss`` of ``runs`` runs at ``tokens`` (in the unit of the law).

    ``noise``: of one run, by default the law's. The interval draws the law's points and the loss together. Raises
    AnalysisError for a loss that is not finite or a budget that is not positive.
    """
    if not (math.isfinite(loss) and tokens > 0):
        raise AnalysisError(f"a speedup needs a finite loss at a positive budget, not {loss} at {tokens}")
    noise = noise or law.noise
    value = law.inverse(loss) / tokens
    low, high = -math.inf, math.inf
    if len(law.draws) and noise.degrees > 0:
        rng = np.random.default_rng(SEED + 1)
        drawn = loss + noise.sigma / math.sqrt(runs) * student(rng, noise.degrees, DRAWS, 1)[:, 0]
        ends = np.sort(inverse(law.draws, drawn) / tokens)
        low, high = (float(ends[round(share * (DRAWS - 1))]) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    change = law.inverse(loss - MILLINAT) / tokens / value - 1 if math.isfinite(value) else math.nan
    return LawSpeedup(value, low, high, change, straight_speedup(law.x[:, 0], law.y, loss, tokens))


def straight_speedup(budgets: Array, losses: Array, loss: float, tokens: float) -> float:
    """By a straight line in log tokens between the two budgets that enclose the loss; nan where none do."""
    for (left, above), (right, below) in itertools.pairwise(zip(np.log(budgets), losses, strict=True)):
        if above >= loss >= below and above > below:
            return float(np.exp(left + (above - loss) / (above - below) * (right - left)) / tokens)
    return math.nan


Cells = Mapping[tuple[str, str, float], float]
"""(optimizer, model size, tokens or ratio) -> loss."""


def speedup_rows(
    cells: Cells, baseline: str, noise: Noise | None, fit_to: Sequence[float] | None = None
) -> list[dict[str, object]]:
    """One flat row for every cell of another optimizer: ``optimizer, model_size, chinchilla_ratio, speedup, low, high,
    per_millinat, straight, gap`` (baseline - contestant in the same cell, nan without one).

    ``fit_to``: the budgets that the baseline's laws are fitted to, default all. Raises AnalysisError when the baseline
    has too few budgets at a size.
    """
    if not any(optimizer == baseline for optimizer, _, _ in cells):
        raise AnalysisError(f"the baseline {baseline!r} has no losses, so there is nothing to compare with")
    laws = {}
    for size in dict.fromkeys(size for _, size, _ in cells):
        curve = {at: loss for (name, where, at), loss in cells.items() if (name, where) == (baseline, size)}
        budgets = sorted(at for at in curve if fit_to is None or at in fit_to)
        try:
            laws[size] = loss_law(budgets, [curve[at] for at in budgets], noise)
        except AnalysisError as error:
            raise AnalysisError(f"{baseline} at {size}: {error}") from None
    rows: list[dict[str, object]] = []
    for (optimizer, size, at), loss in cells.items():
        if optimizer != baseline:
            try:
                speedup = law_speedup(laws[size], loss, at, noise)
            except AnalysisError as error:
                raise AnalysisError(f"{optimizer} at {size}: {error}") from None
            row = {"optimizer": optimizer, "model_size": size, "chinchilla_ratio": at, "speedup": speedup.value}
            row |= {"low": speedup.low, "high": speedup.high, "per_millinat": speedup.per_millinat}
            baseline_loss = cells.get((baseline, size, at), math.nan)
            rows.append(row | {"straight": speedup.straight, "gap": baseline_loss - loss})
    return rows
