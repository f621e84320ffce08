"""The local launcher with real processes: what it does when they end, crash or are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fairstep.runs import Machine, Run, RunSpec, Store, write_atomic
from fairstep.study import Layout, LocalLauncher, layout

pytestmark = pytest.mark.slow

HERE = Machine(processor="", cores=2, memory_bytes=8 * 10**9, cpu_bf16=False, gpus=0)


def wait_for(launcher: LocalLauncher, kind: str, seconds: float = 60) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in launcher.events(timeout=0.2):
            if event["event"] == kind:
                return event
    raise AssertionError(f"no {kind} event within {seconds} s")


def placed(store: Store, spec: RunSpec) -> Run:
    run = store.run(spec)
    write_atomic(run.directory / "spec.json", spec.to_json())
    return run


@pytest.mark.parametrize(
    ("cores", "gigabytes", "gpus", "parameters", "expected"),
    [
        (2, 20, 0, 86_000, Layout(2, 1)),
        (2, 20, 0, 7_000_000, Layout(1, 2)),
        (16, 100, 0, 86_000, Layout(16, 1)),
        (16, 2, 0, 86_000, Layout(2, 1)),
        (1, 0.5, 0, 86_000, Layout(1, 1)),
        (16, 100, 2, 124_000_000, Layout(2, 8)),
    ],
)
def test_layout_fits_cores_memory_and_gpus(
    cores: int, gigabytes: float, gpus: int, parameters: int, expected: Layout
) -> None:
    machine = Machine("", cores, int(gigabytes * 1e9), False, gpus)
    assert layout(machine, parameters) == expected


def test_one_worker_serves_several_runs(tiny: Any, tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        for seed in (0, 1):
            run = placed(store, tiny(init_seed=seed))
            launcher.start(run)
            assert launcher.free == 0
            end = wait_for(launcher, "end")
            assert (end["run"], end["status"]) == (run.id, "done")
            assert launcher.free == 1
        assert len(launcher._workers) == 1


def test_bad_data_is_a_failed_run_with_a_sentence_and_the_worker_lives(tiny: Any, tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    bad = tiny(data=tiny().data.model_copy(update={"fingerprint": "0" * 64}))
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        launcher.start(placed(store, bad))
        end = wait_for(launcher, "end")
        assert end["status"] == store.run(bad).status == "failed"
        assert "\n" not in end["message"]
        launcher.start(placed(store, tiny()))
        assert wait_for(launcher, "end")["status"] == "done"


def test_a_killed_worker_is_a_failed_run_and_a_new_worker_takes_over(tiny: Any, tmp_path: Path) -> None:
    store, spec = Store(tmp_path).writable(), tiny(tokens=8 * 16 * 50_000)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        launcher.start(placed(store, spec))
        wait_for(launcher, "progress")
        os.kill(launcher._workers[0].process.pid, signal.SIGKILL)
        end = wait_for(launcher, "end")
        assert end["status"] == "failed"
        assert "killed by signal 9" in end["message"]
        assert store.run(spec).status == "unfinished"
        launcher.start(placed(store, tiny()))
        assert wait_for(launcher, "end")["status"] == "done"


def test_a_cancelled_run_is_a_failed_one_and_its_place_is_free_again(tiny: Any, tmp_path: Path) -> None:
    store, spec = Store(tmp_path).writable(), tiny(tokens=8 * 16 * 50_000)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        launcher.start(placed(store, spec))
        wait_for(launcher, "progress")
        launcher.cancel(spec.identity)
        end = wait_for(launcher, "end")
        assert (end["run"], end["status"]) == (spec.identity, "failed")
        assert store.run(spec).status == "unfinished"
        assert launcher.free == 1
        launcher.start(placed(store, tiny()))
        assert wait_for(launcher, "end")["status"] == "done"


def test_leaving_ends_the_workers_in_the_middle_of_a_run(tiny: Any, tmp_path: Path) -> None:
    store, spec = Store(tmp_path).writable(), tiny(tokens=8 * 16 * 50_000)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        launcher.start(placed(store, spec))
        wait_for(launcher, "progress")
        process = launcher._workers[0].process
    assert process.returncode is not None
    assert store.run(spec).status == "unfinished"
