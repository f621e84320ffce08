"""S's tuning: greedy at one length, kept for the others, tuned again for the longest (Semenov et al. 2025, section 3
and appendix E).

At one near-Chinchilla length every hyperparameter is swept in turn, once, and the best value is kept. Other lengths,
batch sizes or models take the result as it is. A cell named in ``retuned`` sweeps a few hyperparameters again from
there: betas for the longest runs, learning rate and clipping for another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairstep.study.protocols.coordinate_descent import Descent
from fairstep.study.protocols.one_cell import OneCell, settle
from fairstep.study.protocols.search import InEveryCell, Problem, Search, Tuning


@dataclass(frozen=True)
class Semenov:
    """``tuned`` is the cell to tune in (default: the first). ``retuned``: cell -> hyperparameters that it sweeps again.
    ``order``: hyperparameters to go through (default: the space's). ``threshold``: nats per token."""

    tuned: str = ""
    retuned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    threshold: float = 0.0

    def search(self, cells: Mapping[str, Problem]) -> Search[None]:
        first = self.tuned or next(iter(cells))
        if unknown := {first, *self.retuned} - set(cells):
            raise ValueError(f"the protocol names cells that the study has not: {', '.join(sorted(unknown))}")
        order = tuple(name for name in self.order if name in cells[first].space.axes)
        tuned = yield InEveryCell({first: settle(Descent(self.threshold, order, cycles=1), Tuning(cells[first]))})
        best = tuned[first].best or {}
        searches = {}
        for name, problem in cells.items():
            if name == first:
                continue
            again = self.retuned.get(name, ())
            tuning = Tuning(problem.from_start(best, only=again))
            if not again:
                tuning.notes.append(f"Not tuned here: hyperparameters are those found in {first}.")
            searches[name] = settle(Descent(self.threshold, cycles=1) if again else AsItIs(), tuning)
        yield InEveryCell(searches)


class AsItIs(OneCell):
    """One run of the configuration that the cell starts with."""

    def tune(self, tuning: Tuning) -> Search[None]:
        yield from tuning.ask([tuning.problem.start])
