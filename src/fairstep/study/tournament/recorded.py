"""A contestant whose search is over: its trials are known from a ledger, and no protocol is asked again.

Its runs are results like any other. A plan asks for exactly the trials of the ledger and takes the ledger's choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairstep.optim.spec.overrides import is_override
from fairstep.runs import Certificate
from fairstep.study.protocols.search import (
    TUNING_SEED,
    Ask,
    Hyperparameters,
    InEveryCell,
    Problem,
    Search,
    Settled,
    Shorter,
    Tuning,
    Wanted,
)
from fairstep.study.protocols.space import Axis, Space, key


@dataclass(frozen=True)
class Recorded:
    """One contestant in one cell. ``proof``: its certificate. ``searched`` and ``budgets``: its trials of these phases,
    in order. ``failures``: attempts that came to nothing, by run. ``short``: its trials on shorter schedules."""

    proof: Certificate
    choice: Hyperparameters
    searched: tuple[Wanted, ...] = ()
    budgets: tuple[Wanted, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    short: tuple[Wanted, ...] = ()

    @property
    def finalists(self) -> list[Wanted]:
        """Trials of the search on seeds of their own, by which one configuration was chosen."""
        return [wanted for wanted in self.searched if wanted.seed != TUNING_SEED]

    def search(self, problems: Mapping[str, Problem]) -> Search[None]:
        """In place of a protocol's."""
        yield InEveryCell({cell: self._in_cell(problem) for cell, problem in problems.items()})

    def _in_cell(self, problem: Problem) -> Search[None]:
        tuning = tuning_of(self.proof)
        trials = [wanted for wanted in self.searched if wanted.seed == TUNING_SEED]
        losses = yield Ask([*self.short, *trials])
        if self.short and (tokens := self.short[0].tokens):
            results = [(dict(wanted.configuration), loss) for wanted, loss in zip(self.short, losses, strict=False)]
            tuning.shorter = Shorter(results, math.log2(problem.tokens / tokens))
        for wanted, loss in zip(trials, losses[len(self.short) :], strict=True):
            tried = dict(wanted.configuration)
            if late_ratios(self.proof, tried):
                tried = {**problem.ratios(tried), **tried}
            tuning.losses[key(tried)], tuning.configurations[key(tried)] = loss, tried
        yield Settled(tuning)


def late_ratios(proof: Certificate, configuration: Mapping[str, object]) -> list[str]:
    """Ratios by role that were tuned after this configuration was tried (``companions``), which does not say them."""
    return [one.name for one in proof.coordinates if is_override(one.name) and one.name not in configuration]


def space_of(proof: Certificate) -> Space:
    """The grids as a certificate lists them. Only an end that was at an edge can be one."""
    return Space(
        {
            one.name: Axis((*one.tried, *one.untried, *one.impossible, one.value), fixed=not one.edge)
            for one in proof.coordinates
        }
    )


def tuning_of(proof: Certificate) -> Tuning:
    """The search that a certificate is of, before the losses of its trials."""
    tuning = Tuning(Problem(space_of(proof), {}), notes=list(proof.notes))
    for one in proof.coordinates:
        for value in one.impossible:
            tuning.losses[key({**proof.configuration, one.name: value})] = math.nan
    return tuning
