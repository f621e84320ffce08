"""Studies around a command: read, refused in a sentence, carried out, killed, and from Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.external.conftest import COMMAND, TRAIN, spec_of, wait_until

import fairstep
from fairstep.analysis import contest_result
from fairstep.cli import main
from fairstep.runs import Store, machine, write_atomic
from fairstep.study import Layout, LocalLauncher
from fairstep.study.file.command_study import CommandStudy
from fairstep.study.file.line_numbers import StudyError
from fairstep.study.file.study import read

STUDY = """
seeds = 3
budgets = [0.5]

[trainer]
command = ["python", "-S", "train.py", "{optimizer}", "{lr}", "{seed}", "{steps}", "{out}"]
loss = { file = "{out}/metrics.jsonl", key = "val_loss" }
batch_tokens = "1k"

[[cells]]
steps = 40

[[contestants]]
name = "adamw"
set = { optimizer = "adamw" }
grid.lr = [0.01, 0.02, 0.04]

[[contestants]]
name = "muon"
set = { optimizer = "muon" }
grid.lr = [0.01, 0.02, 0.04]
"""


def written(folder: Path, text: str = STUDY, code: str = TRAIN) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(code)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_a_study_is_read(tmp_path: Path) -> None:
    study = read(written(tmp_path))
    assert isinstance(study, CommandStudy)
    assert study.trainer.files == ("train.py",)
    (cell,) = study.cells()
    assert (cell.name, cell.workload.steps, cell.workload.tokens) == ("40-steps", 40, 40_000)
    contest = study.contest()
    assert [one.name for one in contest.contestants] == ["adamw", "muon"]
    assert contest.baseline == "adamw"


def test_changed_code_is_another_study_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = read(written(tmp_path))
    again = read(written(tmp_path, code=TRAIN + "# more\n"))
    assert study.digest != again.digest
    assert isinstance(again, CommandStudy)
    assert isinstance(study, CommandStudy)
    (before,) = study.ledgers(study.contest(), "").values()
    assert "is not what study-40-steps" in again.changed_since([before])
    assert study.changed_since([before]) == ""


LENGTHS = STUDY.replace("steps = 40", 'steps = [20, 40]\nwidth = [1, 2]\nname = "{steps}x{width}"').replace(
    '"{out}"]', '"{out}", "{width}"]'
)


def test_cells_are_all_combinations_of_lengths_and_placeholders(tmp_path: Path) -> None:
    study = read(written(tmp_path, LENGTHS))
    assert isinstance(study, CommandStudy)
    assert [cell.name for cell in study.cells()] == ["20x1", "20x2", "40x1", "40x2"]
    assert [cell.workload.cell().model for cell in study.cells()] == ["train.py width=1", "train.py width=2"] * 2


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ('"{lr}", ', "", 16, "lr of adamw is used nowhere in the command"),
        ('"{lr}"', '"{lr}", "{beta2}"', 13, "the command has {beta2}, and nothing gives it to adamw in 40-steps"),
        ('"{seed}", ', "", 5, "the command never uses the seed 'seed'"),
        (
            "{out}/metrics.jsonl",
            "m-{lr}.jsonl",
            7,
            "two trials at once would write the same m-{lr}.jsonl; put {out} into",
        ),
        ("{out}/metrics.jsonl", "m-{lr}-{seed}-{optimizer}", 7, "put {out} into its name, or {steps} too"),
        ("{out}/metrics.jsonl", "{out}/{name}.jsonl", 13, "the command has {name}, and nothing gives it to adamw"),
        ('"{steps}"', '"{tokens}"', 5, "the command never uses {steps}, which is what makes a run longer; set budget"),
        ('loss = { file = "{out}/metrics.jsonl", key = "val_loss" }', "", 5, "nothing says where the loss is read"),
        ("key =", "kee =", 7, "unknown key 'kee'"),
        ('{ file = "{out}/metrics.jsonl", key = "val_loss" }', '{ pattern = "x" }', 7, "has 0 groups"),
        ('{ file = "{out}/metrics.jsonl", key = "val_loss" }', '{ pattern = "(x" }', 7, "is no regular expression"),
        ("steps = 40", "", 10, "the length of its runs is missing; give steps or tokens"),
        ("steps = 40", "steps = 40\ntokens = 7", 12, "the length is given by steps and by tokens; keep one"),
        ("steps = 40", "steps = 40\nwidth = 3", 12, "the command never uses 'width', a value of the cell 40-steps"),
        ("steps = 40", "steps = 40\nout = 3", 12, "'out' cannot be a placeholder of a cell"),
        ('"adamw" }', '"adamw", seed = 3 }', 15, "seed is a seed, which the contest gives; leave it out of set"),
        ('name = "muon"', 'name = "adamw"', 19, "two contestants are called 'adamw'"),
        ("command =", 'call = "a:b"\ncommand =', 5, "a trainer is a command = [...] or a call"),
        ("batch_tokens", 'code = ["model.py"]\nbatch_tokens', 8, "No such file or directory"),
        ("batch_tokens", 'code = ["."]\nbatch_tokens', 8, "this is no regular file"),
        ("batch_tokens", 'progress = "step ([0-9]+)"\nbatch_tokens', 8, "progress needs a step and a loss"),
        ("grid.lr = [0.01, 0.02, 0.04]", "grid.lr = []", 16, "a grid needs at least one value"),
        ("[[cells]]\nsteps = 40\n", "", 1, "cells is missing; add a [[cells]] table"),
    ],
)
def test_what_is_wrong_is_a_sentence_with_its_line(
    old: str, new: str, line: int, sentence: str, tmp_path: Path
) -> None:
    assert old in STUDY
    with pytest.raises(StudyError) as error:
        read(written(tmp_path, STUDY.replace(old, new, 1)))
    assert sentence in str(error.value)
    assert f"line {line}: " in str(error.value)


def run_study(folder: Path, store: str, *more: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "fairstep", "study", "run", str(folder / "study.toml"), "--store", store, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def losses(store: Path) -> dict[str, float | None]:
    return {run.id: run.summary.final_loss for run in Store(store).runs() if run.summary}


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_loss_that_is_not_of_the_end_is_said(factor: float, tmp_path: Path) -> None:
    """A contestant that stops early, or trains on, was judged as if it had the length of the others."""
    code = TRAIN.replace('{"step": steps,', f'{{"step": int(steps * ({factor} if optimizer == "muon" else 1)),')
    assert code != TRAIN
    store = tmp_path / "store"
    assert main(["study", "run", str(written(tmp_path, code=code)), "--store", str(store)]) == 0
    (ledger,) = Store(store).ledgers()
    (note,) = contest_result(ledger, Store(store).runs())["notes"]
    assert note.startswith("muon: by what the trainer wrote, the loss of 6 runs is not of their last step")
    assert f"such as {int(40 * factor)} of 40" in note


@pytest.mark.slow
def test_a_study_is_carried_out_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, code=TRAIN + "open('count', 'a').write('x')\n")
    store = tmp_path / "store"
    for _ in range(2):
        assert main(["study", "run", str(file), "--store", str(store)]) == 0
    said = capsys.readouterr().out
    assert "muon" in said
    assert "3 trials, 3 fresh runs, 240,000 tokens" in said
    assert "train.py, 40k tokens in 40 steps of 1000" in said
    assert (tmp_path / "count").read_text() == "x" * 13
    (ledger,) = Store(store).ledgers()
    result = contest_result(ledger, Store(store).runs())
    assert result["notes"] == []
    muon = next(row for row in result["contestants"] if row["name"] == "muon")
    assert muon["verdict"] == "faster"
    assert (muon["trials"], muon["tokens_spent"], muon["time_verdict"]) == (6, 240_000, "")
    for arguments in (["study", "status", str(file), "--store", str(store)], ["store", "check", str(store)]):
        assert main(arguments) == 0
    target = ["--params", "106k", "--tokens", "750k", "--batch-tokens", "2k"]
    assert main(["recommend", *target, "--store", str(store)]) == 0
    assert main(["claims", "--store", str(store)]) == 0
    assert main(["export", str(Store(store).runs()[0].directory), "--out", str(tmp_path / "out")]) == 2
    assert main(["study", "plan", str(file)]) == 0
    assert "trials expected" in capsys.readouterr().out


def test_a_trial_that_fails_is_said_with_its_last_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, STUDY + "\n[launcher]\nattempts = 1\n", "import nothing_such")
    assert main(["study", "run", str(file), "--store", str(tmp_path / "store")]) == 1
    assert "ModuleNotFoundError: No module named 'nothing_such'" in capfd.readouterr().err


def test_processes_of_a_trial_reach_the_command(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, trainer={"command": (*COMMAND, "{processes}")})
    run = Store(tmp_path / "store").run(spec)
    write_atomic(run.directory / "spec.json", spec.to_json())
    with LocalLauncher(machine(), Layout(workers=1, threads=1, processes=2)) as launcher:
        launcher.start(run)
        ends = wait_until(lambda: [event for event in launcher.events(0.2) if event["event"] == "end"])
        assert ends == [{"event": "end", "run": run.id, "status": "done", "message": ""}]
    assert (run.directory / "command.txt").read_text().split()[-1] == "2"


def test_a_callable_in_a_study_file(tmp_path: Path) -> None:
    text = STUDY.replace("[trainer]\n", 'trainer = "mine:main"\n', 1)
    head, _, rest = text.partition("command = ")
    text = head + rest[rest.index("[[cells]]") :]
    (tmp_path / "mine.py").write_text("def main(optimizer, lr, seed, steps):\n    return 3 + lr + 1e-3 * seed\n")
    study = read(written(tmp_path, text))
    assert isinstance(study, CommandStudy)
    assert study.trainer.files == ("mine.py",)
    run_study(tmp_path, str(tmp_path / "store"))
    assert set(losses(tmp_path / "store").values()) >= {3.01, 3.02, 3.04}


def objective(optimizer: str, lr: float, seed: int, steps: int) -> float:
    """What TRAIN computes."""
    muon = optimizer == "muon"
    noise = 1e-3 * (seed * 7919 % 13 - 6) * (1 + 0.1 * muon)
    return 2.5 + 3 * steps**-0.3 + 40 * (lr - 0.02) ** 2 - 0.1 * muon + noise


CONTESTANTS: dict[str, dict[str, Any]] = {
    name: {"optimizer": name, "lr": [0.01, 0.02, 0.04]} for name in ("adamw", "muon")
}


@pytest.mark.slow
def test_a_contest_from_python_is_the_contest_of_the_command(tmp_path: Path) -> None:
    shift = 0.0
    calls = []

    def train(optimizer: str, lr: float, seed: int, steps: int) -> float:
        calls.append(seed)
        return objective(optimizer, lr, seed, steps) + shift

    def contest(steps: int = 40) -> Any:
        return fairstep.contest(
            train, CONTESTANTS, steps=steps, batch_tokens="1k", budgets=[0.5], store=tmp_path / "store"
        )

    found = contest()
    assert found.verdicts == {"muon": "faster", "adamw": "baseline"}
    assert str(found).startswith("muon (")
    assert len(calls) == 13
    contest()
    assert len(calls) == 13
    second = contest(20)
    assert "is the 2nd contest of these two" in " ".join(second.result["notes"])
    assert all(f"* {note}" in str(second).splitlines() for note in second.result["notes"])
    run_study(written(tmp_path / "study").parent, str(tmp_path / "other"))
    (ledger,) = Store(tmp_path / "other").ledgers()
    other = contest_result(ledger, Store(tmp_path / "other").runs())
    for mine, theirs in zip(found.result["contestants"], other["contestants"], strict=True):
        assert (mine["name"], mine["verdict"]) == (theirs["name"], theirs["verdict"])
        for key in ("loss", "difference", "difference_low", "difference_high", "speedup"):
            assert mine[key] == theirs[key] or mine[key] == pytest.approx(theirs[key], rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"contestants": {"adamw": {}}}, "two or more contestants"),
        ({"contestants": CONTESTANTS | {"lion": {"beta": 3}}}, "takes no argument 'beta'; it takes lr, optimizer"),
        ({"contestants": {"a": {"lr": [1, 2]}, "b": {"lr": [1, 2]}}}, "needs 'optimizer', and nothing gives it to a"),
        ({"steps": None}, "steps=... or tokens=..., and one of the two"),
        ({"seed": "random_state"}, "the trainer never uses the seed 'random_state'"),
        ({"baseline": "sgd"}, "the baseline 'sgd' is no contestant"),
    ],
)
def test_a_contest_from_python_refuses(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    def train(optimizer: str, lr: float, seed: int, steps: int) -> float:
        raise AssertionError("not called")

    given = {"contestants": CONTESTANTS, "steps": 40, "store": tmp_path, **changes}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        fairstep.contest(train, given.pop("contestants"), **given)


@pytest.mark.slow
def test_a_script_calls_contest_and_workers_import_it(tmp_path: Path) -> None:
    code = f"""
import fairstep
def train(optimizer, lr, seed, steps):
    noise = 1e-3 * (seed * 7919 % 13 - 6) * (1.1 if optimizer == "muon" else 1)
    return 2.5 + 3 * steps**-0.3 + 40 * (lr - 0.02) ** 2 - 0.1 * (optimizer == "muon") + noise
if __name__ == "__main__":
    print(fairstep.contest(train, {CONTESTANTS!r}, steps=40, budgets=[], store="store"))
"""
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "muon is faster than adamw" in done.stdout.splitlines()[0]
    assert all((run.directory / "out").is_dir() for run in Store(tmp_path / "store").runs())


@pytest.mark.slow
@pytest.mark.parametrize("file", ["", f"import sys; sys.modules['__main__'].__file__ = {__file__!r}\n"])
def test_a_function_of_a_notebook_is_called_in_its_process(file: str, tmp_path: Path) -> None:
    """One of __main__ that no file has; some consoles have a file of their own there."""
    code = f"""{file}
import os, fairstep
here = os.getpid()
def train(optimizer, lr, seed, steps):
    assert os.getpid() == here
    print("step", steps, "loss 3")
    noise = 1e-3 * (seed * 7919 % 13 - 6) * (1.1 if optimizer == "muon" else 1)
    return 2.5 + 3 * steps**-0.3 + 40 * (lr - 0.02) ** 2 - 0.1 * (optimizer == "muon") + noise
print(fairstep.contest(train, {CONTESTANTS!r}, steps=40, budgets=[], store="store").verdicts)
"""
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'muon': 'faster', 'adamw': 'baseline'}\n"


def test_the_front_door_is_what_dir_shows() -> None:
    assert dir(fairstep) == ["__version__", "contest", "judge"]


def test_importing_fairstep_stays_cheap() -> None:
    code = "import sys, fairstep; dir(fairstep); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
