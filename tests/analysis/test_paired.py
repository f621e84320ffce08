"""Paired tests, ranking, power, trends and crossings against scipy and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairstep.analysis import AnalysisError
from fairstep.analysis.laws.trend import ratio_trend, size_trend
from fairstep.analysis.verdict.crossings import crossings, mean_curve
from fairstep.analysis.verdict.paired import (
    bootstrap_interval,
    compare,
    deviation_interval,
    sign_flip_probability,
)
from fairstep.analysis.verdict.ranking import holm, rank, ranking

RNG = np.random.default_rng(7)


def seeds(mean: float, count: int = 6, sigma: float = 0.01) -> dict[int, float]:
    return dict(enumerate(mean + sigma * RNG.normal(size=count)))


def test_the_t_test_is_that_of_scipy() -> None:
    from scipy.stats import ttest_rel

    first, second = seeds(2.8), seeds(2.79)
    expected = ttest_rel(list(first.values()), list(second.values()))
    found = compare(first, second)
    assert found.t_probability == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))


def test_the_sign_flip_test_is_that_of_scipy() -> None:
    from scipy.stats import permutation_test

    values = RNG.normal(0.5, 1, 8)
    expected = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=10_000)
    assert sign_flip_probability(values) == pytest.approx(expected.pvalue)
    assert sign_flip_probability([0.1, 0.2, 0.3]) == 2 / 8, "three pairs cannot give less"
    assert sign_flip_probability(np.full(20, 0.1)) == pytest.approx(2**-14)


def test_the_bootstrap_is_for_four_or_more() -> None:
    assert bootstrap_interval([0.1, 0.2, 0.3]) == (-math.inf, math.inf)
    values = RNG.normal(1, 0.1, 10)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert bootstrap_interval([0.5] * 5) == (0.5, 0.5)
    skewed = RNG.exponential(size=12)
    low, high = bootstrap_interval(skewed)
    assert high - skewed.mean() > skewed.mean() - low, "a long tail above makes a longer arm above"


def test_one_pair_has_no_interval() -> None:
    assert compare({0: 2.8}, {0: 2.7}).row()["low"] is None


def test_sigma_has_a_chi_square_interval() -> None:
    # chi2(4) quantiles 0.025 and 0.975: 0.48442, 11.14329
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    found = deviation_interval(values)
    assert found.value == pytest.approx(math.sqrt(2.5))
    assert found.low == pytest.approx(math.sqrt(2.5 * 4 / 11.14329), rel=1e-5)
    assert found.high == pytest.approx(math.sqrt(2.5 * 4 / 0.48442), rel=1e-4)


def test_holm_is_that_of_scipy() -> None:
    # Worked by hand: 0.01*4, 0.02*3, max(0.06, 0.03*2), max(0.06, 0.04)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([math.nan, 0.01]) == pytest.approx([1.0, 0.02])
    assert holm([]) == []


def test_a_ranking_shows_its_ties() -> None:
    losses = {"soap": seeds(2.70), "adamw": seeds(2.80), "nadamw": seeds(2.8001), "sgd": seeds(3.2)}
    found = {place.name: place for place in rank(losses)}
    assert (found["soap"].best, found["soap"].worst) == (1, 1)
    assert (found["adamw"].best, found["adamw"].worst) == (2, 3)
    assert found["adamw"].groups == found["nadamw"].groups
    assert (found["sgd"].best, found["sgd"].worst) == (4, 4)


def test_groups_may_overlap() -> None:
    values = {"a": 1.0, "b": 1.1, "c": 1.2}
    places = ranking(values, lambda x, y: abs(values[x] - values[y]) > 0.15)
    assert [place.groups for place in places] == [(1,), (1, 2), (2,)]
    assert [(place.best, place.worst) for place in places] == [(1, 2), (1, 3), (2, 3)]


def test_one_seed_ranks_nothing() -> None:
    assert {(p.best, p.worst) for p in rank({"a": {0: 1.0}, "b": {0: 2.0}, "c": {1: 9.0}})} == {(1, 3)}
    with pytest.raises(AnalysisError, match="needs a final loss"):
        rank({"a": {}})


def rows(speedup: dict[tuple[str, float], float]) -> list[dict[str, object]]:
    return [{"model_size": s, "chinchilla_ratio": r, "speedup": v} for (s, r), v in speedup.items()]


def test_trends() -> None:
    sizes = {"a": 1e8, "b": 2e8, "c": 4e8}
    shrinking = rows({(s, r): 1.4 * 0.9**i * (1 + 1e-4 * r) for i, s in enumerate(sizes) for r in (1.0, 2.0)})
    trend = size_trend(shrinking, sizes, (1.0, 2.0))
    assert trend.factor == pytest.approx(0.9, rel=1e-6)
    assert trend.direction == "shrinks"
    flat = ratio_trend(shrinking)
    assert flat.factor == pytest.approx(1, abs=1e-3)
    two = size_trend(shrinking[:4], sizes, (1.0, 2.0))
    assert two.direction == "not separable", "a line through two points has no uncertainty to give"
    with pytest.raises(AnalysisError, match="two or more sizes"):
        size_trend(shrinking[:2], sizes, (1.0, 2.0))
    with pytest.raises(AnalysisError, match="two or more ratios"):
        ratio_trend(shrinking[:1])


def test_crossings_are_found_once_each() -> None:
    early = [(0, 5.0), (10, 4.0), (20, 3.5), (30, 3.4)]
    late = [(0, 5.5), (10, 4.2), (20, 3.4), (30, 3.2)]
    (found,) = crossings({"early": early, "late": late, "far": [(0, 9.0), (30, 9.0)]})
    assert (found.ahead, found.then_ahead) == ("early", "late")
    assert 10 < found.tokens < 20
    assert crossings({"a": early, "b": [(0, math.nan)]}) == []
    touching = [(0, 5.1), (10, 4.0), (20, 3.6)]
    assert crossings({"a": early[:3], "b": touching}) == []


def test_mean_curves_use_the_places_that_all_have() -> None:
    assert mean_curve([[(1, 2.0), (2, 1.0)], [(1, 4.0), (2, 2.0), (3, 1.0)]]) == [(1, 3.0), (2, 1.5)]
