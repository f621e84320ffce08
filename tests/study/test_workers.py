"""Workers beside optimizers that print, crash, fork and change what is global: nothing of it reaches another run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.study.test_local import HERE, placed, wait_for

from fairstep.runs import OptimizerChoice, Run, RunSpec, Store
from fairstep.study import Layout, LocalLauncher
from fairstep.study.launchers.base import environment, event_of

pytestmark = pytest.mark.slow

ODD = "tests.faults.optimizers"


def odd(tiny: Any, name: str, **changes: Any) -> RunSpec:
    """A run of 30 steps with one of them."""
    from fairstep import optim

    path = f"{ODD}:{name}"
    choice = OptimizerChoice(
        name=path, hyperparameters=optim.get(path).validate({"lr": 0.01}), version=optim.version(path)
    )
    return tiny(tokens=8 * 16 * 30, **changes).model_copy(update={"optimizer": choice})


def ended(launcher: LocalLauncher, run: Run) -> dict[str, Any]:
    launcher.start(run)
    end = wait_for(launcher, "end", 120)
    assert end["run"] == run.id
    return end


def loss(run: Run) -> float:
    summary = run.summary
    assert summary is not None
    assert summary.final_loss is not None
    return summary.final_loss


def test_what_an_optimizer_prints_ends_nothing(tiny: Any, tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        chatty, plain = placed(store, odd(tiny, "PrintsMuch")), placed(store, odd(tiny, "Plain"))
        assert ended(launcher, chatty)["status"] == "done"
        assert ended(launcher, plain)["status"] == "done"
    assert loss(chatty) == loss(plain)


def test_a_failed_trial_says_why_and_leaves_its_traceback(tiny: Any, tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    words = {
        "Raises": "RuntimeError: kernel assert (traceback: runs/",
        "Reads": "EOF when reading a line",
        "Exits": "ended with exit code 1: bye",
        "ExitsAtOnce": "ended with exit code 0",
        "Crashes": "was killed by signal 11",
    }
    runs = {name: placed(store, odd(tiny, name)) for name in words}
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        for name, run in runs.items():
            end = ended(launcher, run)
            assert end["status"] == "failed"
            assert words[name] in end["message"]
        assert ended(launcher, placed(store, tiny()))["status"] == "done"
    for name in ("Raises", "Reads", "Crashes"):
        assert "optimizers.py" in (runs[name].directory / "error.txt").read_text()


def test_a_built_in_optimizer_beside_them_trains_as_if_alone(tiny: Any, tmp_path: Path) -> None:
    """In one slot, after a run that goes on with all that it changed; to the bit. A worker ends with a foreign run, so
    one that changes everything at once says as much as one after the other."""
    alone, beside = Store(tmp_path / "alone").writable(), Store(tmp_path / "beside").writable()
    spec = tiny("adamw", tokens=8 * 16 * 30)
    first, second = placed(alone, spec), placed(beside, spec)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        ended(launcher, first)
        assert ended(launcher, placed(beside, odd(tiny, "ChangesMuch")))["status"] == "done"
        ended(launcher, second)
    assert (first.directory / "metrics.jsonl").read_bytes() == (second.directory / "metrics.jsonl").read_bytes()
    assert loss(first) == loss(second)
    assert second.environment["runs_before"] == 0
    assert Path.cwd() != Path("/")
    assert os.environ["FAIRSTEP_CACHE"] != "/nowhere"


def test_peak_memory_is_of_a_run_alone(tiny: Any, tmp_path: Path) -> None:
    """A small run after a large one in the same worker: its own peak, or none."""
    store = Store(tmp_path).writable()
    small, large = tiny("adamw"), tiny("soap", batch_sequences=512, tokens=512 * 16 * 12)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        alone = placed(store, small)
        ended(launcher, alone)
    after = placed(Store(tmp_path / "after").writable(), small)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        before = placed(store, large)
        ended(launcher, before)
        ended(launcher, after)
    first, big, second = alone.summary, before.summary, after.summary
    assert first and big and second
    assert after.environment["runs_before"] == 1
    assert big.peak_memory_bytes > first.peak_memory_bytes + 2**24
    assert second.peak_memory_bytes == 0 or second.peak_memory_bytes == pytest.approx(first.peak_memory_bytes, rel=0.03)


def processes(mark: str) -> set[int]:
    """Processes with that word among their variables: a launcher's workers and what they forked."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found.add(int(path.name))
        except OSError:
            continue
    return found - {os.getpid()}


def test_a_fork_of_a_worker_writes_nothing_and_does_not_stay(tiny: Any, tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    runs, plain = (
        [placed(store, odd(tiny, name)) for name in ("Forks", "ForksAndStays")],
        placed(store, odd(tiny, "Plain")),
    )
    with LocalLauncher(HERE, Layout(1, 1), {"MARK": str(tmp_path)}) as launcher:
        for run in runs:
            assert ended(launcher, run)["status"] == "done"
            assert processes(str(tmp_path))
            assert not run.locked
        ended(launcher, plain)
    for run in runs:
        assert (run.directory / "metrics.jsonl").read_bytes() == (plain.directory / "metrics.jsonl").read_bytes()
    limit = time.monotonic() + 20
    while processes(str(tmp_path)):
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_workers_are_told_nothing_of_a_world_that_is_not_theirs(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {
        **{"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"},
        **{"TORCHELASTIC_RUN_ID": "x", "PET_NNODES": "2", "PET_NODE_RANK": "1", "SLURM_PROCID": "2", "PMI_RANK": "1"},
    }
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert not left.keys() & environment().keys()
    assert environment()["FAIRSTEP_CACHE"] == os.environ["FAIRSTEP_CACHE"]
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        assert ended(launcher, placed(Store(tmp_path).writable(), tiny()))["status"] == "done"


def test_a_run_may_lie_anywhere(tiny: Any, tmp_path: Path) -> None:
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        for name in ("two\nlines", "a \\ ' \" name"):
            assert ended(launcher, placed(Store(tmp_path / name).writable(), tiny()))["status"] == "done"


@pytest.mark.parametrize("line", ["", "a line", "[1]", "7", '{"run": 1}', '{"event": 3}', b"\xff\xfe", "[" * 100_000])
def test_a_line_that_is_no_event_is_none(line: str | bytes) -> None:
    assert event_of(line) is None
    assert event_of(json.dumps({"event": "end"})) == {"event": "end"}
