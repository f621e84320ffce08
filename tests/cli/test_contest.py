"""Whole contests through the command line, with real training: interrupted, killed, resumed, reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairstep.cli import main
from fairstep.data import Corpus
from fairstep.runs import Store

pytestmark = pytest.mark.slow

KEYS = {
    "name",
    "loss",
    "loss_low",
    "loss_high",
    "speedup",
    "speedup_low",
    "speedup_high",
    "verdict",
    "step_seconds",
    "optimizer_seconds",
    "state_bytes",
    "trials",
    "tokens_spent",
}
MEASURED = {
    "step_seconds",
    "optimizer_seconds",
    "time_speedup",
    "time_speedup_low",
    "time_speedup_high",
    "time_verdict",
}


@pytest.fixture
def arguments(corpus: Corpus, tmp_path: Path) -> list[str]:
    """Two contestants, about fifteen trainings of 30 steps."""
    texts = str(corpus.directory.parent.parent.parent / "*.txt")
    options = ["--model", "27k", "--vocabulary", "300", "--tokens", "31k", "--seeds", "2", "--no-refine"]
    options += ["--extensions", "1", "--evaluation-tokens", "2000", "--no-compile", "--json"]
    return ["compare", "adamw", "lion", "--data", texts, "--store", str(tmp_path / "store"), *options]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fairstep", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def finished(store: Path) -> dict[str, int]:
    """Identity of every finished run and when its last file was written."""
    return {run.id: (run.directory / "summary.json").stat().st_mtime_ns for run in Store(store).runs() if run.finished}


def wait_for_runs(store: Path, count: int) -> None:
    end = time.monotonic() + 120
    while len(finished(store)) < count:
        assert time.monotonic() < end, "the contest does not get on"
        time.sleep(0.05)


def comparable(result: dict[str, Any]) -> Any:
    """The result without seconds, times, the machine's load and paths, which differ from call to call."""
    looks = [{k: v for k, v in look.items() if k != "time"} for look in result["design"]["looks"]]
    rows = [{k: v for k, v in row.items() if k not in MEASURED} for row in result["contestants"]]
    notes = [note for note in result["notes"] if not note.startswith("Step times are of")]
    rest = {k: v for k, v in result.items() if k not in ("contestants", "report", "design", "load", "notes")}
    return [rest, rows, looks, notes]


def test_killed_and_started_again_ends_in_the_table_of_an_undisturbed_contest(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    for count in (1, 5):
        process = start(arguments)
        wait_for_runs(store, count)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = finished(store)
    capfd.readouterr()
    assert main(arguments) == 0
    resumed = json.loads(capfd.readouterr().out)
    after = finished(store)
    assert len(after) > len(before) >= 5
    assert {identity: after[identity] for identity in before} == before, "a finished run was repeated"

    undisturbed = [str(tmp_path / "other") if part == str(store) else part for part in arguments]
    assert main(undisturbed) == 0
    assert comparable(json.loads(capfd.readouterr().out)) == comparable(resumed)

    assert set(resumed) >= {"baseline", "cell", "contestants", "report"}
    assert all(set(row) >= KEYS for row in resumed["contestants"])
    verdicts = {row["name"]: row["verdict"] for row in resumed["contestants"]}
    assert verdicts["adamw"] == "baseline"
    assert verdicts["lion"] in ("faster", "slower", "not separable")

    page = Path(resumed["report"]).read_text(encoding="utf-8")
    assert main(["report", str(store), "--json", "--out", str(tmp_path / "again.html")]) == 0
    assert comparable(json.loads(capfd.readouterr().out)) == comparable(resumed)
    for row in resumed["contestants"]:
        assert f"{row['loss']:.3f}" in page


def test_control_c_ends_with_130_and_keeps_what_is_finished(arguments: list[str], tmp_path: Path) -> None:
    process = start(arguments)
    wait_for_runs(tmp_path / "store", 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "stopped; no finished run is lost" in said
    assert len(finished(tmp_path / "store")) >= 2


def test_one_training_and_its_repetition(arguments: list[str], tmp_path: Path, capfd: Any) -> None:
    options = arguments[3 : arguments.index("--seeds")]
    command = ["train", "muon", *options, "--no-compile", "--json"]
    assert main(command) == 0
    first = json.loads(capfd.readouterr().out)
    assert main(command) == 0
    assert json.loads(capfd.readouterr().out) == first
    assert first["status"] == "done"
    assert main(["train", "adamw", "--lr", "1000", "--clip-norm", "0", *options, "--no-compile"]) == 1
    assert "diverged" in capfd.readouterr().out


MINE = """
import torch

class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.1, weight_decay=0.0, betas=(0.9, 0.0)):
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=betas[0])
"""


def test_anyones_optimizer_competes(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class in the current folder, with a space of its own, to a verdict; an edit of it is another contestant."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_optimizer.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(folder)
    options = arguments[arguments.index("--data") :]
    command = ["compare", "adamw", "my_optimizer:Mine", *options, "--space", "lr=log:0.05:0.2", "--extensions", "0"]
    command += ["--tokens", "20k"]
    assert main([*command, "--budgets", "0.5", "--set", "my_optimizer:Mine.betas=[0.8,0.0]"]) == 0
    result = json.loads(capfd.readouterr().out)
    row = next(row for row in result["contestants"] if row["name"] == "my_optimizer:Mine")
    assert row["verdict"] in ("faster", "slower", "not separable")
    specs = [run.spec for run in Store(tmp_path / "store").runs()]
    mine = [spec.optimizer for spec in specs if spec.optimizer.name == "my_optimizer:Mine"]
    assert {choice.version.partition(" ")[0] for choice in mine} == {"my_optimizer,"}
    assert {choice.hyperparameters["lr"] for choice in mine} == {0.05, 0.1, 0.2}
    assert {choice.hyperparameters["beta1"] for choice in mine} == {0.8}
    assert "my_optimizer:Mine" in Path(result["report"]).read_text(encoding="utf-8")
    [summary] = {run.summary.state_bytes for run in Store(tmp_path / "store").runs() if run.spec.optimizer in mine}
    assert summary > 0

    (folder / "my_optimizer.py").write_text(MINE + "# edited\n", encoding="utf-8")
    run = next(run for run in Store(tmp_path / "store").runs() if run.spec.optimizer in mine)
    again = tmp_path / "again" / "runs" / run.id
    again.mkdir(parents=True)
    (again / "spec.json").write_bytes((run.directory / "spec.json").read_bytes())
    worker = [sys.executable, "-m", "fairstep.train", str(again)]
    done = subprocess.run(worker, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "this run is of my_optimizer:Mine in my_optimizer, source" in done.stdout
