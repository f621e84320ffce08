"""Certificates made again from their trials: what every protocol makes is supported, and what was edited is not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.study.played import bases, play, random_objective
from tests.study.test_plan import SPACE, answer, contest

from fairstep.runs import Ledger
from fairstep.runs.run import Checked
from fairstep.study import Plan, ledgers, unsupported
from fairstep.study.protocols import TPE, Descent, Grid, Protocol, Random, Semenov, Star, Thrifty, Wen

PROTOCOLS: dict[str, Protocol] = {
    "grid": Grid(),
    "random": Random(trials=6),
    "star": Star(),
    "descent": Descent(),
    "tpe": TPE(trials=6),
    "wen": Wen(phase2=("4x",), phase3=("8x",), checked=("8x",)),
    "semenov": Semenov("2x", {"8x": ("beta2",)}),
    "thrifty": Thrifty(part=0.25),
}


def of(plan: Plan) -> tuple[dict[str, Ledger], dict[str, Checked]]:
    runs = {run: Checked(plan.specs[run], summary) for run, summary in plan.summaries.items()}
    return ledgers(plan, bases(plan.contest)), runs


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_a_protocol_certifies_is_supported(name: str) -> None:
    plan = play(contest(PROTOCOLS[name]), answer())
    made, runs = of(plan)
    for ledger in made.values():
        assert list(unsupported(ledger, runs)) == []


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("loss", {"loss": 2.5}),
        ("tuning_loss", {"tuning_loss": 2.5}),
        ("trials", {"trials": 99}),
        ("sigma", {"sigma": 1e-9}),
        ("configuration", {"configuration": {"lr": 0.5, "beta2": 0.9}}),
        ("near_optimal", {"near_optimal": ()}),
    ],
)
def test_what_was_edited_is_named_by_its_field(field: str, change: dict[str, Any]) -> None:
    objective = random_objective(SPACE, 3)
    held = contest(Star())
    plan = play(held, lambda cell, trial, spec: objective.run(trial.hyperparameters, spec.init_seed))
    made, runs = of(plan)
    ledger = made["1x"]
    proof = ledger.certificates["adamw"].model_copy(update=change)
    said = list(unsupported(ledger.model_copy(update={"certificates": {"adamw": proof}}), runs))
    assert any(f"certificates.adamw.{field}" in line for line in said), said


def test_an_interval_that_was_made_narrow_is_named() -> None:
    objective = random_objective(SPACE, 3)
    plan = play(contest(Star()), lambda cell, trial, spec: objective.run(trial.hyperparameters, spec.init_seed))
    made, runs = of(plan)
    ledger = made["1x"]
    proof = ledger.certificates["adamw"]
    assert proof.largest is not None
    narrow = proof.model_copy(update={"largest": proof.largest.model_copy(update={"high": 0.0})})
    (said,) = unsupported(ledger.model_copy(update={"certificates": {"adamw": narrow}}), runs)
    assert "certificates.adamw.largest.high: it claims 0," in said
