"""Trainers of a few lines, which need no torch: a trial costs the start of a Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairstep.external import carry_out
from fairstep.external.guardian import Guardian
from fairstep.runs import CommandSpec, LossSource, Run, Store, Trainer, write_atomic

TRAIN = """
import json, sys
optimizer, lr, seed, steps, out = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
for step in range(1, steps + 1):
    print("step", step, "loss", 5 - step / steps)
loss = 2.5 + 3 * steps**-0.3 + 40 * (lr - 0.02) ** 2 - 0.1 * (optimizer == "muon") + 1e-3 * (seed * 7919 % 13 - 6) * (
    1 + 0.1 * (optimizer == "muon"))
with open(out + "/metrics.jsonl", "w") as file:
    file.write(json.dumps({"step": steps, "val_loss": loss}) + "\\n")
"""
COMMAND = ("python", "-S", "train.py", "{optimizer}", "{lr}", "{seed}", "{steps}", "{out}")
SETTINGS: dict[str, Any] = {"optimizer": "adamw", "lr": 0.02}

Trial = Callable[..., Run]


def spec_of(folder: Path, code: str = TRAIN, **changes: Any) -> CommandSpec:
    """A run of a script with this code."""
    (folder / "train.py").write_text(code)
    given: dict[str, Any] = {"command": COMMAND, "directory": str(folder)}
    given["loss"] = LossSource(file="{out}/metrics.jsonl", key="val_loss")
    trainer = Trainer(**{**given, **changes.pop("trainer", {})})
    return CommandSpec(**{"trainer": trainer, "settings": SETTINGS, "steps": 20, "batch_tokens": 100, **changes})


def worker_on(run: Run, spec: CommandSpec, **popen: Any) -> subprocess.Popen[bytes]:
    write_atomic(run.directory / "spec.json", spec.to_json(), durable=False)
    return subprocess.Popen(
        [sys.executable, "-m", "fairstep.external", "--attached", str(run.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        **popen,
    )


@pytest.fixture(scope="session")
def guardian() -> Guardian:
    """Of this process, as a worker has one."""
    return Guardian()


@pytest.fixture
def carry(tmp_path: Path, guardian: Guardian) -> Trial:
    """Carry a run out; the run."""

    def carry_out_one(code: str = TRAIN, spec: CommandSpec | None = None, **changes: Any) -> Run:
        spec = spec or spec_of(tmp_path, code, **changes)
        run = Store(tmp_path / "store").run(spec)
        write_atomic(run.directory / "spec.json", spec.to_json(), durable=False)
        carry_out(run, guardian=guardian)
        return run

    return carry_out_one


def processes_with(word: str) -> list[int]:
    """Processes whose command line has a word, zombies left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(place.name) != os.getpid() and word.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def wait_until(what: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return value
