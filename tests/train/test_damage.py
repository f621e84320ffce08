"""A compiled kernel that a killed compiler left behind is compiled again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairstep.runs import Execution, Store
from fairstep.train.setup import can_compile, remove_damaged_kernel


@pytest.mark.slow
@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
def test_cut_kernels_are_compiled_again(tiny: Any, tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    losses = []
    for store in ("first", "second"):
        spec = tiny(tokens=8 * 16 * 10, schedule={"warmup_steps": 1}, execution=Execution(threads=1))
        run = Store(tmp_path / store).run(spec)
        run.directory.mkdir(parents=True)
        (run.directory / "spec.json").write_text(spec.to_json())
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(kernels)}
        subprocess.run(
            [sys.executable, "-m", "fairstep.train", str(run.directory)],
            check=True,
            capture_output=True,
            env=environment,
        )
        assert run.summary is not None
        losses.append(run.summary.final_loss)
        cut = sorted(kernels.rglob("*.main.so"))[:2]  # the others spare the second run their compilation
        for file in cut:
            file.write_bytes(file.read_bytes()[:100])
    assert cut
    assert losses[0] == losses[1]


def test_other_errors_are_not_about_kernels(tmp_path: Path) -> None:
    kernel = tmp_path / "a.so"
    kernel.write_bytes(b"")
    assert not remove_damaged_kernel(ValueError("no kernel here"))
    assert not remove_damaged_kernel(ImportError(f"{tmp_path}/missing.so: file too short"))
    assert remove_damaged_kernel(ImportError(f"{kernel}: file too short"))
    assert not kernel.exists()
