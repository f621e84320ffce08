"""What follows tuning, the same under every protocol: finalists on further seeds, then the final runs.

Both are searches like any protocol. A plan runs them on results (``trials.py``), a forecast on random objectives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fairstep.study.protocols.search import Ask, Hyperparameters, Search, Tuning, Wanted
from fairstep.study.protocols.space import Key, key
from fairstep.study.tournament.contest import FINALIST_SEED, Contest


@dataclass
class Standing:
    """One contestant in one cell. On seeds that tuning has not used: ``finalists`` holds losses by configuration and
    seed, ``finals`` the chosen configuration's losses by seed."""

    cell: str
    contestant: str
    tuning: Tuning
    chosen: Hyperparameters | None = None
    finalists: dict[Key, dict[int, float]] = field(default_factory=dict)
    finals: dict[int, float] = field(default_factory=dict)
    complete: bool = False
    """Whether its final runs have results."""


def choose(contest: Contest, standing: Standing) -> Search[None]:
    """Repeat the configurations near the best one, if there are several, and choose; none where all diverged."""
    tuning = standing.tuning
    best = tuning.best
    near = tuning.near(contest.tolerance)[: contest.finalists]
    if len(near) > 1:
        seeds = range(FINALIST_SEED, FINALIST_SEED + contest.finalist_seeds)
        losses = yield Ask([Wanted(finalist, "tune", seed) for finalist in near for seed in seeds])
        for place, finalist in enumerate(near):
            mine = losses[place * len(seeds) : (place + 1) * len(seeds)]
            standing.finalists[key(finalist)] = dict(zip(seeds, mine, strict=True))
        best = min(near, key=lambda finalist: sum(standing.finalists[key(finalist)].values()))
    standing.chosen = None if best is None or tuning.loss(best) == math.inf else best


def confirm(contest: Contest, standing: Standing) -> Search[None]:
    """Run the chosen one on the seeds of all contestants, and the baseline's at other budgets."""
    if (chosen := standing.chosen) is not None:
        workload = contest.cells[standing.cell]
        seeds = range(1, contest.seeds + 1)
        finals = [Wanted(chosen, "final", seed) for seed in seeds]
        budgets = [
            Wanted(chosen, "budget", seed, workload.tokens_of(budget))
            for budget in (contest.budgets if standing.contestant == contest.baseline else ())
            for seed in range(1, contest.budget_seeds + 1)
        ]
        losses = yield Ask([*finals, *budgets])
        standing.finals = dict(zip(seeds, losses, strict=False))
    standing.complete = True
