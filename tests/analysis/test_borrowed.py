"""Borrowed variance: Smyth's numbers, its error and its width in simulation, and where it must not narrow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairstep.analysis import AnalysisError
from fairstep.analysis.statistics import mean_interval
from fairstep.analysis.verdict.borrowed import _inverse_trigamma, borrowed_intervals, prior


def simulated(deviations: list[float], pairs: int, stores: int, cell: int | None = None) -> tuple[float, float]:
    """Share of equal contestants whose interval excludes 0 (in one cell, or in all), and the ratio of its
    median width to the paired one's, over stores whose cells have these deviations."""
    rng = np.random.default_rng(11)
    wrong, widths = [], []
    for _ in range(stores):
        cells = {place: sigma * rng.normal(size=pairs) for place, sigma in enumerate(deviations)}
        found = borrowed_intervals(cells)
        for place in range(len(deviations)) if cell is None else (cell,):
            wrong.append(not found[place].low <= 0 <= found[place].high)
            widths.append([i.high - i.low for i in (found[place], found[place].paired)])
    borrowed, paired = np.median(widths, 0)
    return float(np.mean(wrong)), float(borrowed / paired)


@pytest.mark.parametrize(
    ("deviations", "pairs", "narrower"),
    [([1.0] * 8, 3, 0.7), ([2.0] * 8, 3, 0.7), ([1.0] * 8, 5, 0.87), ([1.0, 1.5] * 4, 3, 0.72), ([0.03] * 16, 3, 0.66)],
)
def test_equal_contestants_are_called_different_in_5_percent(
    deviations: list[float], pairs: int, narrower: float
) -> None:
    wrong, width = simulated(deviations, pairs, 8000 // len(deviations))
    assert 0.035 <= wrong <= 0.06
    assert width < narrower


def test_a_cell_that_is_noisy_alone_keeps_most_of_its_own_interval() -> None:
    """Without the gate 25 % of such cells are wrong, with it 10 %."""
    wrong, _ = simulated([3.0] + [1.0] * 7, 3, 1000, cell=0)
    assert 0.05 < wrong < 0.13


def test_the_gate_is_the_paired_interval() -> None:
    rng = np.random.default_rng(5)
    cells = {f"cell {place}": 0.01 * rng.normal(size=3) for place in range(8)} | {"loud": np.array([-1.0, 0.0, 1.2])}
    found = borrowed_intervals(cells)
    assert found["loud"].gated
    paired = mean_interval(cells["loud"])
    assert (found["loud"].low, found["loud"].high) == (paired.low, paired.high)
    assert not all(interval.gated for interval in found.values())


def test_the_prior_is_smyths() -> None:
    """With many cells of known d0 and s0^2 both are found again; equal variances have an infinite d0."""
    rng = np.random.default_rng(2)
    degrees = np.full(20_000, 4.0)
    true = 0.5 * 8 / rng.chisquare(8, degrees.size)
    common, strength = prior(true * rng.chisquare(4, degrees.size) / 4, degrees)
    assert common == pytest.approx(0.5, rel=0.05)
    assert strength == pytest.approx(8, rel=0.1)
    assert prior(np.full(8, 0.3), np.full(8, 2.0))[1] == math.inf
    for value in (1e-3, 0.1, 1.0, 50.0):
        from scipy.special import polygamma

        assert float(polygamma(1, _inverse_trigamma(value))) == pytest.approx(value, rel=1e-8)


def test_few_cells_lend_nothing() -> None:
    cells = {place: [0.1, 0.2, 0.3] for place in range(7)}
    with pytest.raises(AnalysisError, match="needs 8 cells with two or more pairs, not 7"):
        borrowed_intervals(cells)
    with pytest.raises(AnalysisError, match="not 7"):
        borrowed_intervals(cells | {7: [0.1], 8: [0.2, 0.2, 0.2]})
    assert len(borrowed_intervals(cells | {7: [0.1, 0.3], 8: [0.2, 0.2, 0.2]})) == 8, "no spread, no interval"
