"""The table of docs/results/coverage.md holds: every simulation of ``coverage.py`` is within what chance allows.

Simulations that take long are repeated less often here than for the table, and are then allowed what chance allows so
few repetitions.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.analysis.coverage import (
    REPETITIONS,
    SIMULATIONS,
    Simulation,
    heavy_tails,
    pairs,
    rankings,
    seeds,
    simulate,
    trends,
)

from fairstep.analysis import paired_difference

QUICK = (seeds, heavy_tails, rankings, trends)
FEWER = 200


def check(simulation: Simulation, repetitions: int = REPETITIONS) -> None:
    for row in simulate(simulation, repetitions):
        low, high = row.allowed
        assert low <= row.share <= high, row


@pytest.mark.parametrize("simulation", QUICK, ids=lambda simulation: simulation.__name__)
def test_intervals_cover_and_equals_are_rarely_separated(simulation: Simulation) -> None:
    check(simulation)


@pytest.mark.slow
@pytest.mark.parametrize(
    "simulation", [s for s in SIMULATIONS if s not in QUICK], ids=lambda simulation: simulation.__name__
)
def test_laws_and_speedups_cover(simulation: Simulation) -> None:
    check(simulation, FEWER)


def test_true_differences_are_found() -> None:
    """A test that never says anything would pass the others: five sigma at five seeds is found nearly always."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        base, other = (dict(enumerate(side)) for side in pairs(rng, 5, gap=0.1))
        found += paired_difference(base, other).low > 0
    assert found > 190
