"""The examples around trainers of others: each study file is right, short, and ends in a verdict."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairstep.analysis import contest_result
from fairstep.runs import Store
from fairstep.study.file.study import read

FOLDER = Path(__file__).parents[2] / "examples"
PACKAGES = {"hf_trainer": "transformers", "lightning_module": "lightning", "litgpt_pretrain": "litgpt"}


def fairstep(*arguments: str) -> str:
    """What a command prints. It must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "fairstep", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def verdicts(study: Path, store: Path) -> dict[str, str]:
    said = fairstep("study", "run", str(study), "--store", str(store))
    assert "muon" in said
    (ledger,) = Store(store).ledgers()
    runs = Store(store).runs()
    for run in runs:
        assert max(row["step"] for row in run.metrics() if row["kind"] == "train") >= run.spec.steps - 5
    return {row["name"]: row["verdict"] for row in contest_result(ledger, runs)["contestants"]}


@pytest.mark.parametrize("name", ["plain", *PACKAGES])
def test_a_study_file_of_two_contestants_around_a_short_script(name: str) -> None:
    study = read(FOLDER / name / "study.toml")
    assert [contestant.name for contestant in study.contest().contestants] == ["adamw", "muon"]
    assert len((FOLDER / name / "train.py").read_text(encoding="utf-8").splitlines()) <= (60 if name == "plain" else 75)


@pytest.mark.slow
def test_a_plain_script_ends_in_a_verdict(tmp_path: Path) -> None:
    """Of a study with a tenth of the example's steps, one learning rate each and two seeds."""
    text = (FOLDER / "plain" / "study.toml").read_text(encoding="utf-8")
    for old, new in (
        ("steps = 200", "steps = 20"),
        ("seeds = 3", "seeds = 2"),
        ("budgets = [0.5, 2.0]", ""),
        ("[4e-3, 8e-3, 16e-3]", "[8e-3]"),
        ("[32e-3, 64e-3, 128e-3]", "[64e-3]"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "study.toml").write_text(text)
    (tmp_path / "train.py").write_bytes((FOLDER / "plain" / "train.py").read_bytes())
    assert verdicts(tmp_path / "study.toml", tmp_path / "store")["adamw"] == "baseline"
    run = Store(tmp_path / "store").runs()[0]
    assert len([row for row in run.metrics() if row["kind"] == "train"]) == 20


def needs(package: str) -> None:
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}; make test-oracles installs it")


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "package"), [("plain", ""), ("hf_trainer", "transformers")])
def test_the_doctor_finds_nothing_wrong(name: str, package: str) -> None:
    needs(package)
    found = json.loads(fairstep("doctor", "--trainer", str(FOLDER / name / "study.toml"), "--json"))
    assert found["fit"]
    assert {finding["status"] for finding in found["findings"]} == {"passed"}, found


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "package"), PACKAGES.items())
def test_a_trainer_of_a_package_ends_in_a_verdict(name: str, package: str, tmp_path: Path) -> None:
    """Muon against AdamW as the example has it."""
    needs(package)
    assert verdicts(FOLDER / name / "study.toml", tmp_path / "store") == {"muon": "faster", "adamw": "baseline"}
