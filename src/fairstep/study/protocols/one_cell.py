"""What every protocol is, and what all of them share: cells side by side, grids that grow, a finer learning rate."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping

from fairstep.study.protocols.companions import tune_companions
from fairstep.study.protocols.search import BudgetSpent, InEveryCell, Problem, Search, Settled, Tuning
from fairstep.study.protocols.space import Space, rounded


class Protocol(typing.Protocol):
    """Tunes one contestant in all cells of a study. It yields ``Settled`` inside each cell when that one is tuned."""

    def search(self, cells: Mapping[str, Problem]) -> Search[None]: ...


class OneCell:
    """A protocol that tunes every cell by itself."""

    def tune(self, tuning: Tuning) -> Search[None]:
        """Search ``tuning.space`` from ``tuning.problem.start``; what it asks for is kept in ``tuning``."""
        raise NotImplementedError

    def again(self, tuning: Tuning) -> Search[None]:
        """Go on after a grid has grown and its new value won. Default: nothing, the edge alone is followed."""
        yield from ()

    def search(self, cells: Mapping[str, Problem]) -> Search[None]:
        yield InEveryCell({name: settle(self, Tuning(problem)) for name, problem in cells.items()})


def settle(protocol: OneCell, tuning: Tuning) -> Search[Tuning]:
    """Tune one cell, follow the edges, tune what comes at the end, and say that it is settled."""
    try:
        yield from protocol.tune(tuning)
        yield from follow_edges(protocol, tuning)
        yield from tune_companions(tuning)
        if tuning.problem.refine:
            yield from refine(tuning)
    except BudgetSpent:
        tuning.notes.append(f"The search ended at its budget of {tuning.problem.trials} trials.")
    yield Settled(tuning)
    return tuning


def follow_edges(protocol: OneCell, tuning: Tuning) -> Search[None]:
    """While the best configuration is at an end of a grid, try the next value there, ``extensions`` times at most."""
    for _ in range(tuning.problem.extensions):
        best = tuning.best
        edges = tuning.space.edges(best) if best else []
        if best is None or not edges:
            return
        tuning.space = tuning.space.extended(edges)
        yield from tuning.ask([{**best, edge.name: edge.beyond} for edge in edges])
        if tuning.best != best:
            yield from protocol.again(tuning)


def refine(tuning: Tuning) -> Search[None]:
    """Try the learning rate a factor of sqrt 2 below and above the best one, the rest as it is."""
    best, axis = tuning.best, tuning.space.axes.get("lr")
    if best is None or axis is None or not axis.searched or not axis.numeric:
        return
    rates = [rounded(float(best["lr"]) * factor, False) for factor in (math.sqrt(0.5), math.sqrt(2))]
    allowed = [rate for rate in rates if axis.allows(rate)]
    for rate in allowed:
        axis = axis.extended(rate)
    tuning.space = Space({**tuning.space.axes, "lr": axis})
    yield from tuning.ask([{**best, "lr": rate} for rate in allowed])
