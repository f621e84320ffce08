"""A compiled model trains as the plain one does, and a kernel that a killed compiler left behind is compiled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.forked_ranks import run_ranks
from tests.train.test_parallel import curve

from fairstep.runs import Execution, Store
from fairstep.train import train
from fairstep.train.compilation import can_compile, remove_damaged_kernel

TRAIN = """
import sys
from fairstep.train.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
def test_compiled_runs_are_the_plain_one_and_cut_kernels_are_compiled_again(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with one cache of kernels: all is compiled once. Compilers of one thread, as launchers ask for,
    start no processes that import torch."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    (tmp_path / "program.py").write_text(TRAIN)
    spec = tiny(execution=Execution(threads=1, compile=True))
    curves = []
    for store in ("first", "second"):
        run = Store(tmp_path / store).run(spec)
        run.directory.mkdir(parents=True)
        (run.directory / "spec.json").write_text(spec.to_json())
        code, output = run_ranks(tmp_path / "program.py", [str(run.directory)], 1, seconds=400)
        assert code == 0, output
        assert run.environment["compiled"] is True
        curves.append(curve(tmp_path / store, spec))
        cut = sorted((tmp_path / "kernels").rglob("*.main.so"))[:2]  # the others spare the second their compilation
        for file in cut:
            file.write_bytes(file.read_bytes()[:100])
    assert cut
    assert curves[0] == curves[1]
    plain = tiny()
    train(plain, Store(tmp_path / "plain"))
    assert curves[0] == pytest.approx(curve(tmp_path / "plain", plain), rel=1e-3)


def test_other_errors_are_not_about_kernels(tmp_path: Path) -> None:
    kernel = tmp_path / "a.so"
    kernel.write_bytes(b"")
    assert not remove_damaged_kernel(ValueError("no kernel here"))
    assert not remove_damaged_kernel(ImportError(f"{tmp_path}/missing.so: file too short"))
    assert remove_damaged_kernel(ImportError(f"{kernel}: file too short"))
    assert not kernel.exists()
