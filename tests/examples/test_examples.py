"""Every script of examples/ runs as a user would run it, needs public front doors only, and fits on a screen."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairstep.cli import main
from fairstep.data import prepare
from fairstep.study.file.study import read

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
FRONT_DOORS = {f"fairstep.{room}" for room in ("optim", "runs", "study", "analysis", "data", "model", "cli")}


def run(script: str, *arguments: str) -> str:
    """What a script prints. It must end well."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_enters_by_front_doors(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fairstep"):
            assert node.module in FRONT_DOORS


@pytest.mark.slow
def test_a_contest_ends_in_a_verdict_and_its_store_can_be_read(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    said = run("contest.py", "--store", store, "--tokens", "20000", "--seeds", "2")
    assert "adamw" in said.splitlines()[0]
    assert {line.split()[0] for line in said.splitlines()[1:]} == {"adamw", "lion"}
    read = run("read_store.py", store)
    assert "example: what was spent" in read
    assert "training loss of run" in read


@pytest.mark.slow
def test_an_optimizer_of_ones_own_is_checked_and_trained(tmp_path: Path) -> None:
    said = run("own_optimizer.py", "--store", str(tmp_path / "store"), "--tokens", "20k")
    assert "Nothing is wrong with own_optimizer:NormalisedMomentum." in said
    assert "'optimizer': 'own_optimizer:NormalisedMomentum'" in said


@pytest.mark.slow
def test_a_study_file_is_planned_and_run(tmp_path: Path) -> None:
    said = run("study.py", "--store", str(tmp_path / "store"))
    assert "trials expected" in said
    for cell in ("12k-b4", "12k-b8"):
        for name in ("adamw", "lion"):
            assert f"{name} in 27k-{cell}: " in said


@pytest.mark.slow
def test_two_runs_are_compared(tmp_path: Path) -> None:
    stores = [str(tmp_path / name) for name in ("one", "two")]
    for store in stores:
        training = ["train", "adamw", "--preset", "27k", "--tokens", "8k", "--no-compile", "--store", store]
        assert main(training) == 0
    assert float(run("compare_runs.py", *stores)) == 0.0


@pytest.mark.oracle
def test_soap_trains_a_model_of_transformers() -> None:
    pytest.importorskip("transformers", reason="install the extra eval")
    said = run("transformers_loop.py", "--steps", "30")
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("step")]
    assert losses[-1] < losses[0] - 0.5
    assert "lm_head.weight " in said


@pytest.mark.slow
def test_a_function_of_ones_own_is_contested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len((FOLDER / "function.py").read_text(encoding="utf-8").splitlines()) <= 30
    said = run("function.py", "20")
    assert "adamw" in said.splitlines()[0]
    assert (tmp_path / "runs/function/report.html").exists()


def test_a_model_of_ones_own_is_short_and_passes_its_check(capsys: pytest.CaptureFixture[str]) -> None:
    file = FOLDER / "own_model" / "model.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 45
    assert main(["model", "check", f"{file}:build"]) == 0
    said = capsys.readouterr().out
    assert "196,928 parameters, 131,072 of them in matrices" in said  # as the how-to shows


@pytest.mark.oracle
def test_the_study_of_a_model_of_transformers_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="install the extra eval")
    monkeypatch.chdir(FOLDER.parent)
    study = read(FOLDER / "hf" / "study.toml")
    assert [contestant.name for contestant in study.contest().contestants] == ["adamw", "muon"]


def test_tasks_of_held_out_text_have_one_right_answer_of_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "texts.jsonl"
    words = [f"w{n}" for n in range(97)]
    documents = [" ".join(words[(n * k + n // 97) % 97] for k in range(60)) for n in range(900)]
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    prepare(str(text), vocabulary=300, name="numbers")
    out = tmp_path / "tasks"
    made = run("text_tasks.py", "numbers", str(out), "--questions", "30").split()
    assert [name.rpartition("_")[2] for name in made] == ["next", "word", "order"]
    for name in made:
        assert f"task: {name}" in (out / f"{name}.yaml").read_text()
        questions = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        assert len(questions) == 30 and len({question["label"] for question in questions}) == 4
        for question in questions:
            right = question["choices"][question["label"]]
            assert question["choices"].count(right) == 1 and len(question["choices"]) == 4
            assert any(question["context"] + right in document for document in documents)
