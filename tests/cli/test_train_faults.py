"""``fairstep train`` beside what is wrong around it: memory, an environment of another world, optimizers that print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairstep.cli import main
from fairstep.cli.shared import memory
from fairstep.runs import Machine


def test_a_run_that_does_not_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: object
) -> None:
    monkeypatch.setattr(memory, "machine", lambda: Machine("", 2, 10**8, False, 0))
    with pytest.raises(ValueError, match=r"adamw at this size needs \S+ GB of memory and this machine has 0\.1 GB"):
        memory.check_memory(tiny())  # type: ignore[operator]


def test_a_sentence_is_said_whatever_rank_is_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    for world in ("4", "", "1"):
        monkeypatch.setenv("WORLD_SIZE", world)
        assert main(["optimizers", "show", "nothing"]) == 2
        assert "fairstep: unknown optimizer 'nothing'" in capsys.readouterr().err
    assert main(["train", "nothing", "--store", str(tmp_path)]) == 2
    assert "fairstep: unknown optimizer 'nothing'" in capsys.readouterr().err


def test_train_json_is_json_whatever_the_optimizer_prints(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], tiny: object
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"document {n} says {n * n} and nothing else. " * 10 for n in range(300)))
    arguments = ["train", "tests.faults.optimizers:Prints", "--preset", "27k", "--data", str(text), "--tokens", "20k"]
    arguments += ["--tokenizer", "bytes", "--no-compile", "--store", str(tmp_path / "s"), "--json"]
    assert main(arguments) == 0, capfd.readouterr().err
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "done"
    assert "from C" in err
    assert "using a fused kernel" in err


def test_a_store_whose_path_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "adamw", "--store", f"{tmp_path}/\udcff"]) == 2
    assert "is no UTF-8" in capsys.readouterr().err
