"""Star search: W's coordinate descent as its experiment code carries it out (Wen et al. 2025, phase I).

All single-coordinate changes around a centre are launched at once. On the next pass the centre is the best run; or,
among the configurations within ``tolerance`` of the best, one whose star needs at least ``saving`` fewer new runs. It
ends when every point of the star around a configuration within ``tolerance`` of the best one has a result.

The best configuration and the one whose star is complete can be two different ones, and their losses can differ by the
tolerance; W reports the best loss. The certificate says which moves of the best one were never tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairstep.study.protocols.one_cell import OneCell
from fairstep.study.protocols.search import Hyperparameters, Search, Tuning


@dataclass(frozen=True)
class Star(OneCell):
    """``tolerance``: nats per token (W: 3e-3; 0 completes the star of the best itself). ``saving``: runs (W: 10)."""

    tolerance: float = 3e-3
    saving: int = 10

    def tune(self, tuning: Tuning) -> Search[None]:
        yield from self.around(tuning, dict(tuning.problem.start))

    def again(self, tuning: Tuning) -> Search[None]:
        best = tuning.best
        assert best is not None
        yield from self.around(tuning, best)

    def around(self, tuning: Tuning, centre: Hyperparameters) -> Search[None]:
        """Pass after pass, from a centre on."""
        while True:
            yield from tuning.ask([centre, *tuning.space.star(centre)])
            best = tuning.best
            if best is None or tuning.loss(best) == math.inf:
                return  # nothing here can be run, or everything diverges: the edges show the way out
            open_points = [
                (untried(tuning, near), place, near) for place, near in enumerate(tuning.near(self.tolerance))
            ]
            fewest, _, cheapest = min(open_points)
            if fewest == 0:
                return
            centre = cheapest if fewest <= open_points[0][0] - self.saving else best


def untried(tuning: Tuning, centre: Hyperparameters) -> int:
    """Points of a star that nobody has asked for."""
    return sum(not tuning.asked(point) for point in tuning.space.star(centre))
