"""A search: a generator that yields the trials whose results it needs, and is sent their losses.

A protocol written so reads like its paper. It is a pure function of results: it goes on only when all that it asked for
has a result, so the order of results cannot matter, and a killed study takes the same way again through the results on
disk. It is never run twice over the same results. ``tournament/trials.py`` runs the generators.

A loss is the final loss in nats per token; inf for a run that diverged, which is a result like any other; nan for a
configuration that cannot be run (a warm-up longer than the run) or that has no result (a hole in published data).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fairstep.runs import Phase, Value
from fairstep.study.protocols.space import Configuration, Key, Space, key

Result = TypeVar("Result")

TUNING_SEED = 0

Hyperparameters = dict[str, Value]


@dataclass(frozen=True)
class Wanted:
    """One trial of the search's contestant in its cell. ``tokens`` None: the cell's budget."""

    configuration: Configuration
    phase: Phase = "tune"
    seed: int = TUNING_SEED
    tokens: int | None = None


@dataclass(frozen=True)
class Ask:
    """Yielded to be sent the losses of these trials, in their order."""

    trials: Sequence[Wanted]


@dataclass(frozen=True)
class InEveryCell:
    """Yielded to run searches in cells of their own, side by side, and to be sent what they return, by cell."""

    searches: Mapping[str, Search[Any]]


@dataclass(frozen=True)
class OfEvery:
    """Yielded to run searches of several contestants in one cell, side by side, and to be sent what they return, by
    contestant."""

    searches: Mapping[str, Search[Any]]


@dataclass(frozen=True)
class Settled:
    """Yielded when the tuning of the search's cell is over: its finalists and final runs may begin. Sent back: None."""

    tuning: Tuning


Search = Generator[Ask | InEveryCell | OfEvery | Settled, Any, Result]


@dataclass(frozen=True)
class Problem:
    """One contestant in one cell, as a protocol sees it.

    ``start`` has a value for every axis of ``space``. ``extensions`` is how many times a grid may grow at its ends;
    ``refine``: whether the learning rate is tried a factor of sqrt 2 beside the best one at the end. ``trials``: the
    largest number of tuning trials (0: no limit). ``parameters`` (matrix parameters) and ``tokens`` place the cell for
    laws over scale. ``companions`` are hyperparameters that are tuned at the end (``companions.py``) in so many
    ``rounds``, before ``refine``; ``ratios`` gives what they are in a configuration that does not say. ``batch_tokens``
    are a step's. ``shorter``: the tokens of a whole schedule that is searched in place of the cell's; None: the
    cell's own.
    """

    space: Space
    start: Configuration
    extensions: int = 4
    refine: bool = False
    trials: int = 0
    parameters: int = 0
    tokens: int = 0
    companions: tuple[str, ...] = ()
    rounds: int = 0
    ratios: Callable[[Configuration], Configuration] = field(default=dict, compare=False)
    batch_tokens: int = 1
    shorter: int | None = None

    def from_start(self, start: Configuration, only: Iterable[str] | None = None) -> Problem:
        """The same cell, begun elsewhere, with only some of its hyperparameters searched."""
        if only is None:
            return replace(self, start={**self.start, **start})
        names = set(only)
        companions = tuple(name for name in self.companions if name in names)
        return replace(self, space=self.space.only(names), start={**self.start, **start}, companions=companions)


class BudgetSpent(Exception):
    """A search asked for more trials than its budget has; its best so far counts."""


@dataclass(frozen=True)
class Shorter:
    """Losses of shorter schedules, by which the cell's tokens are so many ``doublings`` more."""

    results: Sequence[tuple[Hyperparameters, float]] = ()
    doublings: float = 0.0


@dataclass
class Tuning:
    """What has been tried on one contestant in one cell. ``space`` grows where a grid is extended."""

    problem: Problem
    space: Space = field(init=False)
    losses: dict[Key, float] = field(default_factory=dict)
    configurations: dict[Key, Hyperparameters] = field(default_factory=dict)
    shorter: Shorter = field(default_factory=Shorter)
    notes: list[str] = field(default_factory=list)
    """What a reader must know about how this was tuned, one sentence each."""

    def __post_init__(self) -> None:
        self.space = self.problem.space

    def ask(self, configurations: Iterable[Configuration]) -> Search[list[float]]:
        """Losses of configurations; those known already cost nothing. Raises BudgetSpent when the budget is used up,
        after what is left of it."""
        listed = [dict(configuration) for configuration in configurations]
        keys = [key(configuration) for configuration in listed]
        new = {k: c for k, c in zip(keys, listed, strict=True) if k not in self.losses}
        limit = self.problem.trials
        left = limit - self.trials if limit else len(new)
        asked = dict(list(new.items())[: max(0, left)])
        if asked:
            tokens = self.problem.shorter
            phase: Phase = "tune" if tokens is None else "short"
            answers = yield Ask([Wanted(configuration, phase, tokens=tokens) for configuration in asked.values()])
            self.losses.update(zip(asked, answers, strict=True))
            self.configurations.update(asked)
        if len(asked) < len(new):
            raise BudgetSpent
        return [self.losses[k] for k in keys]

    @property
    def trials(self) -> int:
        """Tuning trials so far; what cannot be run is none."""
        return sum(not math.isnan(loss) for loss in self.losses.values())

    def loss(self, configuration: Configuration) -> float:
        """nan if it was not tried."""
        return self.losses.get(key(configuration), math.nan)

    def results(self) -> list[tuple[Hyperparameters, float]]:
        """Every configuration tried, with its loss."""
        return [(self.configurations[tried], loss) for tried, loss in self.losses.items()]

    def asked(self, configuration: Configuration) -> bool:
        """Whether it was asked for, even if it turned out not to be a trial."""
        return key(configuration) in self.losses

    @property
    def best(self) -> Hyperparameters | None:
        """The lowest loss, the first of equals. Where all diverged: the smallest learning rate; the way out is down."""
        losses = [loss for loss in self.losses.values() if not math.isnan(loss)]
        if not losses:
            return None
        lowest = min(losses)
        best = [self.configurations[tried] for tried, loss in self.losses.items() if loss == lowest]
        return best[0] if lowest < math.inf else min(best, key=lambda tried: float(tried.get("lr", 0.0)))

    def near(self, tolerance: float) -> list[Hyperparameters]:
        """Configurations whose loss is within the tolerance of the best one's, best first (W's set C_r)."""
        best = self.best
        if best is None or self.loss(best) == math.inf:
            return []
        limit = self.loss(best) + tolerance
        near = [tried for tried, loss in self.losses.items() if loss <= limit]
        return [self.configurations[tried] for tried in sorted(near, key=lambda tried: self.losses[tried])]


def solve(
    search: Search[Result],
    answer: Callable[[str, Wanted], float],
    settled: Callable[[str, Settled], None] = lambda cell, request: None,
    cell: str = "",
) -> Result:
    """Run a search to its end on losses that are there for the asking: published ones, or a formula's."""
    value: Any = None
    while True:
        try:
            request = search.send(value)
        except StopIteration as end:
            return end.value
        if isinstance(request, InEveryCell):
            value = {name: solve(inner, answer, settled, name) for name, inner in request.searches.items()}
        elif isinstance(request, Settled):
            settled(cell, request)
            value = None
        elif isinstance(request, OfEvery):
            raise TypeError("looks at several contestants are run by a plan, not by one contestant's search")
        else:
            value = [answer(cell, wanted) for wanted in request.trials]
