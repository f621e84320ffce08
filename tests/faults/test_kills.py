"""kill -9 at random moments of a training, with both ways of writing checkpoints. FAULTS_KILLS: how many of each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import SEED

from fairstep.runs import Execution, Store
from fairstep.train import train

KILLS = int(os.environ.get("FAULTS_KILLS") or 15)

PROGRAM = """
import os, random, signal, sys, time
from fairstep.runs import RunSpec, Store
from fairstep.train.run import train

spec, store, kills = RunSpec.from_json(open(sys.argv[1]).read()), Store(sys.argv[2]), int(sys.argv[3])
run, draw = store.run(spec), random.Random(int(sys.argv[4]))

def rows():
    path = run.directory / "metrics.jsonl"
    return path.read_bytes().count(b"\\n") if path.exists() else 0

def starts():
    return len(run.environment.get("starts", []))

def wait_until(wanted):
    while not wanted():
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "the run ended by itself"
        time.sleep(0.001)

def live():
    pid = os.fork()
    if pid == 0:
        train(spec, store)
        os._exit(0)
    return pid

for life in range(kills):
    before = starts()
    pid = live()
    if draw.random() < 0.8:  # else it is killed while it starts
        wait_until(lambda: starts() > before)
        wanted = rows() + draw.randint(0, 5)
        wait_until(lambda: rows() >= wanted)
    time.sleep(draw.random() * 0.03)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the run ended before it was killed"
_, status = os.waitpid(live(), 0)
sys.exit(status != 0)
"""
"""torch is loaded once and every life is a fork of that process."""


@pytest.mark.parametrize(("optimizer", "asynchronous"), [("muon", False), ("soap", True)])
def test_a_killed_run_ends_in_the_same_bytes(
    optimizer: str, asynchronous: bool, tally: Any, tiny: Any, tmp_path: Path
) -> None:
    """Each life ends in a step, in the writing of a checkpoint or of a row, or while it starts."""
    execution = Execution(threads=1, compile=False, checkpoint_every_steps=3, asynchronous=asynchronous)
    spec = tiny(optimizer, tokens=8 * 16 * max(500, 20 * KILLS), execution=execution)
    (tmp_path / "spec.json").write_text(spec.to_json())
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "spec.json"), str(tmp_path / "b"), str(KILLS)]
    command = [*command, str(SEED + asynchronous)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    run, whole = Store(tmp_path / "b").run(spec), train(spec, Store(tmp_path / "a"))
    same = (run.directory / "metrics.jsonl").read_bytes() == (whole.directory / "metrics.jsonl").read_bytes()
    steps = [start["step"] for start in run.environment["starts"]]
    assert steps == sorted(steps)
    assert steps[-1] > 20
    tally("kills of a training", KILLS, KILLS * same, KILLS * (not same))
