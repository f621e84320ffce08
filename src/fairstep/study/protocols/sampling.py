"""Random search (Bergstra and Bengio, JMLR 2012) over the same grids as the other protocols, so that trials can be
shared with them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from fairstep.runs import Value
from fairstep.study.protocols.one_cell import OneCell
from fairstep.study.protocols.search import Search, Tuning
from fairstep.study.protocols.space import key


@dataclass(frozen=True)
class Random(OneCell):
    """``trials`` different configurations drawn evenly from the grid, the start among them. The draw depends on the
    seed and on the grid alone, so that one contestant's trials do not depend on another's."""

    trials: int = 20
    seed: int = 0

    def tune(self, tuning: Tuning) -> Search[None]:
        space, draw = tuning.space, random.Random(self.seed)
        chosen: dict[object, dict[str, Value]] = {}
        wanted = min(self.trials, space.size())
        start = dict(tuning.problem.start)
        chosen[key(start)] = start
        while len(chosen) < wanted:
            point = start | {name: draw.choice(axis.values) for name, axis in space.axes.items()}
            chosen.setdefault(key(point), point)
        yield from tuning.ask(chosen.values())
