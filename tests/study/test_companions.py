"""The stage ``companions``: the same trials for every contestant after any protocol, and where it ends."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from tests.study.played import play

from fairstep.runs import RunSpec, Trial
from fairstep.study import Plan, certificates
from fairstep.study.file.line_numbers import StudyError
from fairstep.study.file.study import read
from fairstep.study.protocols.companions import FACTOR, beside

STUDY = """\
budgets = []
seeds = 2
extensions = 0
companions = 2
[protocol]
name = "{protocol}"
{more}
[[cells]]
model = "27k"
name = "short"
steps = 100
[[cells]]
model = "27k"
name = "long"
steps = 200
[[contestants]]
optimizer = ["adamw", "muon", "torch.optim:Adam"]
space = "none"
grid.lr = [0.01, 0.02, 0.04]
"""
BEST = {"embedding": 3.0, "head": 0.4, "vector": 1.0}


def loss(cell: str, trial: Trial, spec: RunSpec) -> float:
    """Best at other learning rates than the matrices' own, by the ratios that the run has."""
    hyper = spec.optimizer.hyperparameters
    default = float(hyper.get("adam_lr_ratio", 1.0))
    away = [math.log2(float(hyper.get(f"{role}.lr_ratio", default)) / best) for role, best in BEST.items()]
    return 3 + 0.01 * sum(x * x for x in away) + abs(math.log2(float(hyper["lr"]) / 0.02))


def plan_of(folder: Path, protocol: str, more: str = "", rounds: int = 2) -> Plan:
    path = folder / "mine.toml"
    path.write_text(STUDY.format(protocol=protocol, more=more).replace("companions = 2", f"companions = {rounds}"))
    return play(read(path).contest(), loss)


@pytest.mark.parametrize(
    ("protocol", "more"),
    [
        ("grid", ""), ("random", "trials = 3"), ("star", ""), ("descent", ""), ("semenov", 'tuned = "short"'),
        ("wen", 'phase2 = ["long"]'),
    ],
)  # fmt: skip
def test_every_contestant_has_the_same_trials_after_any_protocol(protocol: str, more: str, tmp_path: Path) -> None:
    plain, plan = (plan_of(tmp_path, protocol, more, rounds) for rounds in (0, 2))
    for name in ("adamw", "muon", "torch.optim:Adam"):
        counts = [sum(p.standings[cell, name].tuning.trials for cell in p.contest.cells) for p in (plain, plan)]
        cells = 2 if protocol in ("grid", "random", "star", "descent") else 1
        assert counts[1] - counts[0] == cells * 3 * 2 * 2, "roles x trials x rounds"
        chosen = plan.choices["short", name].hyperparameters
        start = 0.2 if name == "muon" else 1.0
        for role, best in BEST.items():
            assert abs(math.log2(float(chosen[f"{role}.lr_ratio"]) / best)) <= max(1.0, math.log2(best / start) - 3)


def test_it_adds_no_run_of_what_was_tried(tmp_path: Path) -> None:
    plain, plan = plan_of(tmp_path, "grid", rounds=0), plan_of(tmp_path, "grid")
    tuned = [{entry.trial.run for entry in p.trials.values() if entry.trial.phase == "tune"} for p in (plain, plan)]
    assert tuned[0] < tuned[1]
    proof = certificates(plan)["short", "muon"]
    assert {"embedding.lr_ratio", "head.lr_ratio", "vector.lr_ratio"} < {c.name for c in proof.coordinates}
    assert proof.trials == 3 + 12


def test_new_values_lie_around_the_best_and_are_new() -> None:
    assert beside(1.0, {1.0}) == [1 / FACTOR, FACTOR]
    assert beside(4.0, {0.25, 1.0, 4.0}) == [2.0, 16.0]
    assert beside(1.0, {0.25, 1.0, 4.0}) == [0.5, 2.0]
    for moves in itertools.product((0, 1, 2), repeat=4):
        tried, centre = {0.2}, 0.2
        for move in moves:
            values = beside(centre, tried)
            assert len(set(values) - tried) == 2
            tried.update(values)
            centre = [centre, *values][move]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"adamw", "muon", "torch.optim:Adam"', '"adamw", "prodigy"', "prodigy estimates one learning rate"),
        ("companions = 2", "companions = -1", "companions must be greater than or equal to 0"),
    ],
)
def test_mistakes(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(STUDY.format(protocol="grid", more="").replace(old, new))
    with pytest.raises(StudyError, match=f"line 4: .*{sentence}"):
        read(path)
