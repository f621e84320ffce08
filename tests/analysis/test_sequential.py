"""Designs of seeds: the limits against tables that we did not compute, and against simulated contests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fairstep.analysis.verdict.sequential import limits, open_limit, spent

TABLES = {
    # Monte Carlo with 600,000 paths by an independent script, rounded: its error is 1 to 2 %, 5 % where few paths stop.
    (3, 5, 0.05): [6.4, 4.6, 3.5],
    (3, 8, 0.05): [9.3, 6.0, 4.5, 3.7, 3.25, 2.95],
    (3, 12, 0.05): [12.6, 7.7, 5.4, 4.4, 3.8, 3.45, 3.2, 3.0, 2.85, 2.7],
    (3, 12, 0.05 / 3): [21.9, 11.7, 7.4, 5.8, 4.9, 4.4, 4.1, 3.8, 3.6, 3.4],
    (3, 12, 0.01): [28, 14, 8.4, 6.6, 5.5, 4.9, 4.5, 4.2, 3.9, 3.75],
}


@pytest.mark.parametrize("design", TABLES)
def test_limits_are_the_published_ones(design: tuple[int, int, float]) -> None:
    first, most, alpha = design
    found = limits(first, most, alpha)
    assert list(found) == list(range(first, most + 1))
    for place, (limit, expected) in enumerate(zip(found.values(), TABLES[design], strict=True)):
        assert limit == pytest.approx(expected, rel=0.05 if place < 3 else 0.025)


def test_one_look_is_a_t_test() -> None:
    assert limits(3, 3)[3] == pytest.approx(stats.t.isf(0.025, 2), rel=1e-12)


def paths(repetitions: int, most: int, effect: float = 0.0) -> np.ndarray:
    """t statistics (repetitions, most) after 1, 2, ... differences; the first is nan."""
    differences = np.random.default_rng(0).standard_normal((repetitions, most)) + effect
    n = np.arange(1, most + 1)
    mean = differences.cumsum(1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = ((differences**2).cumsum(1) - n * mean**2) / (n - 1)
        return mean / np.sqrt(variance / n)


@pytest.mark.parametrize("design", [(3, 12, 0.05), (2, 6, 0.05), (4, 8, 0.05 / 3)])
def test_a_look_at_every_number_of_seeds_errs_as_often_as_declared(design: tuple[int, int, float]) -> None:
    first, most, alpha = design
    t = np.abs(paths(100_000, most))
    going = np.ones(len(t), dtype=bool)
    for n, limit in limits(first, most, alpha).items():
        going &= t[:, n - 1] <= limit
        error = 4 * np.sqrt(alpha / len(t))
        assert 1 - going.mean() == pytest.approx(spent(n, most, alpha), abs=error)


def test_an_open_design_errs_at_most_as_often_as_declared() -> None:
    t = paths(50_000, 30)
    crossed = np.zeros(len(t), dtype=bool)
    for n in range(2, 31):
        crossed |= np.abs(t[:, n - 1]) >= open_limit(n, 0.05)
    assert 0.01 < crossed.mean() < 0.05


def test_an_open_design_cannot_decide_before_four_pairs() -> None:
    assert open_limit(4, 0.05) < open_limit(3, 0.05) == np.inf


@pytest.mark.parametrize(("first", "most", "alpha"), [(1, 3, 0.05), (4, 3, 0.05), (3, 5, 0.0), (3, 5, 1.0)])
def test_impossible_designs_are_refused(first: int, most: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"design of seeds needs|alpha must be"):
        limits(first, most, alpha)
