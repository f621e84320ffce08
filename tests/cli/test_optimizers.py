"""``fairstep optimizers`` and ``fairstep doctor`` as a user sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fairstep import optim
from fairstep.cli import main


def test_the_list_has_a_row_for_every_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizers"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in optim.names())
    assert "Wrappers" in said and "hyperball" in said


def test_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == optim.names()
    keys = {"aliases", "reference", "lr_unit", "decay", "roles", "defaults", "search_space", "flops_formula"}
    assert all(keys <= set(row) for row in rows.values())
    assert rows["adamw"]["state_floats_per_parameter"] == 2
    assert rows["soap"]["state_floats_per_parameter"] == 6
    assert rows["muon"]["flops_per_step"] == 5 * 6 * 1024**3 + 6 * 1024**2
    assert rows["muon"]["roles"]["vector"] == "adamw"


@pytest.mark.parametrize("name", [*optim.names(), "muon+ema"])
def test_one_is_shown_with_its_equations(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["optimizers", "show", name]) == 0
    said = capsys.readouterr().out
    spec = optim.get(name)
    assert spec.text in said and spec.lr_unit in said
    assert all(f"  {hyper} = " in said for hyper in spec.hyperparameters)
    if any(tuning.chosen for tuning in spec.tunings):
        assert "CHOSEN BY THE PAPERS" in said


def test_one_is_shown_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizers", "show", "SOAPe", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "soap" and shown["hyperparameters"]["beta1"]["source"] and len(shown["tunings"]) > 20


def test_a_class_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizers", "show", "torch.optim:SGD"]) == 0
    said = capsys.readouterr().out
    assert "unit: not known" in said and "momentum = 0" in said


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizers", "show"]) == 2
    assert main(["optimizers", "soap", "muon"]) == 2
    assert "fairstep optimizers show NAME" in capsys.readouterr().err


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from fairstep.cli import main; main(['optimizers']); main(['optimizers', 'show', 'kron']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == 0


def test_the_doctor_says_what_is_wrong_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "torch.optim:SGD"]) == 0
    assert "Nothing is wrong with torch.optim:SGD." in capsys.readouterr().out
    source = "import torch\nclass Deaf(torch.optim.SGD):\n    def step(self, closure=None):\n        pass\n"
    (tmp_path / "deaf_optimizer.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "deaf_optimizer:Deaf"]) == 1
    said = capsys.readouterr().out
    assert "did not move in 12 steps" in said and "do not let deaf_optimizer:Deaf compete" in said
    assert main(["doctor", "deaf_optimizer:Deaf", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fit"] is False and found["findings"][0]["status"] == "failed"
    assert {finding["status"] for finding in found["findings"][1:]} == {"skipped"}
