"""kill -9 at random moments of a training, with both ways of writing checkpoints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import SEED
from tests.train.test_kills import PROGRAM

from fairstep.runs import Execution, Store
from fairstep.train import train

KILLS = 15


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_killed_run_ends_in_the_same_bytes(asynchronous: bool, tally: Any, tiny: Any, tmp_path: Path) -> None:
    execution = Execution(threads=1, compile=False, checkpoint_every_steps=3, asynchronous=asynchronous)
    spec = tiny("muon", tokens=8 * 16 * 500, execution=execution)
    (tmp_path / "spec.json").write_text(spec.to_json())
    program = PROGRAM.replace("random.Random(0)", f"random.Random({SEED + asynchronous})")
    command = [sys.executable, "-c", program, str(tmp_path / "spec.json"), str(tmp_path / "b"), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run, whole = Store(tmp_path / "b").run(spec), train(spec, Store(tmp_path / "a"))
    same = (run.directory / "metrics.jsonl").read_bytes() == (whole.directory / "metrics.jsonl").read_bytes()
    tally("kills of a training", KILLS, KILLS * same, KILLS * (not same))
