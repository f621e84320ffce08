"""Overrides in study files and on the command line: one table of roles everywhere, and mistakes at their line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.study.played import play

from fairstep import optim
from fairstep.cli import main
from fairstep.cli.compare import CompareOptions, contestant_tables
from fairstep.cli.shared.options import assignment, hyperparameters, parse
from fairstep.model import build
from fairstep.runs import RunSpec
from fairstep.study import Plan, certificates
from fairstep.study.file.line_numbers import StudyError
from fairstep.study.file.study import read

TRACK = {"embedding.lr_ratio": 28, "head.lr_ratio": 0.16, "vector.lr_ratio": 0.6, "aux.weight_decay": 1e-3,
         "aux.beta1": 0.8, "aux.eps": 1e-10, "weight_decay": 0.05}  # fmt: skip
STUDY = """\
budgets = []
seeds = 2
[[cells]]
model = "27k"
steps = 100
schedule = "wsd"
[[contestants]]
optimizer = "muon"
space = "none"
set = { SET }
grid.lr = [0.025]
"""


def study(folder: Path, given: dict[str, Any], more: str = "") -> Any:
    text = STUDY.replace("SET", ", ".join(f"{json.dumps(name)} = {value}" for name, value in given.items()))
    path = folder / "mine.toml"
    path.write_text(text + more)
    return read(path)


def first_run(contest: Any, place: int = 0) -> RunSpec:
    cell, workload = next(iter(contest.cells.items()))
    contestant = contest.contestants[place]
    start = contestant.problem(cell, workload, 0, 0).start
    spec: RunSpec = contestant.spec(workload, {**start, "lr": 0.025}, 0)
    return spec


def test_library_train_and_study_give_one_routing_table(tmp_path: Path) -> None:
    """The tuned baseline of modded-nanogpt's track: embedding 0.7, head 0.004, vectors 0.015 beside Muon's 0.025."""
    spec = first_run(study(tmp_path, TRACK).contest())
    trained = hyperparameters(
        "muon", dict(assignment(f"{name}={value}") for name, value in {**TRACK, "lr": 0.025}.items())
    )
    resolved = optim.get("muon").of_run(trained, steps=spec.steps, precision=spec.precision)
    assert spec.optimizer.hyperparameters == resolved
    model = build(spec.model)
    overrides = {
        "embedding": {"lr_ratio": 28}, "head": {"lr_ratio": 0.16}, "vector": {"lr_ratio": 0.6},
        "aux": {"betas": (0.8, 0.95), "eps": 1e-10, "weight_decay": 1e-3},
    }  # fmt: skip
    library = optim.Muon(model, lr=0.025, weight_decay=0.05, overrides=overrides)
    table = optim.build("muon", model, **trained).routing_table()
    assert library.routing_table() == table
    rows = [line.split() for line in table.splitlines()[1:]]
    assert {(row[-5], row[-4], row[-3], row[-2], row[-1]) for row in rows} == {
        ("matrix", "muon", "0.025", "1", "0.05"),
        ("embedding", "adamw", "0.7", "28", "0.001"),
        ("head", "adamw", "0.004", "0.16", "0.001"),
        ("vector", "adamw", "0.015", "0.6", "0.001"),
    }


def test_a_ratio_is_searched_chosen_and_certified_like_any_hyperparameter(tmp_path: Path) -> None:
    more = """grid."embedding.lr_ratio" = [0.2, 0.4, 0.8]
[[contestants]]
optimizer = "adamw"
space = "none"
grid."embedding.lr_ratio" = [0.5, 1, 2]
grid.lr = [0.025]
"""
    contest = study(tmp_path, {}, more).contest()
    space = contest.contestants[0].space
    assert space.axes["embedding.lr_ratio"].beyond(True) == 1.6, "a ratio goes on by factors of 2"
    assert "embedding.lr_ratio" not in first_run(contest).optimizer.hyperparameters, "0.2 is Muon's own"
    plan: Plan = play(contest, lambda cell, trial, spec: 3.0)
    for (_, name), choice in plan.choices.items():
        assert "embedding.lr_ratio" in choice.hyperparameters, name
    proof = certificates(plan)[next(iter(contest.cells)), "muon"]
    assert "embedding.lr_ratio" in [coordinate.name for coordinate in proof.coordinates]
    plain = study(tmp_path, {}).contest()
    assert first_run(plain).identity == first_run(contest).identity, "what says nothing renames no run"


def test_a_schedule_of_companions(tmp_path: Path) -> None:
    spec = first_run(study(tmp_path, {"aux.decay_fraction": 0.5}).contest())
    assert spec.optimizer.hyperparameters["aux.decay_fraction"] == 0.5
    with pytest.raises(StudyError, match="the schedule cosine has no decay_fraction"):
        text = STUDY.replace("SET", '"aux.decay_fraction" = 0.5').replace('"wsd"', '"cosine"')
        (tmp_path / "mine.toml").write_text(text)
        read(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"embeding.lr_ratio": 2}, r"line 10: muon: embeding.lr_ratio is for an unknown role \(did you mean"),
        ({"head.lr_ratio": 0}, r"line 10: muon: head.lr_ratio must be a number in \(0, inf\), not 0"),
        ({"head.momentum": 0.9}, "line 10: muon: head.momentum names no hyperparameter of the rule for head"),
        ({"router.lr_ratio": 2}, "line 3: muon cannot begin in .*: an override is for router, and the model has no"),
        ({"*.q.*.lr_ratio": 2, "blocks.*.lr_ratio": 3}, "'\\*.q.\\*' and 'blocks.\\*' both name blocks.0.attention.q"),
        ({"*.k_norm.*.lr_ratio": 2}, "no parameter is named '\\*.k_norm.\\*'"),
    ],
)  # fmt: skip
def test_mistakes_of_a_file(given: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=sentence):
        study(tmp_path, given)


def test_a_dotted_name_has_quotes(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r'line 7: grid: write "embedding[.]lr_ratio" in quotes, '):
        study(tmp_path, {}, "grid.embedding.lr_ratio = [14, 28]")


def test_compare_takes_overrides_of_one_contestant() -> None:
    given = ["adamw", "moonlight", "--set", "moonlight.embedding.lr_ratio=28", "--set", "adamw.head.lr_ratio=0.5",
             "--space", "d-muon.vector.lr_ratio=0.5,1", "--space", "adamw.vector.lr_ratio=0.5,1"]  # fmt: skip
    adamw, muon = contestant_tables(parse(CompareOptions, "compare", given))
    assert adamw.set == {"head.lr_ratio": 0.5} and muon.set == {"embedding.lr_ratio": 28.0}
    assert muon.grid["vector.lr_ratio"] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "muon", "--set", "embeding.lr_ratio=28"], "did you mean embedding?"),
        (["train", "muon", "--set", "head.lr_ratio=0"], "must be a number in (0, inf), not 0"),
        (["compare", "adamw", "muon", "--set", "adamw.aux.beta1=0.8"], "and so no aux.beta1"),
        (["compare", "adamw", "muon", "--set", "embedding.lr_ratio=2"], "--set takes CONTESTANT.NAME=VALUE"),
        (["compare", "adamw", "muon", "--set", "muon.head.momentum=2"], "names no hyperparameter of the rule for head"),
        (["doctor", "muon", "--model", "27k", "--set", "router.lr_ratio=2"], "the model has no such parameter"),
        (["doctor", "muon", "--model", "28k"], "unknown preset '28k'"),
    ],
)
def test_mistakes_of_the_command_line(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_screens_show_roles_and_ratios(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    assert main(["optimizers", "show", "muon"]) == 0
    shown = capsys.readouterr().out
    assert "embedding: adamw, learning rate 0.2 (adam_lr_ratio) x lr; also beta1, beta2, eps, weight_decay" in shown
    assert main(["doctor", "muon", "--model", "27k", "--set", "embedding.lr_ratio=28"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("embedding"))
    assert row.split()[-5:] == ["embedding", "adamw", "0.56", "28", "0"]
