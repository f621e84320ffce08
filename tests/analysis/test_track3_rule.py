"""The rule of modded-nanogpt's track: the p-values that the track prints, and its thresholds."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from fairstep.analysis.statistics import AnalysisError
from fairstep.analysis.verdict import track3_rule as rules

MEANS = {8: (3.2778, 10), 9: (3.2771, 8), 11: (3.2785, 16), 13: (3.2785, 10)}
"""Result -> mean and runs as the track's table prints them."""


@pytest.mark.parametrize(("a", "b", "steps", "printed"), [(11, 9, 25, 0.69), (13, 11, 15, 0.099), (13, 8, 40, 0.029)])
def test_the_p_values_of_printed_means_are_the_printed_ones(a: int, b: int, steps: int, printed: float) -> None:
    p = rules.track3_of_means(MEANS[a], MEANS[b], steps=steps)
    assert float(f"{p:.2g}") == printed


def test_two_arrays_give_the_normal_tail_of_their_means() -> None:
    a, b = [3.278, 3.279], [3.280, 3.281, 3.282]
    z = (3.281 - 3.2785 + 0.0045 * 0.5) / (0.0013 * math.sqrt(1 / 2 + 1 / 3))
    assert rules.track3(a, b, steps=50) == pytest.approx(NormalDist().cdf(-z), rel=1e-9)
    assert rules.track3(a, b) + rules.track3(b, a) == pytest.approx(1)


def test_a_result_counts_from_the_margin_on() -> None:
    assert rules.track3_counts([3.2759])
    assert not rules.track3_counts([3.2761])
    assert rules.track3_counts([3.278] * 4), "on the margin itself"
    assert rules.track3_below([3.276]) == pytest.approx(NormalDist().cdf(-0.004 / 0.0013), rel=1e-6)
    assert rules.track3_below([3.276]) == pytest.approx(0.001, abs=1e-4)


def test_a_pair_is_accepted_where_it_reaches_the_margin() -> None:
    assert rules.track3_accepts([3.2700] * 2, [3.2741] * 2)
    assert not rules.track3_accepts([3.2700] * 2, [3.2739] * 2)
    assert rules.track3_accepts([3.2700] * 2, [3.2739] * 2, steps=10)


@pytest.mark.parametrize("losses", [[], [3.28, math.nan], [math.inf]])
def test_losses_that_cannot_be_judged_are_named(losses: list[float]) -> None:
    with pytest.raises(AnalysisError, match=r"track 3"):
        rules.track3(losses, [3.28])
    with pytest.raises(AnalysisError, match=r"track 3"):
        rules.track3_counts(losses)
