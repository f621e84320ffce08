"""Protocols with real training on the local launcher: two hyperparameters, batches at fixed tokens, a killed worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.study.test_local import HERE

from fairstep.runs import Ledger, Store
from fairstep.study import (
    Axis,
    Contest,
    Layout,
    LocalLauncher,
    Plan,
    State,
    Workload,
    carry_out,
    certificates,
    contestant_from_spec,
    results_of,
)
from fairstep.study.protocols import Star

pytestmark = pytest.mark.slow


def contest(tiny: Any) -> Contest:
    spec = tiny()
    cell = Workload(
        model=spec.model,
        data=spec.data,
        batch_sequences=8,
        tokens=spec.tokens,
        warmup_steps=3,
        evaluation_tokens=1000,
        execution=spec.execution,
    )
    cells = {"tiny": cell}
    grids = {"lr": (0.01, 0.02), "batch_sequences": Axis((4, 8), domain="[1, inf)", fixed=True)}
    contestants = tuple(contestant_from_spec(name, cells, grids=grids) for name in ("adamw", "lion"))
    return Contest(cells, contestants, "adamw", Star(tolerance=0.0), seeds=2, finalists=2, extensions=1, budgets=())


def test_a_star_with_batches_at_fixed_tokens_survives_a_killed_worker(tiny: Any, tmp_path: Path) -> None:
    store, held = Store(tmp_path).writable(), contest(tiny)
    cell = held.cells["tiny"].cell()
    base = Ledger(name="real", command="", baseline="adamw", contestants=("adamw", "lion"), cell=cell)
    killed: list[int] = []

    with LocalLauncher(HERE, Layout(2, 1)) as launcher:

        def watch(state: State) -> None:
            busy = [worker for worker in launcher._workers if worker.run is not None]
            if state.trials_done >= 2 and busy and not killed:
                killed.append(busy[0].process.pid)
                os.kill(killed[0], signal.SIGKILL)

        ledger = carry_out(held, {"tiny": base}, store, launcher, watch)["tiny"]
    assert killed
    assert sum(trial.failures for trial in ledger.trials) == 1
    assert all(trial.status in ("done", "diverged") and trial.seconds > 0 for trial in ledger.trials)
    assert {trial.tokens for trial in ledger.trials if trial.status == "done"} == {7680}
    steps = {store.run(trial.run).spec.steps for trial in ledger.trials}
    assert steps == {60, 120}
    for name, choice in ledger.choices.items():
        finals = [t for t in ledger.trials if t.contestant == name and t.phase == "final"]
        assert [t.hyperparameters for t in finals] == [choice.hyperparameters] * 2
        assert ledger.certificates[name].fresh == 2
        assert ledger.certificates[name].sigma is not None
    again = Plan(held, results_of(store))
    assert again.finished
    assert again.choices["tiny", "lion"] == ledger.choices["lion"]
    assert certificates(again)["tiny", "adamw"].configuration == ledger.certificates["adamw"].configuration
