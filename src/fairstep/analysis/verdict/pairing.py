"""What shared seeds were worth: how far the runs of one seed go up and down together."""

from __future__ import annotations

import numpy as np

from fairstep.analysis.trials import Trials

SAME = 1e-9
"""Deviation of the differences, over the deviation of the losses, below which rounding is all that it shows."""
LEAST = 3
"""Pairs below which a correlation says nothing."""


def pairing(trials: Trials, name: str) -> tuple[float, float, int] | None:
    """(correlation of losses over shared seeds, runs without pairs that a pair replaces, pairs).

    The second is (s_b^2 + s_c^2) / s_d^2 with the deviations of both sides and of the differences: how many times more
    unpaired runs give an interval as narrow, degrees of freedom aside. None below three pairs or without a spread.
    """
    base, other = trials[trials.baseline].losses, trials[name].losses
    shared = [key for key in base if key in other]
    if len(shared) < LEAST:
        return None
    sides = np.array([[side[key] for key in shared] for side in (base, other)])
    deviations = sides.std(axis=1, ddof=1)
    difference = float((sides[0] - sides[1]).std(ddof=1))
    if not deviations.all() or difference < SAME * deviations.max():
        return None
    correlation = float(np.corrcoef(sides)[0, 1])
    return correlation, float((deviations**2).sum() / difference**2), len(shared)


def alone_note(trials: Trials, name: str, pairs: int) -> str:
    """Runs that are in no pair, in a sentence; empty where there are none. ``pairs``: of the verdict; 0 without."""
    sides = {one: len(trials[one].losses) - pairs for one in (trials.baseline, name)}
    left = [f"{count} of {one}" for one, count in sides.items() if count > 0]
    if not pairs or not left:
        return ""
    return f"{name} against {trials.baseline}: runs without a partner on their seed are in no pair ({', '.join(left)})."


def pairing_note(trials: Trials, name: str) -> str:
    """In a sentence; empty where nothing can be said."""
    known = pairing(trials, name)
    if known is None:
        return ""
    correlation, worth, pairs = known
    runs = f"{worth:.0f}" if worth >= 9.5 else f"{worth:.1f}"
    return (
        f"{name} and {trials.baseline} are paired by {pairs} seeds: their losses have a correlation of "
        f"{correlation:.2f} over seeds, which makes a pair worth {runs} runs on each side without pairs."
    )
