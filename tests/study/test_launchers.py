"""Ray, Slurm and the local launcher as a user starts them: real trials, killed workers, a killed study, two at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairstep.runs import Run, Store
from fairstep.study.launchers.slurm import SlurmLauncher

pytestmark = [pytest.mark.dist, pytest.mark.slow]

STUDY = """
seeds = 1
extensions = 0
[data.text]
source = ["{folder}/text.txt"]
vocabulary = 300
[[cells]]
model = "27k"
steps = 120
batch_sequences = 4
evaluation_tokens = 1024
[[contestants]]
optimizer = ["adamw", "lion"]
grid.lr = [0.002, 0.004]
[launcher]
workers = 1
compile = false
{launcher}
"""
TRIALS = 6
"""Four of tuning, and a final one for each contestant."""
LIMIT = 240


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(300)]
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(draw.choices(words, k=80)) for _ in range(600)))
    return tmp_path


def started(folder: Path, *arguments: str, launcher: str = "", one: bool = False) -> subprocess.Popen[str]:
    """``fairstep study run`` on the small study (``one``: of one contestant and point), its words in a file."""
    path = folder / "small.toml"
    text = STUDY.format(folder=folder, launcher=launcher)
    path.write_text(text.replace(', "lion"', "").replace(", 0.004", "") if one else text)
    words = (folder / "said.txt").open("a")
    command = [sys.executable, "-m", "fairstep", "study", "run", str(path), "--store", str(folder / "s"), *arguments]
    with words:
        return subprocess.Popen(command, stdout=words, stderr=words, text=True)


def ended(folder: Path, process: subprocess.Popen[str], trials: int = TRIALS) -> None:
    """It ends well, and so does its study: every trial has a result, and its last one."""
    assert process.wait(timeout=LIMIT) == 0, (folder / "said.txt").read_text()
    store = Store(folder / "s")
    [ledger] = store.ledgers()
    assert all(trial.status == "done" for trial in ledger.trials)
    assert len(ledger.trials) == len(store.runs()) == trials
    assert set(ledger.choices) == {"adamw", "lion"} or trials < TRIALS


def until(folder: Path, true: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < limit, (folder / "said.txt").read_text()
        time.sleep(0.05)


def finished(folder: Path) -> list[Run]:
    return [run for run in Store(folder / "s").runs() if run.finished]


def starts(run: Run) -> int:
    """How often its training began."""
    return len(run.environment.get("starts", []))


def below(pid: int) -> Iterator[tuple[int, str]]:
    """Processes that a process started, and their command lines."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield int(child), Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            yield from below(int(child))


def kill_one(folder: Path, process: subprocess.Popen[str], name: str) -> None:
    """Kill a process of this name while a run is in the middle."""

    def in_the_middle() -> bool:
        return any(run.metrics() and not run.finished for run in Store(folder / "s").runs())

    until(folder, lambda: bool(finished(folder)) and in_the_middle())
    victims = [pid for pid, command in below(process.pid) if name in command]
    assert victims
    os.kill(victims[-1], signal.SIGKILL)  # the innermost


@pytest.mark.parametrize("victim", ["fairstep.train", "ray::_Worker"])
def test_ray_carries_a_study_out_although_a_worker_is_lost(folder: Path, victim: str) -> None:
    """The worker alone, and the Ray actor that holds it."""
    pytest.importorskip("ray")
    process = started(folder, "--launcher", "ray")
    kill_one(folder, process, victim)
    ended(folder, process)
    [ledger] = Store(folder / "s").ledgers()
    assert sum(trial.failures for trial in ledger.trials) == 1
    assert sorted(starts(run) for run in finished(folder)) == [1] * (TRIALS - 1) + [2]
    said = (folder / "said.txt").read_text()
    assert "(raylet)" not in said, "Ray's own words on it"
    assert said.count("; it is tried again") == 1


def test_slurm_through_submitits_local_executor(folder: Path) -> None:
    pytest.importorskip("submitit")
    ended(folder, started(folder, launcher='name = "slurm"\ncluster = "local"'))
    assert len(list((folder / "s/jobs").glob("*_result.pkl"))) == TRIALS
    assert all(starts(run) == 1 for run in finished(folder))


def test_slurm_refuses_what_it_cannot_give() -> None:
    pytest.importorskip("submitit")
    with pytest.raises(ValueError, match=r"whole GPUs, not 0.5; set gpus of \[launcher\] to 1"):
        SlurmLauncher(gpus=0.5)


def test_a_killed_study_goes_on_and_two_over_one_store_share_its_trials(folder: Path) -> None:
    first = started(folder)
    until(folder, lambda: len(finished(folder)) >= 2)
    first.kill()
    first.wait()
    done = {run.id: (run.directory / "summary.json").stat().st_mtime_ns for run in finished(folder)}
    assert 2 <= len(done) < TRIALS
    both = [started(folder), started(folder, "--json")]
    for process in both:
        ended(folder, process)
    for run in finished(folder):
        assert run.id not in done or (run.directory / "summary.json").stat().st_mtime_ns == done[run.id]
        assert starts(run) <= 1 + (run.id not in done)  # the run that the kill interrupted began again, no other
    assert sum(starts(run) for run in finished(folder)) <= TRIALS + 1


@pytest.mark.parametrize("launcher", ["local", "ray", "slurm"])
def test_a_trial_may_have_several_processes(folder: Path, launcher: str) -> None:
    """Two ranks a trial; with the local launcher one of them is killed in the middle, and its trial goes on."""
    settings = "processes = 2\nthreads = 1\ncpus = 2" + ('\ncluster = "local"' if launcher == "slurm" else "")
    pytest.importorskip({"local": "torch", "ray": "ray", "slurm": "submitit"}[launcher])
    process = started(folder, "--launcher", launcher, launcher=settings, one=True)
    if launcher == "local":
        kill_one(folder, process, "fairstep.train --attached")
    ended(folder, process, trials=2)
    runs = finished(folder)
    assert all(run.environment["processes"] == 2 for run in runs)
    assert all(run.environment["parallel"] == "ddp-sharded" for run in runs)
    if launcher == "local":
        assert sorted(starts(run) for run in runs) == [1, 2]


def test_a_batch_that_a_trials_processes_cannot_share_is_refused(folder: Path) -> None:
    process = started(folder, launcher="processes = 3")
    assert process.wait(timeout=LIMIT) == 2
    said = (folder / "said.txt").read_text()
    assert "the devices must divide the batch of 4 sequences, not 3" in said and "line " in said
