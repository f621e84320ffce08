"""Steps in which an update is due whose probability falls with the steps (Kron).

Updates are counted and not drawn, so that runs do not depend on a generator.
"""

from __future__ import annotations

from functools import cache
from math import exp


def updates_until(step: int, flat_start: int, probability: float) -> int:
    """How many updates were due in the steps 1 to ``step``."""
    counts, waited = _calendar(flat_start, probability)
    while len(counts) <= step:
        t = len(counts) - 1
        waited[0] += 1
        due = waited[0] >= 1 / max(probability, exp(min(0.0, -0.001 * (t - flat_start))))
        counts.append(counts[-1] + due)
        if due:
            waited[0] = 0
    return counts[step]


@cache
def _calendar(flat_start: int, probability: float) -> tuple[list[int], list[int]]:
    """Updates up to each step, as far as it was needed, and the steps since the last of them."""
    return [0], [0]
