"""Every hyperparameter swept in turn, once, as S does at its first length: ``protocol = "thrifty"``.

With looks at the seeds this has the full grid's errors for a part of its tokens (docs/results/thrift.md). With ``part``
below 1 the sweeps are on shorter schedules, which saves further tokens and decides less:

1. Every hyperparameter is swept in turn, once (``Descent``), with whole schedules of ``part`` of the cell's tokens;
   grids grow there. A run that is cut off is no result: its learning rate has not decayed.
2. The learning rates found are carried to the cell's length by lr ~ tokens^EXPONENT.
3. At the cell's length the ``rivals`` best combinations of all other hyperparameters run at their carried rates. Around
   the best of them the learning rate is tried one step of its grid below and above, and its edges are followed.

So what is chosen has been compared at the cell's length, and the law only says where. The rule is the same for every
contestant, and with grids of equal sizes so are the trials, but for edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fairstep.study.protocols.coordinate_descent import Descent
from fairstep.study.protocols.one_cell import OneCell, follow_edges, settle
from fairstep.study.protocols.search import Hyperparameters, InEveryCell, Problem, Search, Shorter, Tuning
from fairstep.study.protocols.space import Axis, Space, key, rounded
from fairstep.study.transfer.length import EXPONENT

SWEEP = Descent(threshold=0.0, cycles=1)

LEAST_STEPS = 100
"""Of a shorter schedule. With 32 steps what was carried lost 0.15 and 0.22 nats (docs/results/thrift.md)."""

LENGTHS = ("batch_sequences", "warmup_steps", "warmup_tokens")
"""Hyperparameters whose best values follow the length of a run in ways for which there is no law here."""


@dataclass(frozen=True)
class Thrifty:
    """``part``: tokens of the schedules that are swept over the cell's. ``rivals``: combinations of the other
    hyperparameters that are tried at the cell's length after shorter ones."""

    part: float = 1.0
    rivals: int = 4

    def search(self, cells: Mapping[str, Problem]) -> Search[None]:
        yield InEveryCell({name: self.in_cell(problem) for name, problem in cells.items()})

    def in_cell(self, problem: Problem) -> Search[Tuning]:
        """One cell, at its own length, or at a shorter one first."""
        if self.part == 1:
            return (yield from settle(SWEEP, Tuning(problem)))
        tokens = self.steps(problem) * problem.batch_tokens
        short = Tuning(replace(problem, shorter=tokens))
        yield from SWEEP.tune(short)
        yield from follow_edges(SWEEP, short)
        rivals = [carried(short, best, problem.tokens / tokens) for best in best_of_each(short)[: self.rivals]]
        tuning = Tuning(problem.from_start({}, only=("lr", *problem.companions)))
        tuning.shorter = Shorter(short.results(), math.log2(problem.tokens / tokens))
        others = ", ".join(name for name in problem.space.searched if name != "lr")
        tuning.notes.append(
            f"Searched with {short.trials} schedules of {self.steps(problem)} steps, and at the cell's length from the "
            f"best {len(rivals)} on: the learning rate{f'; not one by one {others}' if others else ''}."
        )
        return (yield from settle(AroundRivals(rivals), tuning))

    def steps(self, problem: Problem) -> int:
        """Of a shorter schedule."""
        return max(1, round(self.part * problem.tokens / problem.batch_tokens))

    def lacks(self, problem: Problem) -> Iterator[str]:
        """Why there is no law for a contestant in a cell, one clause each with what would be right; none if there is
        one."""
        axis = problem.space.axes.get("lr")
        if not 0 < self.part < 1:
            yield f"part must be above 0 and at most 1, not {self.part:g}"
        elif self.steps(problem) < LEAST_STEPS:
            yield (
                f"{self.part:g} of its run is {self.steps(problem)} steps, and with fewer than {LEAST_STEPS} the law "
                "has not held; make the run longer, or part larger"
            )
        if axis is None or not axis.searched or not axis.numeric or min(map(float, axis.values)) <= 0:
            yield "it has no grid of learning rates; give it grid.lr with two or more"
        if problem.trials:
            yield "a limit of trials is of one length and it has two; leave trials out"
        for name in LENGTHS:
            if name in problem.space.axes or name in problem.start:
                yield f"there is one for the learning rate and none for {name}; fix it, or take another protocol"


@dataclass(frozen=True)
class AroundRivals(OneCell):
    """The carried configurations, and the learning rates beside the best of them."""

    rivals: list[Hyperparameters]

    def tune(self, tuning: Tuning) -> Search[None]:
        yield from tuning.ask(self.rivals)
        if (best := tuning.best) is None:
            return
        axis = beside(tuning.space.axes["lr"], float(best["lr"]))
        tuning.space = Space({**tuning.space.axes, "lr": axis})
        yield from tuning.ask(tuning.space.line(best, "lr"))


def best_of_each(tuning: Tuning) -> list[Hyperparameters]:
    """The best configuration of every combination of all hyperparameters but the learning rate, best first; where all
    diverged, the search's best."""
    found: dict[object, Hyperparameters] = {}
    for tried in tuning.near(math.inf):
        found.setdefault(key({**tried, "lr": 0}), tried)
    return list(found.values()) or ([tuning.best] if tuning.best else [])


def carried(tuning: Tuning, best: Hyperparameters, ratio: float) -> Hyperparameters:
    """A configuration of a shorter schedule at ``ratio`` times its tokens: its learning rate by the law, on the grid
    that its own rate lies on."""
    axis = tuning.space.axes["lr"]
    step = step_of(axis)
    moved = vertex(tuning, best, step) + EXPONENT * math.log(ratio) / math.log(step)
    rate = rounded(float(best["lr"]) * step ** round(moved), whole=False)
    return {**best, "lr": rate if axis.allows(rate) else best["lr"]}


def vertex(tuning: Tuning, best: Hyperparameters, step: float) -> float:
    """Where the parabola through a configuration's loss and its neighbours' in learning rate is lowest, in steps from
    it; 0 where a neighbour is missing or diverged, or the configuration is no minimum."""
    rates = [rounded(float(best["lr"]) * factor, whole=False) for factor in (1 / step, 1.0, step)]
    below, here, above = (tuning.loss({**best, "lr": rate}) for rate in rates)
    bend = below - 2 * here + above
    if not math.isfinite(bend) or bend <= 0 or here > min(below, above):
        return 0.0
    return (below - above) / (2 * bend)


def step_of(axis: Axis) -> float:
    """The factor between the learning rates of a grid, on the average."""
    numbers = [float(value) for value in axis.values]
    return float((numbers[-1] / numbers[0]) ** (1 / (len(numbers) - 1)))


def beside(axis: Axis, rate: float) -> Axis:
    """A grid of a learning rate and its neighbours."""
    step = step_of(axis)
    rates = [rounded(rate * factor, whole=False) for factor in (1 / step, 1.0, step)]
    return replace(axis, values=tuple(value for value in rates if axis.allows(value)))
