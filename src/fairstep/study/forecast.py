"""What a study will cost, before it runs: its trials by cell and phase, from the same plan that will start them.

What a protocol asks for depends on results, so the contest is played on objectives with known optima: once with every
optimum at the starting point, which is the least that the protocol can do, and then with optima anywhere on the grids.
Between these lies what to expect; optima beyond the grids cost more (``extensions`` trials an edge, at most).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from fairstep.runs import RunSpec, Trial
from fairstep.study.contest import FINALIST_SEED, Contest
from fairstep.study.cost import Cost
from fairstep.study.plan import Plan
from fairstep.study.synthetic import Answer, Synthetic, play

PHASES = ("tune", "finalists", "final", "budget")
DRAWS, LARGE = 5, 400
"""Games with optima anywhere; one, where the first game took more trials than this."""


@dataclass(frozen=True)
class Spent:
    """Of one game, in one cell and phase: trials, tokens, FLOPs of models and rules, seconds on one device."""

    trials: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.trials + other.trials,
            self.tokens + other.tokens,
            self.flops + other.flops,
            self.seconds + other.seconds,
        )


Game = Mapping[tuple[str, str], Spent]
"""By (cell, phase)."""


@dataclass(frozen=True)
class Forecast:
    """``least`` and, of each further game, what was spent."""

    least: Game
    games: tuple[Game, ...]

    def spread(self, cell: str | None = None, phase: str | None = None) -> tuple[Spent, Spent, Spent]:
        """(least, mean, most) of a cell, a phase, or all; by device seconds."""
        sums = [self._sum(game, cell, phase) for game in (self.least, *self.games)]
        drawn = sums[1:] or sums
        count = len(drawn)
        total = sum(drawn, Spent())
        mean = Spent(
            round(total.trials / count), round(total.tokens / count), total.flops / count, total.seconds / count
        )
        return sums[0], mean, max(sums, key=lambda spent: spent.seconds)

    @staticmethod
    def _sum(game: Game, cell: str | None, phase: str | None) -> Spent:
        mine = [spent for (c, p), spent in game.items() if cell in (None, c) and phase in (None, p)]
        return sum(mine, Spent())


def forecast(contest: Contest, costs: Mapping[tuple[str, str], Cost]) -> Forecast:
    """``costs`` are those of one run in every (cell, contestant)."""
    least = _spent(play(contest, _optima_at_start(contest)), costs)
    draws = 1 if sum(spent.trials for spent in least.values()) > LARGE else DRAWS
    return Forecast(
        least, tuple(_spent(play(contest, _optima_anywhere(contest, seed)), costs) for seed in range(draws))
    )


def _spent(plan: Plan, costs: Mapping[tuple[str, str], Cost]) -> Game:
    found: dict[tuple[str, str], Spent] = defaultdict(Spent)
    counted: set[str] = set()
    for entry in plan.trials.values():
        trial = entry.trial
        if trial.run in counted:
            continue
        counted.add(trial.run)
        spec, one = plan.specs[trial.run], costs[entry.cell, trial.contestant]
        tokens = spec.steps * spec.batch_tokens
        share, steps = tokens / one.tokens, spec.steps / one.steps
        rule = one.optimizer_flops or 0.0
        rate = one.device.flops * one.device.utilisation
        flops = one.flops * share + rule * steps
        found[entry.cell, _phase(trial, spec)] += Spent(1, tokens, flops, flops / rate)
    return dict(found)


def _phase(trial: Trial, spec: RunSpec) -> str:
    return "finalists" if trial.phase == "tune" and spec.init_seed >= FINALIST_SEED else trial.phase


def _optima_at_start(contest: Contest) -> Answer:
    made = {}
    for contestant in contest.contestants:
        for cell, workload in contest.cells.items():
            problem = contestant.problem(cell, workload, 0, 0)
            axes = problem.space.axes
            optimum = {name: axes[name].position(problem.start[name]) for name in problem.space.searched}
            made[cell, contestant.name] = Synthetic(problem.space, optimum, dict.fromkeys(optimum, 0.01))
    return lambda cell, trial, spec: made[cell, trial.contestant].run(trial.hyperparameters, spec.init_seed)


def _optima_anywhere(contest: Contest, seed: int) -> Answer:
    made = {
        (cell, contestant.name): Synthetic.drawn(contestant.spaces.get(cell, contestant.space), seed, sigma=0.0)
        for cell in contest.cells
        for contestant in contest.contestants
    }
    return lambda cell, trial, spec: made[cell, trial.contestant].run(trial.hyperparameters, spec.init_seed)
