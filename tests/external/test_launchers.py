"""Ray and Slurm around a command: a real study, its workers killed, with nothing repeated and no process left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.external.conftest import TRAIN, processes_with, wait_until
from tests.external.test_study import STUDY, losses, objective, written

from fairstep.runs import CommandSpec, Store

pytestmark = [pytest.mark.dist, pytest.mark.slow]

NEEDS = {"ray": "ray", "slurm": "submitit"}
LIMIT = 240
TRIALS = 13
SETTINGS = '\n[launcher]\nname = "{name}"\nworkers = 2\ncluster = "local"\nattempts = 3\n'
SLOW = """
import subprocess, sys, time
open("starts", "a").write(sys.argv[5] + "\\n")
subprocess.Popen([sys.executable, "-Sc", "import time; time.sleep(100)", WORD])
time.sleep(0.5)
"""


def study_with(folder: Path, name: str, word: str) -> Path:
    """A study whose command takes half a second and leaves a child behind."""
    return written(folder, STUDY + SETTINGS.format(name=name), f"WORD = {word!r}\n{SLOW}{TRAIN}")


def started(file: Path, store: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fairstep", "study", "run", str(file), "--launcher", name, "--store", str(store)]
    with (file.parent / "said.txt").open("ab") as words:
        return subprocess.Popen(command, stdout=words, stderr=words)


def ended(file: Path, process: subprocess.Popen[bytes]) -> None:
    assert process.wait(LIMIT) == 0, (file.parent / "said.txt").read_text()


def above(pid: int) -> Iterator[tuple[int, str]]:
    """Processes that a process descends from, and their command lines."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def victim_of(victim: str, word: str) -> int:
    """A process of this kind above a command that has begun; 0 if there is none. A worker's guardian is its fork."""
    name = {"worker": "fairstep.external", "guardian": "fairstep.external"}.get(victim, victim)
    for child in processes_with(word):
        with contextlib.suppress(OSError, StopIteration):
            pid = next(pid for pid, command in above(child) if name in command)
            forks = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            return next(fork for fork in forks if os.getsid(fork) == fork != child) if victim == "guardian" else pid
    return 0


@pytest.mark.parametrize(
    ("name", "victim", "again"),
    [
        ("ray", "worker", 1),
        ("ray", "guardian", 0),  # its worker ends before it starts another command
        ("ray", "ray::_Worker", 1),
        ("slurm", "worker", 1),
        ("slurm", "train.py", 1),
    ],
)
def test_a_study_around_a_command_although_a_process_is_killed(
    name: str, victim: str, again: int, tmp_path: Path
) -> None:
    """``again``: commands that are started a second time."""
    pytest.importorskip(NEEDS[name])
    word = f"launched-{os.getpid()}-{tmp_path.name}"
    file, store = study_with(tmp_path / "study", name, word), tmp_path / "store"
    process = started(file, store, name)

    def in_the_middle() -> int:
        assert process.poll() is None, (file.parent / "said.txt").read_text()
        return victim_of(victim, word) if len(losses(store)) >= 2 else 0

    os.kill(wait_until(in_the_middle, LIMIT), signal.SIGKILL)
    ended(file, process)
    assert (file.parent / "said.txt").read_text().count("; it is tried again") == 1
    starts = (file.parent / "starts").read_text().splitlines()
    assert len(starts) == len(set(starts)) + again
    assert len(set(starts)) == len(losses(store)) == TRIALS
    wait_until(lambda: not processes_with(word))
    for run in Store(store).runs():
        assert isinstance(run.spec, CommandSpec)
        assert run.summary is not None
        values: dict[str, Any] = run.spec.settings
        assert run.summary.final_loss == objective(**values, seed=run.spec.seed, steps=run.spec.steps)


@pytest.mark.parametrize("name", NEEDS)
def test_a_command_is_told_how_many_processes_its_trial_has(name: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[name])
    text = STUDY.replace('"{out}"]', '"{out}", "{processes}"]') + SETTINGS.format(name=name) + "processes = 2\n"
    file, store = written(tmp_path / "study", text), tmp_path / "store"
    ended(file, started(file, store, name))
    for path in (store / "runs").glob("*/command.txt"):
        assert path.read_text().split()[-1] == "2"
    assert len(losses(store)) == TRIALS
