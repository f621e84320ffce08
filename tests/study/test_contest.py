"""The contest's plan against objectives whose answer is known: no training, only numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairstep import optim
from fairstep.runs import DataSpec, ModelSpec, RunSpec, Summary, Trial, Value
from fairstep.study import Axis, Contest, Contestant, Plan, Space, Workload

WORKLOAD = Workload(
    model=ModelSpec(preset="tiny", layers=1, width=16, heads=1, mlp_width=32, vocabulary=300, context=16),
    data=DataSpec(name="text", fingerprint="ab", vocabulary=300),
    batch_sequences=4,
    tokens=64 * 100,
)

SPACE = Space({"lr": Axis((0.001, 0.002, 0.004, 0.008), domain="(0, inf)")})

Objective = Callable[[RunSpec], Summary]


def contest(**changes: object) -> Contest:
    contestants = tuple(Contestant(name, {"lr": 0.001}, SPACE) for name in ("adamw", "muon"))
    fields: dict[str, object] = {"cells": {"": WORKLOAD}, "contestants": contestants, "baseline": "adamw"}
    return Contest(**(fields | changes))  # type: ignore[arg-type]


def bowl(best: dict[str, float]) -> Objective:
    """Loss is the squared distance from the best learning rate, in doublings; above 1.0 it diverges."""

    def objective(spec: RunSpec) -> Summary:
        lr = float(spec.optimizer.hyperparameters["lr"])
        if lr > 1.0:
            return Summary(status="diverged")
        return Summary(status="done", final_loss=3 + math.log2(lr / best[spec.optimizer.name]) ** 2)

    return objective


def carried_out(contest: Contest, objective: Objective, order: random.Random | None = None) -> tuple[Plan, int]:
    """Plan, carry out what is missing, plan again; or tell one plan the results one by one in a random order."""
    results: dict[str, Summary] = {}
    if order is not None:
        plan = Plan(contest)
        while waiting := plan.missing():
            spec = order.choice(waiting)
            results[spec.identity] = objective(spec)
            plan.tell(spec.identity, results[spec.identity])
        return plan, len(results)
    while True:
        plan = Plan(contest, results.get)
        missing = plan.missing()
        if not missing:
            return plan, len(results)
        for spec in missing:
            results[spec.identity] = objective(spec)


def trials(plan: Plan) -> list[Trial]:
    return [entry.trial for entry in plan.trials.values()]


def runs(plan: Plan) -> list[tuple[Trial, RunSpec]]:
    return [(trial, plan.specs[trial.run]) for trial in trials(plan)]


def chosen(plan: Plan) -> dict[str, dict[str, Value]]:
    return {name: choice.hyperparameters for (_, name), choice in plan.choices.items()}


def tuned(plan: Plan, name: str) -> list[float]:
    return sorted(
        float(trial.hyperparameters["lr"])
        for trial in trials(plan)
        if trial.contestant == name and trial.phase == "tune"
    )


def test_a_best_point_inside_the_grid_needs_no_more() -> None:
    plan, _ = carried_out(contest(), bowl({"adamw": 0.002, "muon": 0.004}))
    assert chosen(plan) == {"adamw": {"lr": 0.002}, "muon": {"lr": 0.004}}
    assert tuned(plan, "adamw") == tuned(plan, "muon") == [0.001, 0.002, 0.004, 0.008]


def test_a_best_point_at_the_edge_extends_the_grid_until_it_is_inside() -> None:
    plan, _ = carried_out(contest(), bowl({"adamw": 0.0005, "muon": 0.032}))
    assert tuned(plan, "adamw") == [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008]
    assert tuned(plan, "muon") == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064]
    assert plan.choices["", "muon"].hyperparameters == {"lr": 0.032}
    assert not plan.choices["", "muon"].at_edge


def test_an_optimum_out_of_reach_is_reported_as_at_the_edge() -> None:
    plan, _ = carried_out(contest(extensions=2), bowl({"adamw": 0.002, "muon": 0.9}))
    assert plan.choices["", "muon"].at_edge
    assert plan.choices["", "muon"].hyperparameters == {"lr": 0.032}


def test_divergence_is_a_result_and_the_search_moves_down() -> None:
    wild = Contestant("muon", {"lr": 1.0}, Space({"lr": Axis((2.0, 4.0), domain="(0, inf)")}))
    plan, _ = carried_out(contest(contestants=(contest().contestants[0], wild)), bowl({"adamw": 0.002, "muon": 0.5}))
    assert plan.choices["", "muon"].hyperparameters == {"lr": 0.5}


def test_a_contestant_that_always_diverges_gets_no_finals() -> None:
    plan, _ = carried_out(contest(), lambda spec: Summary(status="diverged"))
    assert all(choice.hyperparameters == {} for choice in plan.choices.values())
    assert {trial.phase for trial in trials(plan)} == {"tune"}


def test_finals_are_fresh_and_paired_and_the_baseline_has_its_budgets() -> None:
    plan, count = carried_out(contest(seeds=3), bowl({"adamw": 0.002, "muon": 0.004}))
    seeds = {
        name: [s.init_seed for t, s in runs(plan) if t.contestant == name and t.phase == "final"]
        for name in ("adamw", "muon")
    }
    assert seeds == {"adamw": [1, 2, 3], "muon": [1, 2, 3]}
    assert {s.init_seed for t, s in runs(plan) if t.phase == "tune"} == {0}
    assert all(s.init_seed == s.data_seed for _, s in runs(plan))
    budgets = [(t.contestant, s.tokens, s.steps) for t, s in runs(plan) if t.phase == "budget"]
    assert budgets == [("adamw", 3200, 50), ("adamw", 12800, 200)]
    assert count == len(plan.trials) == 8 + 6 + 2


def test_warm_up_keeps_its_share_of_every_budget() -> None:
    plan, _ = carried_out(contest(), bowl({"adamw": 0.002, "muon": 0.004}))
    assert {spec.schedule.warmup_steps / spec.steps for _, spec in runs(plan)} == {0.05, 0.04}  # 2 of 50


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), adamw=st.floats(1e-4, 0.1), muon=st.floats(1e-4, 0.1))
def test_the_outcome_does_not_depend_on_the_order_of_results(seed: int, adamw: float, muon: float) -> None:
    objective = bowl({"adamw": adamw, "muon": muon})
    at_once, _ = carried_out(contest(), objective)
    one_by_one, _ = carried_out(contest(), objective, random.Random(seed))
    assert at_once.choices == one_by_one.choices
    assert set(at_once.trials) == set(one_by_one.trials)


def test_long_trials_start_first_among_the_finals() -> None:
    plan = Plan(contest())
    assert {trial.phase for trial in trials(plan)} == {"tune"}
    objective = bowl({"adamw": 0.002, "muon": 0.004})
    for spec in plan.missing():
        plan.tell(spec.identity, objective(spec))
    assert [spec.tokens for spec in plan.missing()[:2]] == [12800, 3200]


def test_a_failed_run_is_not_a_result() -> None:
    """The caller of plan never passes failed summaries on; see runner.results_of."""
    plan = Plan(contest())
    assert len(plan.missing()) == 8
    assert plan.choices == {}


@pytest.mark.parametrize("budget", [0.001, 0.5, 1.4])
def test_budgets_are_whole_batches(budget: float) -> None:
    assert WORKLOAD.tokens_of(budget) % 64 == 0
    assert WORKLOAD.tokens_of(budget) >= 64


def test_a_schedule_of_the_optimizer_takes_the_length_of_its_own_run() -> None:
    """AdEMAMix raises alpha and beta3 over the run, in both papers; a budget of half the tokens has half the steps."""
    given = {"lr": 0.001, "schedule_steps": 0}
    assert WORKLOAD.spec("ademamix", given, 0).optimizer.hyperparameters["schedule_steps"] == 100
    assert WORKLOAD.spec("ademamix", given, 0, 3200).optimizer.hyperparameters["schedule_steps"] == 50
    off = given | {"schedule_steps": 1}
    assert WORKLOAD.spec("ademamix", off, 0).optimizer.hyperparameters["schedule_steps"] == 1


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("float32", "float32")])
def test_newton_schulz_multiplies_in_the_precision_of_the_run(
    precision: Literal["bf16", "float32"], dtype: str
) -> None:
    """What decides a run's numbers is in its spec, and not left to the processor; what was chosen is kept."""
    workload = replace(WORKLOAD, precision=precision)
    for chosen, resolved in (({}, dtype), ({"ns_dtype": "float64"}, "float64")):
        spec = workload.spec("muon", optim.get("muon").validate({"lr": 0.01, **chosen}), 0)
        assert spec.optimizer.hyperparameters["ns_dtype"] == resolved


def test_a_contest_says_what_it_cannot_decide() -> None:
    described = Contest({"": WORKLOAD}, tuple(Contestant(n, {"lr": 0.1}, Space()) for n in ("adamw", "muon")), "adamw")
    (fixed,) = described.warnings()
    assert fixed.startswith("nothing is searched for adamw, muon (lr 0.1 for each)")
    searched = Contest({"": WORKLOAD}, (Contestant("adamw", {"lr": 0.1}, SPACE),), "adamw", seeds=1)
    (one,) = searched.warnings()
    assert one.startswith("seeds = 1 gives no interval")
    short = {"a": WORKLOAD, "b": replace(WORKLOAD, tokens=49 * WORKLOAD.batch_tokens)}
    (one,) = Contest(short, (Contestant("adamw", {"lr": 0.1}, SPACE),), "adamw").warnings()
    assert one.startswith("a run in b is only 49 steps long")
    assert not Contest(
        {"b": replace(WORKLOAD, tokens=50 * WORKLOAD.batch_tokens)}, searched.contestants, "adamw"
    ).warnings()
