"""The memory that ``plan`` foretells against the peak that a run measures, on the CPU ladder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairstep import optim
from fairstep.cost.devices import Device
from fairstep.cost.run_cost import COMPILER, cost
from fairstep.model import PRESETS
from fairstep.runs import (
    DataSpec,
    EvaluationSpec,
    Execution,
    ModelSpec,
    OptimizerChoice,
    RunSpec,
    Store,
    machine,
)

TOLERANCE = 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "optimizer", "sequences", "compiled"),
    [
        ("106k", "adamw", 16, True),
        ("106k", "soap", 16, False),
        ("852k", "adamw", 16, False),
        ("852k", "muon", 8, False),
        ("6.8M", "adamw", 4, False),
    ],
)
def test_planned_memory_is_what_a_run_takes(
    preset: str, optimizer: str, sequences: int, compiled: bool, corpus: Any, tmp_path: Path
) -> None:
    size = PRESETS[preset]
    spec = RunSpec(
        model=ModelSpec(**size.fields(300)),
        data=DataSpec(name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=300),
        optimizer=OptimizerChoice(name=optimizer, hyperparameters=optim.get(optimizer).validate({})),
        evaluation=EvaluationSpec(every_steps=100, tokens=size.context, final_tokens=size.context),
        batch_sequences=sequences,
        tokens=3 * sequences * size.context,
        execution=Execution(threads=machine().cores, compile=compiled),
    )
    planned = cost(spec, Device("cpu", 1e11, 0, 0.35, "none")).memory_bytes
    taken = {"": planned}
    if compiled:  # what torch's compiler takes is planned; where the kernels are in its cache, it does not work
        taken = {"compiled here": planned, "compiled before": planned - COMPILER}
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels")}
    for when, expected in taken.items():
        run = Store(tmp_path / f"store {when}").run(spec)
        run.directory.mkdir(parents=True)
        (run.directory / "spec.json").write_text(spec.to_json())
        command = [sys.executable, "-m", "fairstep.train", str(run.directory)]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        assert run.summary is not None
        measured = run.summary.peak_memory_bytes
        said = f"planned {expected / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB, {when}".rstrip(", ")
        print(said)
        assert abs(expected / measured - 1) < TOLERANCE, said
