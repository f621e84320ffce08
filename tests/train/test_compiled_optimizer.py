"""Training with the optimizer's step compiled: when it is, and that it is the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fairstep.optim.compiled import can_compile
from fairstep.runs import Execution, Store
from fairstep.train import setup, train


@pytest.mark.parametrize(
    ("device", "wanted", "model", "expected"),
    [
        ("cpu", "auto", True, False),
        ("cpu", "yes", False, True),
        ("cuda", "auto", True, True),
        ("cuda", "auto", False, False),
        ("cuda", "no", True, False),
    ],
)
def test_accelerators_compile_it_and_cpus_if_asked(
    device: str, wanted: Any, model: bool, expected: bool, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny(execution=Execution(compile=model, compile_optimizer=wanted))
    assert spec.identity == tiny().identity, "a run is the same run, however its steps are carried out"
    monkeypatch.setattr(setup, "can_compile", lambda _: True)
    assert setup.compiles_optimizer(spec, torch.device(device)) is expected
    monkeypatch.setattr(setup, "can_compile", lambda _: False)
    assert not setup.compiles_optimizer(spec, torch.device(device))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
def test_a_run_is_the_same_up_to_rounding(tiny: Any, tmp_path: Path) -> None:
    curves = []
    for wanted in ("no", "yes", "yes"):
        spec = tiny("nadamw", execution=Execution(threads=1, compile=False, compile_optimizer=wanted))
        run = train(spec, Store(tmp_path / str(len(curves))))
        curves.append([row["loss"] for row in run.metrics()])
        assert run.environment["compiled_optimizer"] is (wanted == "yes")
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert curves[1] == curves[2]
