"""What a study will cost, before it runs: its trials by cell and phase, from the searches that will ask for them.

A protocol asks for trials according to results. So the contest is played on random objectives
(``random_objectives.py``): once without noise and with every optimum at the starting point, then several times with
both. A game runs the protocol, the edges, the finalists and the final runs, as a plan does, but makes no runs. Where
the design of seeds has several looks, the contests are taken to end evenly between its first and its last: how many
seeds decide depends on differences that nobody knows before.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fairstep.cost.run_cost import Cost
from fairstep.runs import RunSpec, Spec
from fairstep.study.forecast.random_objectives import Objectives, Problems, at_start, objectives
from fairstep.study.protocols.search import Settled, Wanted, solve
from fairstep.study.protocols.space import Key, key
from fairstep.study.tournament.contest import FINALIST_SEED, Contest, Contestant
from fairstep.study.tournament.finals import Standing, choose, confirm

PHASES = ("short", "tune", "finalists", "final", "budget")

MOST_GAMES, FEWEST_GAMES, TRIALS = 40, 3, 8_000
"""As many games as come to about so many trials, if all were as short as the first."""


@dataclass(frozen=True)
class Spent:
    """Of one game, in one cell and phase: trials, tokens, FLOPs of models and rules, seconds on one device (of
    this machine, where paces of as many runs at once as it has room for were measured)."""

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
class Spread:
    """The least and the most of all games, and the mean of the drawn ones. Each number of a ``Spent`` is taken by
    itself."""

    least: Spent
    expected: Spent
    most: Spent


@dataclass(frozen=True)
class Forecast:
    """What was spent where every search began at its optimum (``ideal``), and in the games that were drawn; of these
    also the regret: nats by which the chosen configurations are above their optima, mean over contestants and cells."""

    ideal: Game
    games: tuple[Game, ...]
    regrets: tuple[float, ...] = ()

    def spread(self, cell: str | None = None, phase: str | None = None) -> Spread:
        """Of a cell, a phase, or all."""
        drawn = [self._sum(game, cell, phase) for game in self.games]
        every = [self._sum(self.ideal, cell, phase), *drawn]
        return Spread(_each(min, every), _each(statistics.fmean, drawn), _each(max, every))

    @staticmethod
    def _sum(game: Game, cell: str | None, phase: str | None) -> Spent:
        mine = [spent for (c, p), spent in game.items() if cell in (None, c) and phase in (None, p)]
        return sum(mine, Spent())


def forecast(contest: Contest, costs: Mapping[tuple[str, str], Cost]) -> Forecast:
    """``costs``: of one run in every (cell, contestant); of somebody else's trainer there are none, and only trials and
    tokens are counted."""
    table = _Table(contest, costs)
    problems = {
        (cell, contestant.name): problem
        for contestant in contest.contestants
        for cell, problem in contest.problems(contestant).items()
    }
    design = contest.design
    ideal, _ = _played(contest, table, problems, at_start(problems), design.first)
    trials = sum(spent.trials for spent in ideal.values()) * getattr(contest.protocol, "effort", 1)
    games = min(MOST_GAMES, max(FEWEST_GAMES, TRIALS // max(1, trials)))
    longest = 2 * design.first if design.most is None else design.most
    played = []
    for game in range(games):
        seeds = design.first + round((longest - design.first) * game / max(games - 1, 1))
        played.append(_played(contest, table, problems, objectives(problems, game, games), seeds))
    return Forecast(
        ideal, tuple(game for game, _ in played), tuple(statistics.fmean(lost) for _, lost in played if lost)
    )


def _each(statistic: Callable[[Sequence[float]], float], spent: Sequence[Spent]) -> Spent:
    return Spent(
        round(statistic([one.trials for one in spent])),
        round(statistic([one.tokens for one in spent])),
        statistic([one.flops for one in spent]),
        statistic([one.seconds for one in spent]),
    )


@dataclass(frozen=True)
class _Run:
    """``identity``: of the run at the contestant's starting point."""

    identity: str
    spent: Spent


class _Table:
    """What a run costs, by the cell, the contestant and the settings of the run: a configuration's other values change
    nothing of it. None for a run that cannot be (a warm-up longer than the run)."""

    def __init__(self, contest: Contest, costs: Mapping[tuple[str, str], Cost]) -> None:
        self._contest, self._costs = contest, costs
        self._known: dict[tuple[str, str, Key, int | None], _Run | None] = {}

    def run(self, cell: str, contestant: Contestant, settings: Key, tokens: int | None) -> _Run | None:
        place = (cell, contestant.name, settings, tokens)
        if place not in self._known:
            try:
                spec = contestant.spec(self._contest.cells[cell], dict(settings), 0, tokens)
            except ValueError:
                self._known[place] = None
            else:
                self._known[place] = _Run(spec.identity, spent(spec, self._costs.get((cell, contestant.name))))
        return self._known[place]


def spent(spec: Spec, one: Cost | None) -> Spent:
    """What a run costs, of which ``one`` is another length or batch."""
    tokens = spec.steps * spec.batch_tokens
    if one is None or not isinstance(spec, RunSpec):
        return Spent(1, tokens)
    flops = one.flops * tokens / one.tokens + (one.optimizer_flops or 0.0) * spec.steps / one.steps
    if one.pace:
        return Spent(1, tokens, flops, one.pace.seconds(spec) / one.pace.at_once)
    return Spent(1, tokens, flops, flops / (one.device.flops * one.device.utilisation))


def _played(
    contest: Contest, table: _Table, problems: Problems, losses: Objectives, seeds: int
) -> tuple[Game, list[float]]:
    """One game: every contestant's searches to their end, and its final runs on so many seeds; the regrets of what was
    chosen, in nats. A run that several cells ask for is counted once."""
    regrets = []
    spendings: dict[tuple[str, str], Spent] = defaultdict(Spent)
    counted: set[tuple[str, Key, int]] = set()

    def play(contestant: Contestant) -> None:
        def answer(cell: str, wanted: Wanted) -> float:
            items = key(wanted.configuration)
            settings = tuple([item for item in items if not contestant.has(item[0])])
            of_optimizer = tuple([item for item in items if item not in settings]) if settings else items
            run = table.run(cell, contestant, settings, wanted.tokens)
            if run is None:
                return math.nan
            if (place := (run.identity, of_optimizer, wanted.seed)) not in counted:
                counted.add(place)
                spendings[cell, _phase(wanted)] += run.spent
            objective = losses[cell, contestant.name]
            if wanted.phase == "short" and wanted.tokens is not None:
                objective = objective.at_length(wanted.tokens / contest.cells[cell].tokens)
            return objective.run(wanted.configuration, wanted.seed)

        def settled(cell: str, request: Settled) -> None:
            standing = Standing(cell, contestant.name, request.tuning)
            solve(choose(contest, standing), answer, cell=cell)
            solve(confirm(contest, standing), answer, cell=cell)
            if standing.chosen is not None:
                objective = losses[cell, contestant.name]
                regrets.append(objective.loss(standing.chosen) - objective.floor)
                for seed in range(contest.design.first + 1, seeds + 1):
                    answer(cell, Wanted(standing.chosen, "final", seed))

        mine = {cell: problems[cell, contestant.name] for cell in contest.cells}
        solve(contest.search(contestant.name, mine), answer, settled)

    for contestant in contest.contestants:
        play(contestant)
    return dict(spendings), regrets


def _phase(wanted: Wanted) -> str:
    return "finalists" if wanted.phase == "tune" and wanted.seed >= FINALIST_SEED else wanted.phase
