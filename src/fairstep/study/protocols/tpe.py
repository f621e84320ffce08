"""Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) over the same grids and budgets.

The sampler is fed the results of whole rounds in the order of their proposals. So its proposals are a function of the
results, whatever order they came in, and a killed study proposes the same trials again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fairstep.runs import Value
from fairstep.study.protocols.one_cell import OneCell
from fairstep.study.protocols.search import Search, Tuning

if TYPE_CHECKING:
    from optuna.trial import Trial

DIVERGED = 1e3
"""What the estimator is told of a run that diverged, in nats: worse than anything, and finite."""


@dataclass(frozen=True)
class TPE(OneCell):
    """``trials`` proposals in rounds of ``at_once`` (more at once: faster on many workers, less informed)."""

    trials: int = 20
    at_once: int = 4
    seed: int = 0
    effort: ClassVar[int] = 60
    """Time of a proposal over another protocol's: a forecast plays fewer games."""

    def tune(self, tuning: Tuning) -> Search[None]:
        optuna = imported()
        sampler = optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=max(2, min(10, self.trials // 2)))
        study = optuna.create_study(sampler=sampler)
        study.enqueue_trial(places(tuning))
        for first in range(0, self.trials, self.at_once):
            proposed = [study.ask() for _ in range(min(self.at_once, self.trials - first))]
            points = [proposal(trial, tuning) for trial in proposed]
            losses = yield from tuning.ask(points)
            for trial, loss in zip(proposed, losses, strict=True):
                if math.isnan(loss):
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    study.tell(trial, min(loss, DIVERGED))


def proposal(trial: Trial, tuning: Tuning) -> dict[str, Value]:
    """Numbers are proposed by their place in the grid, which has an order; words without one."""
    point = dict(tuning.problem.start)
    for name in tuning.space.searched:
        axis = tuning.space.axes[name]
        if axis.numeric:
            point[name] = axis.values[trial.suggest_int(name, 0, len(axis.values) - 1)]
        else:
            word = trial.suggest_categorical(name, axis.values)
            assert word is not None
            point[name] = word
    return point


def places(tuning: Tuning) -> dict[str, Any]:
    """The start as a proposal; hyperparameters that are off the grid are left to the sampler."""
    start = tuning.problem.start
    proposal: dict[str, Any] = {}
    for name in tuning.space.searched:
        axis = tuning.space.axes[name]
        if start[name] in axis.values:
            proposal[name] = axis.values.index(start[name]) if axis.numeric else start[name]
    return proposal


def imported() -> Any:
    """Raises ValueError with the command that installs it."""
    try:
        import optuna
    except ImportError:
        raise ValueError("the protocol tpe needs Optuna: pip install 'fairstep[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
