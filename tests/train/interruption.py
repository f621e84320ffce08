"""Runs that die in the middle, and what they are compared with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairstep.runs import Execution, Run, RunSpec, Store
from fairstep.train import Progress, train

TOKENS = 8 * 16 * 25
"""25 steps of the tiny batch."""


class Interrupted(Exception):
    """Stands for a death in the middle of a run."""


def at_step(step: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    def watch(event: Progress) -> None:
        if event.step == step and not event.note:
            act()

    return watch


def die() -> None:
    raise Interrupted


def execution(**changes: Any) -> Execution:
    return Execution(threads=1, compile=False, **({"checkpoint_every_steps": 7} | changes))


def interrupted(spec: RunSpec, store: Store, step: int = 20) -> Run:
    with pytest.raises(Interrupted):
        train(spec, store, at_step(step, die))
    run = store.run(spec)
    assert run.status == "unfinished"
    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the runs that many tests of a module begin with."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def undisturbed(shared: Path) -> Callable[[RunSpec], Run]:
    """A run that nothing happened to; trained once."""
    return lambda spec: train(spec, Store(shared / "whole"))


@pytest.fixture
def half(tiny: Any, shared: Path, tmp_path: Path) -> tuple[RunSpec, Store]:
    """A run that died at step 20, with checkpoints of steps 7 and 14, in a store of the test's own."""
    spec = tiny(tokens=TOKENS, execution=execution())
    if not (shared / "half").exists():
        interrupted(spec, Store(shared / "half"))
    shutil.copytree(shared / "half", tmp_path / "half")
    return spec, Store(tmp_path / "half")


def same_files(a: Run, b: Run) -> None:
    assert a.summary is not None
    assert b.summary is not None
    assert a.summary.final_loss == b.summary.final_loss
    assert (a.directory / "metrics.jsonl").read_bytes() == (b.directory / "metrics.jsonl").read_bytes()
