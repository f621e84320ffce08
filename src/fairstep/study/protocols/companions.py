"""The stage ``companions``: learning rates of embedding, head and vectors, tuned after a protocol's own search.

A baseline without them is under-tuned: rates of their own were worth 75 to 125 of 3,250 steps to Muon on the
optimization track of modded-nanogpt. Any protocol may be followed by the stage, and every contestant has the same
number of trials in it, whatever its own rule for these roles is.

In a round every role's ratio to the contestant's learning rate is tried at two new values, in turn, and the lower loss
is kept. Around a value at the end of what was tried they are a factor of 4 beyond it and the geometric middle to its
neighbour; around one between two others the two middles; at first a factor of 4 on both sides.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from fairstep.study.protocols.search import Search, Tuning
from fairstep.study.protocols.space import Axis, Space, key, rounded

FACTOR = 4.0


def tune_companions(tuning: Tuning) -> Search[None]:
    """Tune ``problem.companions`` from the best configuration on; nothing where all have diverged."""
    problem = tuning.problem
    best = tuning.best
    if not problem.companions or best is None or tuning.loss(best) == math.inf:
        return
    _write_out(tuning)
    tried = {name: {float(best[name] if name in best else problem.ratios(best)[name])} for name in problem.companions}
    for _, name in itertools.product(range(problem.rounds), problem.companions):
        centre = tuning.best
        assert centre is not None
        values = beside(float(centre[name]), tried[name])
        tried[name].update(values)
        _extend(tuning, name, tried[name])
        yield from tuning.ask([{**centre, name: value} for value in values])


def beside(centre: float, tried: set[float]) -> list[float]:
    """Two new values around one of those tried, below and above it."""
    below = max((value for value in tried if value < centre), default=None)
    above = min((value for value in tried if value > centre), default=None)
    low = centre / FACTOR if below is None else math.sqrt(centre * below)
    high = centre * FACTOR if above is None else math.sqrt(centre * above)
    return [float(rounded(value, whole=False)) for value in (low, high)]


def _write_out(tuning: Tuning) -> None:
    """Give every configuration tried so far the ratios that it had without saying so."""
    problem = tuning.problem
    written = {k: {**problem.ratios(tried), **tried} for k, tried in tuning.configurations.items()}
    tuning.losses = {key(written[k]) if k in written else k: loss for k, loss in tuning.losses.items()}
    tuning.configurations = {key(tried): tried for tried in written.values()}


def _extend(tuning: Tuning, name: str, values: set[float]) -> None:
    """The ratio is a hyperparameter of the search from now on, for its certificate too."""
    axis = Axis(tuple(sorted(values)), 2.0, "(0, inf)")
    tuning.space = Space({**tuning.space.axes, name: axis})
    tuning.problem = replace(tuning.problem, space=Space({**tuning.problem.space.axes, name: axis}))
