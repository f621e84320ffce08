"""Certificates: what they say about searches whose truth is known, and that they say it at their level."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from tests.study.played import play, random_objective
from tests.study.test_contest import WORKLOAD

from fairstep.runs import Certificate, Summary
from fairstep.study import Axis, Contest, Contestant, Plan, Space
from fairstep.study.forecast.objectives import Synthetic
from fairstep.study.protocols import Descent, Grid, Protocol, Random, Star
from fairstep.study.protocols.space import key
from fairstep.study.tournament.ledgers import certificates

SPACE = Space(
    {
        "lr": Axis((0.001, 0.002, 0.004, 0.008), domain="(0, inf)"),
        "beta2": Axis((0.9, 0.95, 0.98), domain="[0, 1)"),
        "weight_decay": Axis((0.0, 0.1, 0.2), domain="[0, inf)"),
        "nesterov": Axis((False, True)),
    }
)
HYPER = {"lr": 0.002, "beta2": 0.95, "weight_decay": 0.1, "nesterov": False, "eps": 1e-8}


def contest(protocol: Protocol, names: tuple[str, ...] = ("adamw",), **changes: Any) -> Contest:
    fields = {"budgets": (), "tolerance": 3e-3} | changes
    contestants = tuple(Contestant(name, HYPER, SPACE) for name in names)
    return Contest({"": WORKLOAD}, contestants, names[0], protocol, **fields)


def played(objective: Synthetic, protocol: Protocol, **changes: Any) -> tuple[Plan, Certificate]:
    plan = play(
        contest(protocol, **changes), lambda cell, trial, spec: objective.run(trial.hyperparameters, spec.init_seed)
    )
    return plan, certificates(plan)["", "adamw"]


def bowl(sigma: float, **optimum: float) -> Synthetic:
    places = {"lr": 2.0, "beta2": 1.0, "weight_decay": 1.0, "nesterov": 1.0} | optimum
    return Synthetic(SPACE, places, dict.fromkeys(places, 0.02), sigma=sigma)


def test_a_complete_star_around_a_sharp_optimum_is_certified() -> None:
    _, certificate = played(bowl(sigma=1e-4), Star(tolerance=0.0), seeds=6)
    assert certificate.certified
    assert certificate.configuration == {"lr": 0.004, "beta2": 0.95, "weight_decay": 0.1, "nesterov": True}
    assert certificate.statement == "Certified: no single-coordinate move gains more than 0.003 (95 %)."
    assert {c.name: len(c.tried) for c in certificate.coordinates} == {
        "lr": 3,
        "beta2": 2,
        "weight_decay": 2,
        "nesterov": 1,
    }
    assert certificate.largest is not None
    assert certificate.largest.gain == pytest.approx(-0.02, abs=2e-3)
    assert [near.hyperparameters for near in certificate.near_optimal] == [certificate.configuration]
    assert certificate.fresh == 6
    assert certificate.tokens == (certificate.trials + 6) * 6400
    assert Certificate.model_validate_json(certificate.to_json()) == certificate


def test_what_is_missing_is_named() -> None:
    _, certificate = played(bowl(sigma=1e-4), Random(3))
    assert not certificate.certified
    assert "never tried: lr" in certificate.missing[0]
    _, certificate = played(bowl(sigma=1e-4, lr=9.0), Grid(), extensions=1)
    assert certificate.edges == ["lr"]
    assert "outermost value tried is the chosen one: lr 0.016 (upper)" in certificate.missing[-1]
    plan = Plan(contest(Grid()))
    early = certificates(plan)["", "adamw"]
    assert early.missing == ("Tuning goes on: 0 of 72 trials known so far have results.",)
    assert early.statement == "Nothing is chosen."


def test_finals_that_have_not_come_or_diverged_are_missing() -> None:
    plan = Plan(contest(Grid()))
    objective = bowl(sigma=1e-4)
    for spec in plan.missing():
        loss = objective.run(plan.roles(spec.identity)[0][1].hyperparameters, 0)
        plan.tell(spec.identity, Summary(status="done", final_loss=loss))
    certificate = certificates(plan)["", "adamw"]
    assert certificate.missing == ("Runs on fresh seeds go on.", "No run of the chosen configuration on a fresh seed.")
    assert certificate.largest is not None
    assert certificate.largest.low is None
    for spec in plan.missing():
        plan.tell(spec.identity, Summary(status="diverged"))
    certificate = certificates(plan)["", "adamw"]
    assert certificate.missing == ("A run of the chosen configuration on a fresh seed diverged.",)


def test_finalists_are_chosen_on_seeds_of_their_own() -> None:
    """Two configurations that differ by less than the noise: the choice rests on fresh seeds, the verdict on others."""
    flat = Synthetic(SPACE, {"lr": 1.5}, {"lr": 1e-5}, sigma=2e-3)
    plan, certificate = played(flat, Grid(), finalists=4, finalist_seeds=3, seeds=3)
    standing = plan.standings["", "adamw"]
    assert [list(losses) for losses in standing.finalists.values()] == [[1001, 1002, 1003]] * 4
    assert list(standing.finals) == [1, 2, 3]
    means = {k: sum(losses.values()) / 3 for k, losses in standing.finalists.items()}
    assert key(certificate.configuration) == min(means, key=means.__getitem__)
    assert certificate.loss == pytest.approx(sum(standing.finals.values()) / 3)
    assert certificate.degrees == 2 + 2
    assert certificate.trials == standing.tuning.trials + 12
    finals = [entry.trial for entry in plan.trials.values() if entry.trial.phase == "final"]
    assert {key(trial.hyperparameters) for trial in finals} == {key(certificate.configuration)}


def test_the_text_names_everything() -> None:
    _, certificate = played(bowl(sigma=1e-3), Star())
    text = certificate.text()
    for word in ("configuration", "lr=0.004", "near-optimal", "best move", "sigma", "trials", "fresh runs"):
        assert word in text


PROTOCOLS = {"grid": Grid(), "star": Star(), "strict star": Star(tolerance=0.0), "descent": Descent()}
REPETITIONS = 200
SIGMAS = (2e-4, 1e-3, 3e-3)
"""A tenth, a third and all of the tolerance."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_statements_are_true_at_their_level(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """200 random objectives with interactions, noise that is shared within a seed, and optima off the first grid."""
    made: Counter[str] = Counter()
    true: Counter[str] = Counter()

    def count(statement: str, is_true: bool) -> None:
        made[statement] += 1
        true[statement] += is_true

    for seed in range(REPETITIONS):
        objective = random_objective(SPACE, seed, sigma=SIGMAS[seed % len(SIGMAS)], outside=1.5)
        plan, certificate = played(objective, PROTOCOLS[name], finalists=3, finalist_seeds=3, seeds=3)
        tuning = plan.standings["", "adamw"].tuning
        here = objective.loss(certificate.configuration)
        gains = [
            here - objective.loss(point)
            for point in tuning.space.star(certificate.configuration)
            if tuning.asked(point)
        ]
        largest = certificate.largest
        assert largest is not None and largest.low is not None and largest.high is not None
        count("largest gain of a tried move lies in its interval", largest.low <= max(gains) <= largest.high)
        near = {key(n.hyperparameters) for n in (*certificate.near_optimal, *certificate.not_excluded)}
        truly = {k for k, c in tuning.configurations.items() if objective.loss(c) <= here + certificate.tolerance}
        count("every near-optimal configuration tried is listed", truly <= near)
        assert certificate.sigma_low is not None and certificate.sigma_high is not None
        count("sigma lies in its interval", certificate.sigma_low <= objective.sigma <= certificate.sigma_high)
        if not certificate.missing and largest.high <= certificate.tolerance:
            count("'no move gains more than the tolerance'", max(gains) <= certificate.tolerance)
        if not certificate.missing and largest.low > certificate.tolerance:
            count("'a move gains more than the tolerance'", max(gains) > certificate.tolerance)
    with capsys.disabled():
        print(f"\n{name}: statement, times made, share true (stated: 0.95)")
        for statement, times in made.items():
            print(f"  {statement:55}{times:5}{true[statement] / times:8.3f}")
    for statement, times in made.items():
        slack = 2 * math.sqrt(0.05 * 0.95 / times)  # two standard errors of a share that is 0.95
        assert true[statement] / times >= 0.95 - slack, statement


@pytest.mark.slow
def test_edges_lead_to_optima_outside_the_first_grid() -> None:
    """The optimum of lr lies 3 steps above the grid; without extension the best is at the edge, and is said to be."""
    for seed in range(50):
        drawn = random_objective(SPACE, seed, sigma=0.0)
        away = Synthetic(SPACE, {**drawn.optimum, "lr": 6.0}, {**drawn.curvature, "lr": 0.01})
        _, short = played(away, Star(tolerance=0.0), extensions=0)
        plan, long = played(away, Star(tolerance=0.0), extensions=4)
        assert "lr" in short.edges
        assert long.configuration["lr"] == 0.064
        assert "lr" not in long.edges
        assert plan.choices["", "adamw"].at_edge is bool(long.edges)


def test_a_cell_in_which_nothing_was_searched_is_not_certified() -> None:
    """As at W's largest scale, where laws predict every hyperparameter."""
    single = Space({name: Axis((value,)) for name, value in HYPER.items()})
    workload = contest(Star(tolerance=0.0), seeds=3)
    alone = Contest(workload.cells, (Contestant("adamw", HYPER, single),), "adamw", Star(tolerance=0.0), budgets=())
    objective = Synthetic(single, {}, {}, sigma=1e-4)
    plan = play(alone, lambda cell, trial, spec: objective.run(trial.hyperparameters, spec.init_seed))
    certificate = certificates(plan)["", "adamw"]
    assert not certificate.coordinates
    assert not certificate.certified
    assert certificate.missing == (
        "No hyperparameter was searched in this cell, so that no single-coordinate move was tried.",
    )
