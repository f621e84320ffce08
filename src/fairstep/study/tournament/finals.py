"""What follows tuning, the same under every protocol: finalists on further seeds, the final runs, and looks at them.

All are searches like any protocol. A plan runs them on results (``trials.py``), a forecast on random objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairstep.analysis.verdict.looks import Contender, Tested, looks, undecided
from fairstep.runs import Design, Look
from fairstep.study.protocols.search import TUNING_SEED, Ask, Hyperparameters, OfEvery, Search, Tuning, Wanted
from fairstep.study.protocols.space import Key, key, rounded
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
    looks: list[Look] = field(default_factory=list)
    complete: bool = False
    """Whether its final runs have results."""


def choose(contest: Contest, standing: Standing) -> Search[None]:
    """Repeat the configurations near the best one, if there are several, and choose; none where all diverged."""
    tuning = standing.tuning
    if (recorded := contest.recorded.get(standing.contestant)) is not None:
        losses = yield Ask(recorded.finalists)
        for wanted, loss in zip(recorded.finalists, losses, strict=True):
            standing.finalists.setdefault(key(wanted.configuration), {})[wanted.seed] = loss
        standing.chosen = recorded.choice or None
        return
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
    """Run the chosen one on the first seeds of all contestants, and the baseline's at other budgets."""
    if (chosen := standing.chosen) is not None:
        seeds = range(1, contest.design.first + 1)
        recorded = contest.recorded.get(standing.contestant)
        known = recorded.budgets if recorded is not None else ()
        curved = standing.contestant == contest.baseline and not known
        longest = max(contest.budgets, default=0.0) if curved else 0.0
        beside = [rate for rate in _rates(contest, standing) if longest > 1]
        near = [budget for budget in contest.budgets if longest and not (beside and _nearer(budget, longest))]
        workload = contest.cells[standing.cell]
        searched = [
            Wanted({**chosen, "lr": rate}, "budget", TUNING_SEED, workload.tokens_of(longest)) for rate in beside
        ]
        finals = [Wanted(chosen, "final", seed) for seed in seeds]
        losses = yield Ask([*finals, *known, *searched, *_budgets(contest, standing, chosen, near)])
        standing.finals = dict(zip(seeds, losses, strict=False))
        if searched:
            tried = losses[len(finals) : len(finals) + len(searched)]
            best = min(zip(tried, beside, strict=True), key=lambda pair: (math.isnan(pair[0]), pair[0]))[1]
            far = [budget for budget in contest.budgets if _nearer(budget, longest)]
            yield Ask(_budgets(contest, standing, {**chosen, "lr": best}, far))
    standing.complete = contest.design.most == contest.design.first


def _rates(contest: Contest, standing: Standing) -> list[float]:
    """Learning rates that the baseline tries at its longest budget: the chosen one and a factor of 2 on each side."""
    axis, chosen = standing.tuning.space.axes.get("lr"), standing.chosen or {}
    if not contest.refine or axis is None or not axis.searched or not axis.numeric:
        return []
    rates = (rounded(float(chosen["lr"]) * factor, False) for factor in (0.5, 1, 2))
    return [float(rate) for rate in rates if axis.allows(rate)]


def _nearer(budget: float, longest: float) -> bool:
    """Whether a budget is nearer to the longest one than to the contest's, in ratio."""
    return budget > math.sqrt(longest)


def _budgets(
    contest: Contest, standing: Standing, configuration: Hyperparameters, budgets: Sequence[float]
) -> list[Wanted]:
    workload = contest.cells[standing.cell]
    seeds = range(1, contest.budget_seeds + 1)
    return [Wanted(configuration, "budget", seed, workload.tokens_of(budget)) for budget in budgets for seed in seeds]


def look_on(contest: Contest, standings: Mapping[str, Standing]) -> Search[None]:
    """Look at all contestants of a cell, which have their first seeds, and run those that are undecided on one more
    seed, until all are decided or the design ends. ``standings``: by contestant."""
    base = standings[contest.baseline]
    design = contest.design_in(base.cell)
    others = {name: standing for name, standing in standings.items() if name != contest.baseline}
    seeds = design.first
    while seeds > 1:
        taken = looks(design, contender(base), {name: contender(other) for name, other in others.items()})
        for name, tests in taken.items():
            others[name].looks = [_look(design, name, test) for test in tests]
        going = [name for name in undecided(design, taken, seeds) if taken[name][-1].pairs == seeds]
        for name in others.keys() - set(going):
            others[name].complete = True
        if not going:
            break
        seeds += 1
        yield OfEvery({name: _one_more(standings[name], seeds) for name in (contest.baseline, *going)})
    base.complete = True


def contender(standing: Standing) -> Contender:
    """What a contestant is judged by; runs that diverged are left out."""
    losses = {seed: loss for seed, loss in standing.finals.items() if math.isfinite(loss)}
    tuning, chosen = standing.tuning, standing.chosen or {}
    return Contender(losses, tuning.results(), chosen, tuning.shorter.results, tuning.shorter.doublings)


def _one_more(standing: Standing, seed: int) -> Search[None]:
    assert standing.chosen is not None
    (standing.finals[seed],) = yield Ask([Wanted(standing.chosen, "final", seed)])


def _look(design: Design, name: str, test: Tested) -> Look:
    return Look(
        design=str(design),
        contestant=name,
        pairs=test.pairs,
        t=test.t if test.spread else None,
        limit=test.limit if math.isfinite(test.limit) else None,
        level=test.level,
        verdict=test.decision,
    )
