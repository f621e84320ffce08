"""Sequential coordinate descent: W's protocol as the paper states it (Wen et al. 2025, phase I).

Hold all hyperparameters but one, sweep that one, take a new value only if the loss falls by more than ``threshold``,
and cycle until a whole cycle changes nothing. Within a sweep all values run at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from fairstep.study.protocols.one_cell import OneCell
from fairstep.study.protocols.search import Hyperparameters, Search, Tuning


@dataclass(frozen=True)
class Descent(OneCell):
    """``threshold``: nats per token (W's Delta1 is 3e-3). ``order``: hyperparameters to go through; default all.
    ``cycles``: how many at most (0: until one changes nothing)."""

    threshold: float = 3e-3
    order: tuple[str, ...] = ()
    cycles: int = 0

    def tune(self, tuning: Tuning) -> Search[None]:
        yield from self.descend(tuning, dict(tuning.problem.start))

    def again(self, tuning: Tuning) -> Search[None]:
        best = tuning.best
        assert best is not None
        yield from self.descend(tuning, best)

    def descend(self, tuning: Tuning, centre: Hyperparameters) -> Search[Hyperparameters]:
        """Cycles from a centre until one changes nothing; returns where it ends. Of ``order``, what the space has."""
        names = [name for name in self.order if name in tuning.space.axes] if self.order else tuning.space.searched
        yield from tuning.ask([centre])
        for _ in range(self.cycles) if self.cycles else itertools.count():
            before = centre
            centre = yield from cycle(tuning, centre, names, self.threshold)
            if centre == before:
                break
        return centre


def cycle(tuning: Tuning, centre: Hyperparameters, names: Iterable[str], threshold: float) -> Search[Hyperparameters]:
    """Sweep each hyperparameter once and keep what is better by more than the threshold."""
    for name in names:
        line = tuning.space.line(centre, name)
        losses = yield from tuning.ask(line)
        tried = [(loss, place) for place, loss in enumerate(losses) if not math.isnan(loss)]
        if not tried:
            continue
        loss, place = min(tried)
        here = tuning.loss(centre)
        if math.isnan(here) or loss < here - threshold or (here == math.inf and loss < here):
            centre = line[place]
    return centre
