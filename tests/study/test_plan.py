"""Plans of studies with many cells: whatever order results come in, the same trials, choices and ledgers."""

from __future__ import annotations

import random

from tests.study.played import Answer, play, random_objective, summary_of
from tests.study.test_contest import WORKLOAD

from fairstep.runs import Summary
from fairstep.study import Axis, Contest, Contestant, Plan, Space, Workload, certificates
from fairstep.study.protocols import Protocol, Semenov, Star, Thrifty, Wen

SPACE = Space({"lr": Axis((0.001, 0.002, 0.004), domain="(0, inf)"), "beta2": Axis((0.9, 0.95, 0.98), domain="[0, 1)")})
CELLS = {f"{n}x": Workload(**(vars(WORKLOAD) | {"tokens": 6400 * n})) for n in (1, 2, 4, 8)}


def contest(protocol: Protocol) -> Contest:
    contestants = tuple(Contestant(name, {"lr": 0.001, "beta2": 0.9}, SPACE) for name in ("adamw", "lion"))
    return Contest(CELLS, contestants, "adamw", protocol, seeds=2, finalists=2, budgets=(0.5,))


def answer() -> Answer:
    """By the run's own length: a run of half of 2x is the same run as one of 1x, and serves both."""
    lengths = (3200, 6400, 12_800, 25_600, 51_200, 1600)
    made = {
        (tokens, name): random_objective(SPACE, 10 * i + j)
        for i, tokens in enumerate(lengths)
        for j, name in enumerate(("adamw", "lion"))
    }
    return lambda cell, trial, spec: made[spec.tokens, trial.contestant].run(trial.hyperparameters, spec.init_seed)


def one_by_one(contest: Contest, answer: Answer, seed: int) -> tuple[Plan, dict[str, Summary]]:
    draw, plan, results = random.Random(seed), Plan(contest), {}
    while waiting := plan.missing():
        spec = draw.choice(waiting)
        cell, trial = plan.roles(spec.identity)[0]
        results[spec.identity] = summary_of(spec, answer(cell, trial, spec))
        plan.tell(spec.identity, results[spec.identity])
    return plan, results


PROTOCOLS: list[Protocol] = [
    Star(),
    Wen(phase2=("4x",), phase3=("8x",), checked=("8x",)),
    Semenov("2x", {"8x": ("beta2",)}),
    Thrifty(part=0.25),
]


def test_the_order_of_results_does_not_matter_to_protocols_over_many_cells() -> None:
    for protocol in PROTOCOLS:
        held = contest(protocol)
        whole = play(held, answer())
        for seed in range(1):
            plan, results = one_by_one(held, answer(), seed)
            again = Plan(held, results.get)
            for other in (plan, again):
                assert other.finished
                assert set(other.trials) == set(whole.trials)
                assert other.choices == whole.choices
                assert certificates(other) == certificates(whole)


def test_every_cell_is_concluded_as_soon_as_it_is_settled() -> None:
    """The final runs of one cell do not wait for the tuning of another."""
    plan, give = Plan(contest(Star())), answer()
    while waiting := [spec for spec in plan.missing() if spec.tokens == 6400]:
        for spec in waiting:
            cell, trial = plan.roles(spec.identity)[0]
            plan.tell(spec.identity, summary_of(spec, give(cell, trial, spec)))
    assert {cell for cell, _ in plan.standings} == {"1x"}
    assert plan.standings["1x", "lion"].complete
    assert not plan.finished


def test_a_result_told_twice_or_of_a_stranger_changes_nothing() -> None:
    plan = Plan(contest(Star()))
    first = plan.missing()[0]
    plan.tell(first.identity, Summary(status="done", final_loss=3.0))
    before = len(plan.missing())
    plan.tell(first.identity, Summary(status="done", final_loss=9.0))
    plan.tell("stranger", Summary(status="done", final_loss=9.0))
    assert len(plan.missing()) == before
    assert plan.summaries[first.identity].final_loss == 3.0
