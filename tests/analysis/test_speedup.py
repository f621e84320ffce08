"""The curve from loss to tokens: exact where the truth is known, anchored, bounded, and never against the test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from fairstep.analysis import AnalysisError, BaselineCurve, curve_line, mean_interval, token_speedup
from fairstep.analysis.statistics import Estimate

T = 1_000_000


def exact(value: float) -> Estimate:
    """A difference that is known without noise."""
    return mean_interval([value, value, value])


def power_law(ratio: float) -> float:
    return 2.2 + 0.6 * ratio**-0.45


def curve(*ratios: float) -> BaselineCurve:
    return BaselineCurve.of({round(ratio * T): [power_law(ratio)] for ratio in ratios})


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 4.0])
def test_the_loss_of_a_trained_budget_gives_its_ratio(ratio: float) -> None:
    speedup = token_speedup(curve(0.5, 1, 2, 4), exact(power_law(1) - power_law(ratio)), T)
    assert speedup.value == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("ratio", [0.6, 0.75, 1.2, 1.4, 1.7])
def test_between_budgets_a_power_law_is_followed_within_one_percent(ratio: float) -> None:
    speedup = token_speedup(curve(0.5, 1, 2), exact(power_law(1) - power_law(ratio)), T)
    assert speedup.value == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("ratio", [0.55, 0.9, 1.1, 2.5, 3.7])
def test_the_cubic_is_inverted_exactly(ratio: float) -> None:
    """16 straight pieces in its place gave 2.5014 for 2.5."""
    ratios = np.array([0.5, 1.0, 4.0])
    cubic = PchipInterpolator(np.log(ratios), [power_law(at) for at in ratios])
    speedup = token_speedup(curve(*ratios), exact(power_law(1) - float(cubic(math.log(ratio)))), T)
    assert speedup.value == pytest.approx(ratio, rel=1e-7)  # LEAST_FALL bends the curve by 1e-9 nats


def test_no_difference_is_exactly_one() -> None:
    speedup = token_speedup(curve(0.5, 1, 2), exact(0.0), T)
    assert (speedup.value, speedup.low, speedup.high, speedup.bound) == (1.0, 1.0, 1.0, None)


def test_nothing_is_extrapolated() -> None:
    beyond = token_speedup(curve(0.5, 1, 2), exact(0.5), T)
    assert (beyond.value, beyond.low, beyond.high, beyond.bound) == (2.0, 2.0, 2.0, "at least")
    below = token_speedup(curve(0.5, 1, 2), exact(-0.5), T)
    assert (below.value, below.bound, below.limits) == (0.5, "at most", (0.5, 2.0))
    at_the_end = token_speedup(curve(0.5, 1), exact(0.1), T)
    assert (at_the_end.value, at_the_end.bound) == (1.0, "at least")


def test_a_loss_that_rises_with_tokens_is_levelled() -> None:
    risen = BaselineCurve.of({T // 2: [3.0], T: [2.80], 2 * T: [2.84]})
    assert risen.fitted == pytest.approx((3.0, 2.82, 2.82), abs=1e-7)
    # Level from T to 2 T: the baseline needs at least 2 T for anything better.
    better = token_speedup(risen, exact(0.01), T)
    assert (better.value, better.bound) == (2.0, "at least")
    assert token_speedup(risen, exact(0.0), T).value == 1.0


def test_a_law_is_laid_through_four_budgets() -> None:
    exact_law = {round(r * T): [2.2 + 0.6 * r**-0.45] for r in (0.5, 0.7, 1.0, 1.4, 2.0)}
    curve = BaselineCurve.of(exact_law)
    assert curve.fitted == pytest.approx(curve.losses, abs=2e-6)
    bent = BaselineCurve.of(exact_law | {round(1.4 * T): [exact_law[T][0]]})
    assert not np.allclose(bent.fitted, bent.losses, atol=1e-3), "one run off is smoothed"


def test_more_budgets_do_not_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    widths: dict[int, list[float]] = {2: [], 4: []}
    for _ in range(60):
        base, own = (2.2 + 0.6 * r**-0.45 + 0.03 * rng.normal(size=8) for r in (1.0, 1.3))
        difference = mean_interval(base - own)
        for ratios in ((0.5, 2.0), (0.5, 0.7, 1.4, 2.0)):
            others = {round(r * T): [2.2 + 0.6 * r**-0.45 + 0.03 * rng.normal()] for r in ratios}
            speedup = token_speedup(BaselineCurve.of({T: base.tolist()} | others), difference, T, own.tolist())
            widths[len(ratios)].append(speedup.high / speedup.low)
    assert np.median(widths[4]) < 1.02 * np.median(widths[2])


def test_a_baseline_that_learns_nothing_more() -> None:
    flat = BaselineCurve.of({T // 2: [2.8], T: [2.8], 2 * T: [2.8]})
    assert token_speedup(flat, exact(0.01), T).bound == "at least"
    assert token_speedup(flat, exact(-0.01), T).bound == "at most"


def test_repeated_budgets_weigh_more() -> None:
    levelled = BaselineCurve.of({T: [2.7, 2.7, 2.7], 2 * T: [2.8]})
    assert levelled.fitted == pytest.approx((2.725, 2.725), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(2.0, 4.0), min_size=1, max_size=3), st.lists(st.integers(1, 4), min_size=5, max_size=5))
def test_the_repair_is_isotonic_regression(losses: list[float], counts: list[int]) -> None:
    from scipy.optimize import isotonic_regression

    weights = np.array(counts[: len(losses)], dtype=float)
    runs = {place + 1: [loss] * count for place, (loss, count) in enumerate(zip(losses, counts, strict=False))}
    expected = isotonic_regression(losses, weights=weights, increasing=False).x
    assert BaselineCurve.of(runs).fitted == pytest.approx(expected, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-4000, 4000).map(lambda gap: gap / 10_000), min_size=2, max_size=6),
    st.lists(st.floats(2.4, 3.2), min_size=3, max_size=3),
    st.lists(st.floats(2.4, 3.2), min_size=2, max_size=5),
)
def test_the_interval_agrees_with_the_paired_test(gaps: list[float], budgets: list[float], own: list[float]) -> None:
    """Whatever the noise and however wild the curve: above 1 exactly when the difference is above 0."""
    difference = mean_interval(gaps)
    runs = {T // 2: budgets[:1], T: own, 2 * T: budgets[1:2], 4 * T: budgets[2:]}
    speedup = token_speedup(BaselineCurve.of(runs), difference, T)
    assert (speedup.low > 1) == (difference.low > 0)
    assert (speedup.high < 1) == (difference.high < 0)
    assert (speedup.value > 1) == (difference.value > 0)
    assert speedup.low <= speedup.high


def test_a_noisier_curve_widens_the_interval() -> None:
    difference = mean_interval([0.09, 0.1, 0.11])
    quiet = {T // 2: [3.06], T: [2.80, 2.801, 2.799], 2 * T: [2.6]}
    noisy = quiet | {T: [2.76, 2.84, 2.80]}
    narrow, wide = (token_speedup(BaselineCurve.of(runs), difference, T) for runs in (quiet, noisy))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert token_speedup(BaselineCurve.of(noisy), difference, T) == wide, "the same runs must give the same interval"


def test_one_seed_has_a_value_and_no_interval() -> None:
    speedup = token_speedup(curve(0.5, 1, 2), mean_interval([0.1]), T)
    assert speedup.value > 1
    assert (speedup.low, speedup.high) == speedup.limits


def test_the_drawn_line_goes_through_the_budgets_and_falls() -> None:
    tokens, losses = curve_line((T // 2, T, 2 * T), curve(0.5, 1, 2).fitted)
    assert tokens == pytest.approx(sorted(tokens))
    assert all(left > right for left, right in itertools.pairwise(losses))
    place = min(range(len(tokens)), key=lambda index: abs(math.log(tokens[index] / T)))
    assert losses[place] == pytest.approx(power_law(1), abs=1e-6)


def test_bad_curves() -> None:
    with pytest.raises(AnalysisError, match="at least one run"):
        BaselineCurve.of({})
    with pytest.raises(AnalysisError, match="at least one run"):
        BaselineCurve.of({T: []})
    with pytest.raises(AnalysisError, match=f"budget of {T} tokens"):
        token_speedup(curve(0.5, 2), exact(0.1), T)
