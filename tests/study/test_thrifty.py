"""The protocol thrifty on formulas whose optimum is known at every length, in a plan, and refused without a law."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.study.played import bases, play
from tests.study.test_contest import WORKLOAD
from tests.study.test_file import write
from tests.study.test_protocols import solved

from fairstep.cli import main
from fairstep.runs import RunSpec, Trial
from fairstep.study import Axis, Contest, Contestant, Plan, Space, differences, ledgers
from fairstep.study.forecast.objectives import Synthetic
from fairstep.study.forecast.random_objectives import at_start
from fairstep.study.protocols import Thrifty
from fairstep.study.protocols.search import Problem, Tuning, Wanted
from fairstep.study.protocols.space import key
from fairstep.study.protocols.thrifty import carried

SPACE = Space(
    {
        "lr": Axis((0.001, 0.002, 0.004, 0.008), 2.0, "(0, inf)"),
        "beta2": Axis((0.9, 0.95, 0.975), domain="[0, 1)"),
        "weight_decay": Axis((0.05, 0.1, 0.2), domain="[0, inf)"),
    }
)
START = {"lr": 0.004, "beta2": 0.95, "weight_decay": 0.1}
PROBLEM = Problem(SPACE, START, tokens=6400, batch_tokens=64)


def objective(exponent: float, rate: float, **optimum: float) -> Synthetic:
    """At the full length the best learning rate is ``rate``, and it moves by tokens^exponent."""
    places = {"lr": math.log2(rate / 0.001), "beta2": 1.0, "weight_decay": 1.0} | optimum
    return Synthetic(SPACE, places, dict.fromkeys(places, 0.01), drift={"lr": exponent})


def searched(made: Synthetic, problem: Problem = PROBLEM, **settings: Any) -> tuple[Tuning, list[Wanted]]:
    asked: list[Wanted] = []

    def answer(cell: str, wanted: Wanted) -> float:
        asked.append(wanted)
        return made.at_length((wanted.tokens or problem.tokens) / problem.tokens).run(wanted.configuration, 0)

    return solved(Thrifty(**{"part": 0.25} | settings), {"": problem}, answer)[""], asked


def test_every_hyperparameter_is_swept_once_at_the_full_length() -> None:
    tuning, asked = searched(objective(-0.5, 0.002), part=1)
    assert {(w.phase, w.tokens) for w in asked} == {("tune", None)}
    assert [len({key({**w.configuration, name: 0}) for w in asked}) for name in SPACE.axes] == [5, 6, 6]
    assert tuning.best == START | {"lr": 0.002}
    assert not tuning.notes


def test_every_hyperparameter_is_swept_shorter_and_the_learning_rate_again_at_the_full_length() -> None:
    tuning, asked = searched(objective(-0.5, 0.002))  # four times the tokens: from 0.004 to 0.002
    short, full = asked[:8], asked[8:]
    assert {(w.phase, w.tokens) for w in short} == {("short", 1600)}
    assert [w.configuration for w in short][:4] == [START] + [START | {"lr": lr} for lr in (0.001, 0.002, 0.008)]
    assert {(w.phase, w.tokens) for w in full} == {("tune", None)}
    assert [w.configuration["lr"] for w in full[:4]] == [0.002] * 4  # the best combination and three rivals
    assert len({key(w.configuration) for w in full[:4]}) == 4
    assert sorted(w.configuration["lr"] for w in full[4:]) == [0.001, 0.004]
    assert tuning.best == START | {"lr": 0.002}
    assert tuning.problem.space.searched == ["lr"]  # what a certificate may speak of
    assert tuning.notes == [
        "Searched with 8 schedules of 25 steps, and at the cell's length from the best 4 on: the learning rate; not "
        "one by one beta2, weight_decay."
    ]


@pytest.mark.parametrize("exponent", [-1.5, 0.0, 1.0])
def test_a_learning_rate_that_follows_another_law_is_found_by_the_edges(exponent: float) -> None:
    tuning, asked = searched(objective(exponent, 0.008))
    assert tuning.best == START | {"lr": 0.008}
    assert len(asked) > 14


def test_a_rival_wins_where_the_lengths_disagree() -> None:
    made = objective(-0.32, 0.004)
    moved = replace(made, drift=made.drift | {"beta2": 0.4})  # shorter, the optimum is nearer to 0.9
    tuning, _ = searched(moved)
    assert tuning.best is not None
    assert tuning.best["beta2"] == 0.95
    alone, _ = searched(moved, rivals=1)
    assert alone.best is not None
    assert alone.best["beta2"] == 0.9


def test_where_everything_diverges_it_ends() -> None:
    found = solved(Thrifty(part=0.25), {"": replace(PROBLEM, extensions=1)}, lambda cell, wanted: math.inf)[""]
    assert found.best is not None
    assert found.loss(found.best) == math.inf


@pytest.mark.parametrize(
    ("optimum", "ratio", "expected"),
    [
        (0.004, 4, 0.002),  # 4^-0.32 is 0.64: 0.64 steps down, rounded to one
        (0.004 * 2**0.3, 4, 0.004),  # 0.34 steps down
        (0.004, 8, 0.002),
        (0.004 * 2**-0.49, 16, 0.001),
    ],
)
def test_the_learning_rate_is_carried_on_its_own_grid(optimum: float, ratio: float, expected: float) -> None:
    tuning = Tuning(replace(PROBLEM, shorter=1600))
    for lr in (0.002, 0.004, 0.008):
        place = START | {"lr": lr}
        tuning.losses[key(place)] = math.log2(lr / optimum) ** 2
        tuning.configurations[key(place)] = place
    assert carried(tuning, START, ratio)["lr"] == expected


def contest() -> Contest:
    contestants = tuple(Contestant(name, START | {"lr": 0.002}, SPACE) for name in ("adamw", "lion"))
    return Contest({"": WORKLOAD}, contestants, "adamw", Thrifty(part=0.25), seeds=3, budgets=(0.5,))


def played() -> Plan:
    held = contest()
    made = at_start({("", one.name): one.problem("", WORKLOAD, 4, 0) for one in held.contestants})

    def answer(cell: str, trial: Trial, spec: RunSpec) -> float:
        here = made["", trial.contestant].at_length(spec.tokens / WORKLOAD.tokens)
        return here.run(trial.hyperparameters, spec.init_seed) + (
            0.01 * spec.init_seed if trial.phase == "final" else 0
        )

    return play(held, answer)


def test_a_ledger_counts_both_lengths_and_the_effort_is_equal() -> None:
    (ledger,) = ledgers(played(), bases(contest())).values()
    phases = Counter((trial.contestant, trial.phase, trial.tokens) for trial in ledger.trials)
    for name in ("adamw", "lion"):
        assert phases[name, "short", 1600] == 8
        assert phases[name, "tune", 6400] == 6
        proof = ledger.certificates[name]
        assert proof.trials == 14
        assert proof.tokens == 8 * 1600 + (6 + 3) * 6400
        assert [one.name for one in proof.coordinates] == ["lr"]
    assert differences(ledger) == []


STUDY = """\
seeds = "3..8"

[protocol]
name = "thrifty"
part = 0.25

[[cells]]
model = "27k"
chinchilla = 1
batch_sequences = 8

[[contestants]]
optimizer = ["adamw", "lion"]
grid.weight_decay = [0.05, 0.1, 0.2]
"""


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        ("chinchilla = 1", "steps = 100", "adamw in 27k-100-steps: 0.25 of its run is 25 steps, and with fewer"),
        ("batch_sequences = 8", "batch_sequences = 8\nwarmup_steps = 9", "its warm-up does not shrink with the"),
        ("batch_sequences = 8", 'batch_sequences = 8\nschedule = "constant"', "its learning rate does not decay"),
        ("grid.weight_decay", "only = []\ngrid.weight_decay", "adamw in 27k-1x: it has no grid of learning rates"),
        ("[0.05, 0.1, 0.2]", "[0.05, 0.1, 0.2]\ngrid.batch_sequences = [4, 8]", "none for batch_sequences; fix it"),
        ('seeds = "3..8"', "trials = 9", "a limit of trials is of one length and it has two"),
        ("chinchilla = 1", 'chinchilla = 1\ntransfer = "law"\nlaw = { tokens = -0.3 }', "follows the length already"),
        ("part = 0.25", "part = 1.5", "part must be above 0 and at most 1, not 1.5"),
    ],
)
def test_cells_without_a_law_are_refused(
    changed: str, to: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "plan", str(write(tmp_path, STUDY.replace(changed, to)))]) == 2
    assert "thrifty has no law for adamw in 27k" in (error := capsys.readouterr().err)
    assert said in error


def test_one_sweep_at_the_full_length_needs_no_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = STUDY.replace("part = 0.25\n", "").replace("chinchilla = 1", 'steps = 100\nschedule = "constant"')
    assert main(["study", "plan", str(write(tmp_path, study)), "--device", "h100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["phases"]["short"]["most"]["trials"] == 0


def test_a_plan_stands_beside_the_full_grid_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, STUDY)
    assert main(["study", "plan", str(path), "--device", "h100", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    thrifty, grid = plan["beside"]["thrifty"], plan["beside"]["grid"]
    assert thrifty["tokens"] == plan["all"]["expected"]["tokens"] < grid["tokens"]
    assert plan["phases"]["short"]["expected"]["trials"] > 0
    for one in (thrifty, grid):
        assert 0 < one["regret_low"] < one["regret"] < one["regret_high"]
    path.write_text(STUDY.replace('"thrifty"\npart = 0.25', '"grid"'))
    assert main(["study", "plan", str(path), "--device", "h100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["expected"]["tokens"] == grid["tokens"]
