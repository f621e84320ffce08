"""``benchmarks/gpu.py``: all its checks on a GPU where there is one, and the command itself where there is none."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
CHECKS = ("steps", "losses", "compiled", "resumption", "memory", "contest")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The same in this process, which has imported torch: for calls that end before they compute anything."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setenv("FAIRSTEP_CACHE", "")  # which the command sets
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    status: int = runpy.run_path(str(SCRIPT))["main"]()
    return status


@cache
def report(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip().splitlines() == [
        "benchmarks/gpu.py: torch finds no CUDA device here; --device cpu --quick tries the command without one"
    ]


@pytest.mark.slow
def test_the_command_works_on_a_processor() -> None:
    """Every path that does not need CUDA; a processor differs from itself by nothing but bf16."""
    found = report("--device", "cpu", "--quick")["found"]
    assert list(found) == [*CHECKS, "mfu", "peers", "overhead"]
    rows = {row["what"]: row for name in CHECKS for row in found[name]["rows"]}
    assert [what for what, row in rows.items() if not row["passed"]] == []
    assert all(row["found"] == 0 for what, row in rows.items() if row["limit"] is not None and "bf16" not in what)
    assert 0 < rows["tenth loss, eager bf16"]["found"] < 0.03
    assert found["mfu"]["tokens_per_second"] > 0
    assert found["overhead"]["tiny"]["adamw"]["over_adamw"] == 1
    assert [row["optimizer"] for row in found["peers"]] == ["adamw", "muon"]


@pytest.mark.slow
def test_it_says_what_it_did_not_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--device", "cpu", "--quick", "--only", "steps,mfu", "--minutes", "0", "--json")
    assert called(monkeypatch, *arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["found"] == {}
    late, unasked = dict.fromkeys(("steps", "mfu"), "no time was left"), {*CHECKS, "peers", "overhead"} - {"steps"}
    assert said["not_run"] == {
        **late,
        **dict.fromkeys(unasked, "not asked for"),
        "all on a GPU": "--device cpu: nothing here says how a GPU does",
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
@pytest.mark.parametrize("check", CHECKS)
def test_a_gpu_agrees_with_the_processor(check: str) -> None:
    rows = report("--only", ",".join(CHECKS))["found"][check]["rows"]
    assert [row for row in rows if not row["passed"]] == []
