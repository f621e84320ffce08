"""Contestants of one optimizer in a store: which of them are rivals, which are variants, and over which seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.study.played import play, stored
from tests.study.test_contest import WORKLOAD

from fairstep.analysis.claims.evidence import Cell
from fairstep.analysis.claims.store_evidence import store_evidence
from fairstep.runs import RunSpec, Trial
from fairstep.study import Axis, Contest, Contestant, Space

FIXED = Space({})
LOSSES = {"adamw": 3.0, "warm": 3.1, "high": 3.2, "wsd": 3.3, "soap": 2.9, "alone": 3.5, "bad": math.inf}


def contestant(name: str, optimizer: str = "adamw", lr: float = 0.01, **settings: Any) -> Contestant:
    starts = {"": dict(settings)}
    return Contestant(name, {"lr": lr}, FIXED, optimizer=optimizer, starts=starts)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    contestants = (
        contestant("adamw"),
        contestant("warm", warmup_steps=20),
        contestant("high", lr=0.1),
        contestant("wsd", lr=0.005, schedule="wsd"),
        contestant("bad", clip_norm=0.0),
        Contestant("soap", {"lr": 0.01}, Space({"lr": Axis((0.01, 0.02), domain="(0, inf)")})),
        contestant("alone", "lion"),
    )
    held = Contest({"": WORKLOAD}, contestants, "adamw", seeds=3, budgets=(), extensions=0)

    def answer(cell: str, trial: Trial, spec: RunSpec) -> float:
        return LOSSES[trial.contestant] + 0.1 * spec.init_seed

    (found,) = store_evidence(stored(play(held, answer), tmp_path / "store")).cells
    return found


def test_variants_are_no_rivals(cell: Cell) -> None:
    """One that competes without its optimizer stands for it."""
    assert sorted(cell.losses) == ["adamw", "alone", "soap"]
    assert [len(cell.variants[name]) for name in ("adamw", "soap", "lion")] == [5, 1, 1]


def test_a_single_trial_counts_beside_the_final_runs(cell: Cell) -> None:
    """A search of two trials chose by them, so that they do not count."""
    assert sorted(seed for seed, _ in cell.variants["adamw"][0].loss.runs) == [0, 1, 2, 3]
    assert sorted(seed for seed, _ in cell.variants["soap"][0].loss.runs) == [1, 2, 3]
    assert sorted(seed for seed, _ in cell.losses["adamw"].runs) == [1, 2, 3]


def test_one_setting_at_a_time(cell: Cell) -> None:
    usual = cell.variants["adamw"][0].settings["warmup_steps"]
    table = cell.beside("adamw", "warmup_steps")
    assert {steps: one.loss.value for steps, one in table.items()} == {
        usual: pytest.approx(3.15),
        20: pytest.approx(3.25),
    }
    assert {steps: loss.value for steps, loss in cell.sweeps["adamw", "warmup_steps"].items()} == {
        steps: one.loss.value for steps, one in table.items()
    }
    assert sorted(cell.beside("adamw", "lr")) == [0.01, 0.1]
    assert ("adamw", "lr") not in cell.sweeps, "a variant's learning rate is no step of a sweep"
    assert ("adamw", "schedule") not in cell.sweeps


def test_the_learning_rate_may_go_with_the_schedule(cell: Cell) -> None:
    assert set(cell.beside("adamw", "schedule")) == {"cosine"}
    both = cell.beside("adamw", "schedule", but=("lr",))
    assert {kind: one.settings["lr"] for kind, one in both.items()} == {"cosine": 0.01, "wsd": 0.005}


def test_a_variant_that_diverges(cell: Cell) -> None:
    assert cell.beside("adamw", "clip_norm")[0.0].loss.diverged


def test_the_model_is_known(cell: Cell) -> None:
    assert dict(cell.model) == {"init_std": 0.02, "z_loss": 0.0, "qk_norm": False, "experts": 0}
    assert not cell.experts
