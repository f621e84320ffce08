"""Means, paired differences and pooled noise against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairstep.analysis import AnalysisError, mean_interval, paired_difference, pooled_deviation
from fairstep.analysis.statistics import repeated

LOSSES = st.floats(min_value=0.5, max_value=12.0)


def test_t_interval_of_three_values() -> None:
    # t(2, 0.975) = 4.302653, s = 1, so half the width is 4.302653 / sqrt(3).
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert estimate.value == pytest.approx(2.0)
    assert estimate.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert 2.0 - estimate.low == pytest.approx(estimate.high - 2.0)
    assert (estimate.deviation, estimate.count) == (pytest.approx(1.0), 3)


def test_one_value_has_a_mean_and_no_interval() -> None:
    estimate = mean_interval([2.5])
    assert (estimate.value, estimate.low, estimate.high) == (2.5, -math.inf, math.inf)
    assert not estimate.has_interval


@pytest.mark.parametrize(("values", "words"), [([], "none"), ([1.0, math.nan], "nan"), ([math.inf, 1.0], "inf")])
def test_values_that_have_no_mean(values: list[float], words: str) -> None:
    with pytest.raises(AnalysisError, match=words):
        mean_interval(values)


def test_pairs_are_matched_by_seed_not_by_place() -> None:
    first = {(0, 0): 3.0, (1, 1): 2.0, (9, 9): 100.0}
    second = {(1, 1): 1.9, (7, 7): 50.0, (0, 0): 2.7}
    difference = paired_difference(first, second)
    assert difference.count == 2
    assert difference.value == pytest.approx((0.3 + 0.1) / 2)


def test_noise_that_both_sides_share_cancels() -> None:
    shared = [0.3, -0.2, 0.05]
    first = {seed: 3.0 + noise for seed, noise in enumerate(shared)}
    second = {seed: 2.9 + noise for seed, noise in enumerate(shared)}
    difference = paired_difference(first, second)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_no_shared_seed() -> None:
    with pytest.raises(AnalysisError, match="same seeds"):
        paired_difference({1: 2.0}, {2: 2.0})


@given(st.dictionaries(st.integers(0, 9), LOSSES, min_size=2), st.dictionaries(st.integers(0, 9), LOSSES, min_size=2))
def test_exchanging_sides_turns_the_sign(first: dict[int, float], second: dict[int, float]) -> None:
    if not first.keys() & second.keys():
        return
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)


def test_pooled_deviation_leaves_the_means_out() -> None:
    # Squares: 2 + 0.5 with 2 + 1 degrees; the single value adds nothing.
    sigma, degrees = pooled_deviation([[1.0, 2.0, 3.0], [10.0, 11.0], [7.0]])
    assert degrees == 3
    assert sigma == pytest.approx(math.sqrt(2.5 / 3))


def test_nothing_repeated_has_no_deviation() -> None:
    sigma, degrees = pooled_deviation([[1.0], [2.0]])
    assert math.isnan(sigma)
    assert degrees == 0


def test_repeated_runs_have_the_narrower_of_two_spreads() -> None:
    # sigma = 1 with 2 degrees of freedom, t(2, 0.975) = 4.302653, standard error sqrt(2 / 2).
    # Differences 1 and 0: deviation sqrt(1 / 2) with 1 degree, t(1, 0.975) = 12.706205, standard error 1 / 2.
    found = repeated([2.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0], 5.0)
    assert found.difference == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0.5 - 4.302653), pytest.approx(0.5 + 4.302653))
    assert found.equivalent and not repeated([2.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0], 4.0).equivalent
    # Differences 0.1 and 0.2: deviation 0.1 sqrt(1 / 2), standard error 0.05.
    found = repeated([1.1, 2.2], [1.0, 2.0], [1.0, 2.0, 3.0], 1.0)
    assert (found.low, found.high) == (pytest.approx(0.15 - 0.05 * 12.706205), pytest.approx(0.15 + 0.05 * 12.706205))


def test_runs_that_differ_by_the_margin_seldom_pass() -> None:
    """Both tests together, at a true difference of the margin: 5 % at most."""
    draw = np.random.default_rng(3)
    for shared in (0.0, 0.9, 0.999):
        common, alone = math.sqrt(shared), math.sqrt(1 - shared)
        passed = 0
        for _ in range(2000):
            seeds = draw.normal(size=5)
            before = common * seeds + alone * draw.normal(size=5)
            again = common * seeds[:3] + alone * draw.normal(size=3) + 1.0
            passed += repeated(list(again), list(before[:3]), list(before), 1.0).equivalent
        assert passed <= 0.05 * 2000 + 3 * math.sqrt(0.05 * 0.95 * 2000)


def test_runs_that_repeat_to_the_bit_need_no_spread() -> None:
    assert repeated([1.0], [1.0], [1.0], 1e-9).equivalent
    with pytest.raises(AnalysisError, match="at least two runs"):
        repeated([1.1], [1.0], [1.0], 1.0)
