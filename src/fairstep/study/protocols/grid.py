"""Full grid: every combination of the values of every hyperparameter. ``compare`` tunes the learning rate so."""

from __future__ import annotations

from dataclasses import dataclass

from fairstep.study.protocols.one_cell import OneCell
from fairstep.study.protocols.search import Search, Tuning


@dataclass(frozen=True)
class Grid(OneCell):
    """Hyperparameters without a grid stay where the search starts."""

    def tune(self, tuning: Tuning) -> Search[None]:
        start = tuning.problem.start
        yield from tuning.ask({**start, **point} for point in tuning.space.points())
