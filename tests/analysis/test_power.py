"""Power of a design of seeds, against an independent script's table and against the t-test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fairstep.analysis.verdict.power import power, seeds_for


# Share decided and mean seeds of the design 3..12 at alpha 0.05, by an independent simulation of 20,000 contests.
@pytest.mark.parametrize(
    ("effect", "decided", "seeds"), [(0.5, 0.28, 11.1), (1.0, 0.80, 9.0), (1.5, 0.989, 7.0), (3.0, 1.0, 4.6)]
)
def test_power_of_three_to_twelve_seeds(effect: float, decided: float, seeds: float) -> None:
    design = power(effect, 3, 12)
    assert design.probability == pytest.approx(decided, abs=0.015)
    assert design.mean_seeds == pytest.approx(seeds, abs=0.15)
    assert list(design.by_seeds) == list(range(3, 13))


def test_one_look_has_the_power_of_the_t_test() -> None:
    n, effect = 5, 2.0
    exact = stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, effect * np.sqrt(n))
    assert power(effect, n, n).probability == pytest.approx(exact, abs=0.012)


def test_seeds_for_an_effect_are_the_fewest() -> None:
    most = seeds_for(2.0)
    assert most is not None
    assert power(2.0, 3, most).probability >= 0.8 > power(2.0, 3, most - 1).probability
    assert seeds_for(0.01, largest=10) is None
