"""Curves that cross on the way: which contestant led when. Shown to readers, never used for a verdict.

A learning rate that has not decayed yet says little about the end: W's Muon without weight decay leads early and ends
0.05 nats behind. Every verdict comes from the ends of full schedules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Curve = Sequence[tuple[float, float]]
"""(tokens, evaluation loss in nats), in order."""


@dataclass(frozen=True)
class Crossing:
    """At about ``tokens``, ``ahead`` fell behind ``then_ahead``."""

    tokens: float
    ahead: str
    then_ahead: str


def crossings(curves: Mapping[str, Curve]) -> list[Crossing]:
    """Every change of order between two contestants' curves, in the order of tokens.

    Curves are compared where both are known, by straight lines between their points; points that are not finite are
    left out. A contact without a change of order is no crossing.
    """
    clean = {name: _clean(curve) for name, curve in curves.items()}
    changes = []
    names = list(clean)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            changes += _between(first, clean[first], second, clean[second])
    return sorted(changes, key=lambda crossing: crossing.tokens)


def mean_curve(runs: Sequence[Curve]) -> list[tuple[float, float]]:
    """Mean over runs at the token counts that all of them were evaluated at."""
    tables = [dict(run) for run in runs]
    shared = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    return [(tokens, float(np.mean([table[tokens] for table in tables]))) for tokens in shared]


def _between(first: str, a: np.ndarray, second: str, b: np.ndarray) -> list[Crossing]:
    if len(a) < 2 or len(b) < 2:
        return []
    start, end = max(a[0, 0], b[0, 0]), min(a[-1, 0], b[-1, 0])
    grid = np.unique(np.concatenate([a[:, 0], b[:, 0]]))
    grid = grid[(grid >= start) & (grid <= end)]
    gap = np.interp(grid, a[:, 0], a[:, 1]) - np.interp(grid, b[:, 0], b[:, 1])
    grid, gap = grid[gap != 0], gap[gap != 0]
    changes = []
    for place in np.flatnonzero(np.sign(gap[1:]) != np.sign(gap[:-1])):
        share = gap[place] / (gap[place] - gap[place + 1])
        tokens = float(grid[place] + share * (grid[place + 1] - grid[place]))
        ahead, then = (first, second) if gap[place] < 0 else (second, first)
        changes.append(Crossing(tokens, ahead, then))
    return changes


def _clean(curve: Curve) -> np.ndarray:
    array = np.array(list(curve), dtype=float).reshape(-1, 2)
    array = array[np.isfinite(array).all(1)]
    return array[np.argsort(array[:, 0], kind="stable")]
