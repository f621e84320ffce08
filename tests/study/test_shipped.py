"""Every shipped study can be read, fits its device, and is planned; S's ablations are all accounted for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairstep.runs.schedule import learning_rate_fraction
from fairstep.study.file.study import read
from fairstep.study.forecast.games import forecast

FOLDER = Path(__file__).parents[2] / "studies"
FILES = sorted(FOLDER.rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_study_is_read_and_fits_its_device(path: Path) -> None:
    study = read(path)
    contest = study.contest()
    costs = study.costs(contest)
    assert len(costs) == len(contest.cells) * len(contest.contestants)
    assert study.table.title


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_study_is_planned(path: Path) -> None:
    study = read(path)
    contest = study.contest()
    costs = study.costs(contest)
    spread = forecast(contest, costs).spread()
    assert len(costs) * contest.design.first <= spread.least.trials <= spread.expected.trials
    assert spread.expected.trials <= spread.most.trials
    assert spread.expected.tokens > 0
    assert spread.expected.flops > 0


def test_all_that_is_promised_is_there() -> None:
    names = {path.stem for path in FILES}
    assert {"demo", "pocket-wen", "pocket-semenov", "wen-16x"} <= names
    assert {f"wen-phase{number}" for number in (1, 2, 3)} <= names
    assert {f"semenov-{size}" for size in ("124m-small-batch", "124m-large-batch", "210m", "720m", "moe")} <= names
    listed = (FOLDER / "README.md").read_text()
    assert {int(number) for number in re.findall(r"\| A(\d+) ", listed)} == set(range(1, 28))
    for name in re.findall(r"`semenov/(a[\w-]+)`", listed):
        assert name in names
    for name in names:
        assert name in listed.replace("-large-batch", "semenov-124m-large-batch"), name


def test_wens_first_phase_costs_what_wens_did() -> None:
    """The stars alone, with nothing to be found outside them: W published 1,841 losses of phase I."""
    study = read(FOLDER / "wen-phase1.toml")
    contest = study.contest()
    trials = 0
    scion = next(contestant for contestant in contest.contestants if contestant.name == "scion")
    assert all("outer_lr_ratio" in space.axes for space in scion.spaces.values()), "W searched it"
    for name, workload in contest.cells.items():
        for contestant in contest.contestants:
            problem = contestant.problem(name, workload, 0, 0)
            trials += 1 + len(problem.space.star(problem.start))
    assert 0.8 < trials / 1841 < 1.25


def test_the_cell_of_track_3_is_its_baseline() -> None:
    """Result 36: 3,250 steps of 2^19 tokens, a constant rate and a line over the last 0.7, no clipping, bf16."""
    contest = read(FOLDER / "track3-124m.toml").contest()
    (cell, workload), *more = contest.own_cells.items()
    muon = next(contestant for contestant in contest.contestants if contestant.name == "muon")
    spec = muon.spec(workload, muon.problem(cell, workload, 0, 0).start, 0)
    assert not more and (spec.steps, spec.batch_tokens, spec.evaluation.final_tokens) == (3250, 2**19, 20 * 2**19)
    assert (spec.clip_norm, spec.precision, spec.schedule.warmup_steps) == (0.0, "bf16", 0)
    assert [learning_rate_fraction(spec.schedule, step, 3250) for step in (0, 975, 3249)] == pytest.approx(
        [1, 1, 1 / 2275]
    )
    hyperparameters = spec.optimizer.hyperparameters
    assert (hyperparameters["lr"], hyperparameters["weight_decay"], hyperparameters["momentum"]) == (0.025, 0.05, 0.95)
    rates = {role: 0.025 * hyperparameters[f"{role}.lr_ratio"] for role in ("embedding", "head", "vector")}
    assert rates == pytest.approx({"embedding": 0.7, "head": 0.004, "vector": 0.015})
    assert hyperparameters["aux.weight_decay"] == 0.001
    assert (hyperparameters["adam_eps"], hyperparameters["ns_eps"]) == (1e-10 / 2**19, 1e-7 / 2**19)
