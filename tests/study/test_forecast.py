"""What a forecast says of trials, against the plan that is then carried out: exactly on the same losses, within its
range on losses that were made in another way."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping

import pytest
from tests.study.played import Answer, play
from tests.study.test_contest import WORKLOAD

from fairstep.cost.devices import DEVICES
from fairstep.cost.run_cost import Cost, cost
from fairstep.runs import RunSpec, Trial, Value
from fairstep.study import Axis, Contest, Contestant, Space, Workload
from fairstep.study.forecast.games import Forecast, forecast
from fairstep.study.forecast.random_objectives import objectives
from fairstep.study.protocols import TPE, Descent, Grid, Protocol, Semenov, Star, Thrifty, Wen
from fairstep.study.tournament.trials import Plan

SPACE = Space(
    {
        "lr": Axis((0.001, 0.002, 0.004), domain="(0, inf)"),
        "beta2": Axis((0.9, 0.95, 0.98), domain="[0, 1)"),
        "weight_decay": Axis((0.0, 0.1, 0.2), domain="[0, inf)"),
        "warmup_fraction": Axis((0.05, 0.1, 0.2, 0.4), domain="[0, 1)"),
    }
)
START: dict[str, Value] = {"lr": 0.002, "beta2": 0.95, "weight_decay": 0.1}
CELLS = {f"{n}x": Workload(**(vars(WORKLOAD) | {"tokens": 6400 * n})) for n in (1, 2, 4)}
PROTOCOLS: dict[str, Protocol] = {
    "star": Star(),
    "descent": Descent(),
    "grid": Grid(),
    "wen": Wen(phase2=("2x",), phase3=("4x",), checked=("4x",)),
    "semenov": Semenov("2x", {"4x": ("beta2",)}),
    "thrifty": Thrifty(part=0.3),  # no shorter run is another cell's
}


def contest(protocol: Protocol) -> Contest:
    contestants = tuple(Contestant(name, START, SPACE) for name in ("adamw", "lion"))
    budgets = (
        (0.7,) if isinstance(protocol, Thrifty) else (0.5,)
    )  # 0.5 of 2x is a run of 1x, of whichever phase is first
    return Contest(CELLS, contestants, "adamw", protocol, seeds=2, finalists=2, budgets=budgets, extensions=2)


def costs(held: Contest) -> dict[tuple[str, str], Cost]:
    return {
        (cell, contestant.name): cost(contestant.spec(workload, START, 0), DEVICES["h100"])
        for cell, workload in held.cells.items()
        for contestant in held.contestants
    }


def spent(plan: Plan) -> tuple[Counter[str], int]:
    """Runs by phase, finalists told from the search; their tokens."""
    phases = {}
    for entry in plan.trials.values():
        seed = plan.specs[entry.trial.run].init_seed
        phases.setdefault(entry.trial.run, "finalists" if seed > 1000 else entry.trial.phase)
    return Counter(phases.values()), sum(spec.tokens for spec in plan.specs.values())


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_game_counts_what_the_plan_would_run(protocol: Protocol) -> None:
    held = contest(protocol)
    found = forecast(held, costs(held))
    problems = {(cell, c.name): c.problem(cell, w, 2, 0) for c in held.contestants for cell, w in held.cells.items()}
    for game in (0, len(found.games) - 1):
        made = objectives(problems, game, len(found.games))

        def answer(cell: str, trial: Trial, spec: RunSpec, made: Mapping = made) -> float:  # type: ignore[type-arg]
            objective = made[cell, trial.contestant]
            if trial.phase == "short":
                objective = objective.at_length(spec.tokens / held.cells[cell].tokens)
            return objective.run(trial.hyperparameters, spec.init_seed)

        runs, tokens = spent(play(held, answer))
        counted: Counter[str] = Counter()
        for (_, phase), mine in found.games[game].items():
            counted[phase] += mine.trials
        assert counted == runs
        assert sum(mine.tokens for mine in found.games[game].values()) == tokens


def valley(seed: int) -> Answer:
    """Losses of another kind than the forecast's: a rounded V along each hyperparameter, steeper above, that levels
    off; one valley across lr and weight decay; heavy-tailed noise; divergence above some learning rate; optima
    evenly up to some distance from the start, in the same direction in all cells."""
    draw = random.Random(f"valley {seed}")
    far, sigma = draw.uniform(0.3, 3.0), math.exp(draw.uniform(math.log(0.01), math.log(0.1)))
    made = {}
    for name in ("adamw", "lion"):
        away = {axis: draw.uniform(-far, far) for axis in SPACE.axes}
        cost = {axis: draw.expovariate(1 / 0.05) for axis in SPACE.axes}
        made[name] = away, cost, draw.uniform(-0.5, 0.5), draw.uniform(2, 6)
    drift = draw.uniform(-0.5, 0.5)

    def answer(cell: str, trial: Trial, spec: RunSpec) -> float:
        away, cost, tilt, cliff = made[trial.contestant]
        longer = math.log2(spec.tokens / 6400)
        place = {axis: SPACE.axes[axis].position(value) for axis, value in trial.hyperparameters.items()}
        d = {axis: place[axis] - 1 - away[axis] - (drift * longer if axis == "lr" else 0.0) for axis in SPACE.axes}
        if d["lr"] > cliff:
            return math.inf
        d["lr"] += tilt * d["weight_decay"]
        loss = 3.0
        for axis, x in d.items():
            bend = math.sqrt(1 + x * x) - 1
            loss += cost[axis] * (2 * bend if x > 0 else bend) / (1 + 0.1 * abs(x))
        noise = random.Random(
            f"{seed} {cell} {sorted(trial.hyperparameters.items())} {spec.init_seed} {trial.contestant}"
        )
        return loss + sigma * noise.gauss(0, 1) / math.sqrt(noise.gammavariate(2, 0.5))  # Student's t with 4 degrees

    return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["star", "wen", "semenov"])
def test_the_range_covers_studies_of_another_kind(name: str) -> None:
    held = contest(PROTOCOLS[name])
    spread = forecast(held, costs(held)).spread()
    real = [len(play(held, valley(seed)).specs) for seed in range(40)]
    within = sum(spread.least.trials <= trials <= spread.most.trials for trials in real)
    print(name, spread.least.trials, spread.expected.trials, spread.most.trials, sorted(real), within)
    assert within >= 36
    assert 0.75 < sum(real) / len(real) / spread.expected.trials < 1.33


def test_a_forecast_is_the_same_every_time_and_its_parts_add_up() -> None:
    held = contest(PROTOCOLS["star"])
    found, again = (forecast(held, costs(held)) for _ in range(2))
    assert isinstance(found, Forecast)
    assert found == again
    whole = found.spread()
    assert whole.least.trials < whole.expected.trials < whole.most.trials
    cells = [found.spread(cell=cell) for cell in CELLS]
    assert abs(sum(cell.expected.trials for cell in cells) - whole.expected.trials) <= len(cells)
    tune = found.spread(cell="4x", phase="tune").least
    assert tune.tokens == tune.trials * CELLS["4x"].tokens
    assert tune.seconds == pytest.approx(tune.flops / (DEVICES["h100"].flops * DEVICES["h100"].utilisation))


def test_a_sampler_that_is_slow_to_propose_is_played_less_often() -> None:
    pytest.importorskip("optuna")
    held = contest(TPE(trials=4, at_once=4))
    assert len(forecast(held, costs(held)).games) < len(forecast(contest(Grid()), costs(held)).games)
