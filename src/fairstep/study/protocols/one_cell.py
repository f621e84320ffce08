"""What every protocol is, and the two things that all of them share: cells side by side, and grids that grow."""

from __future__ import annotations

import typing
from collections.abc import Mapping

from fairstep.study.protocols.search import BudgetSpent, InEveryCell, Problem, Search, Settled, Tuning


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
    """Tune one cell, follow the edges, and say that it is settled."""
    try:
        yield from protocol.tune(tuning)
        yield from follow_edges(protocol, tuning)
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
