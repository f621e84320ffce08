"""Specs, hyperparameters and the registry: all of it without torch."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairstep.optim import (
    ROLES,
    Grid,
    Hyperparameter,
    OptimizerSpec,
    Part,
    Rule,
    Schedule,
    UnknownOptimizerError,
    get,
    names,
    specs,
)

PROBE = """
import json, sys, time
import dataclasses, inspect, typing  # every program of ours has these already
start = time.process_time()  # not the clock on the wall: other tests may run beside this one
import fairstep.optim as optim
listed = [optim.get(name).validate({}) for name in optim.names()]
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "torch": "torch" in sys.modules, "listed": len(listed), "dir": dir(optim)}))
"""


def test_specs_are_read_without_torch_and_fast(tmp_path: Path) -> None:
    # Compiled modules are kept, as on a user's machine; the first probe compiles them.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    command = [sys.executable, "-c", PROBE]
    probes = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout)
        for _ in range(4)
    ]
    assert not any(probe["torch"] for probe in probes)
    assert probes[0]["listed"] >= 5
    assert {"AdamW", "Lion", "Muon", "SOAP", "Engine", "state_bytes"} <= set(probes[0]["dir"])
    # A guard against importing something heavy (torch takes seconds): 0.03 to 0.05 s, more on a shared core.
    assert min(probe["seconds"] for probe in probes) < 0.15


def test_classes_are_exported_when_asked_for() -> None:
    import torch

    import fairstep.optim as optim
    from fairstep.optim import SOAP, Engine

    assert issubclass(SOAP, Engine) and issubclass(SOAP, torch.optim.Optimizer)
    assert SOAP is optim.SOAP
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = optim.Nonsense


@pytest.mark.parametrize("name", names())
def test_every_spec_is_complete(name: str) -> None:
    spec = get(name)
    assert "https://" in spec.reference
    assert spec.lr_unit and spec.title and spec.schedule.source
    assert set(spec.roles) == set(ROLES)
    assert re.search(r"W +<-", spec.text) and "Differences from other implementations" in spec.text
    for hyper, known in spec.hyperparameters.items():
        assert known.description and known.source, hyper
    used = {part.rename.get(use, use) for part in spec.parts for use in part.rule.hyperparameters}
    ratios = {name for part in spec.parts for name in (part.lr_ratio, part.yields_to) if name}
    assert used | ratios | {"lr", "weight_decay"} == set(spec.hyperparameters), "every hyperparameter is used"
    grid = spec.search_space["lr"]
    assert len(grid.values) == 3 and grid.source, "every contestant starts from the same number of points"
    assert all(math.isclose(b / a, grid.factor) for a, b in zip(grid.values, grid.values[1:], strict=False))
    for value in grid.values:
        assert spec.validate({"lr": value})["lr"] == value


def test_defaults_fill_in_and_types_are_kept() -> None:
    hyper = get("soap").validate({"lr": 1, "precondition_frequency": 5.0})
    assert hyper["lr"] == 1.0 and isinstance(hyper["lr"], float)
    assert hyper["precondition_frequency"] == 5 and isinstance(hyper["precondition_frequency"], int)
    assert hyper["beta2"] == get("soap").hyperparameters["beta2"].default
    assert list(hyper) == [*get("soap").hyperparameters, *get("soap").retired]
    assert get("adamw").hyperparameters["beta2"].default == 0.95
    assert get("adamw").hyperparameters["weight_decay"].default == 0.1


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("adamw", {"lr": -1.0}, r"adamw: lr must be a number in \(0, inf\), not -1.0"),
        ("adamw", {"lr": 0}, r"adamw: lr must be a number in \(0, inf\), not 0"),
        ("adamw", {"lr": math.nan}, r"adamw: lr must be a number in \(0, inf\), not nan"),
        ("adamw", {"lr": math.inf}, r"adamw: lr must be a number in \(0, inf\), not inf"),
        ("adamw", {"lr": "0.1"}, r"adamw: lr must be a number in \(0, inf\), not '0.1'"),
        ("adamw", {"lr": True}, r"adamw: lr must be a number in \(0, inf\), not True"),
        ("adamw", {"beta1": 1.0}, r"adamw: beta1 must be a number in \[0, 1\), not 1.0"),
        ("lion", {"weight_decay": -0.1}, r"lion: weight_decay must be a number in \[0, inf\), not -0.1"),
        ("muon", {"ns_steps": 2.5}, r"muon: ns_steps must be an integer in \[1, inf\), not 2.5"),
        ("muon", {"nesterov": 1}, r"muon: nesterov must be true or false, not 1"),
        ("muon", {"scale": "shapes"}, r"muon: scale must be one of shape, rms, aspect, not 'shapes'"),
        (
            "adamw",
            {"beta_1": 0.9},
            r"adamw has no hyperparameter 'beta_1' \(did you mean beta1 or .*it has lr, weight_",
        ),
        ("soap", {"betas": (0.9, 0.95)}, r"soap has no hyperparameter 'betas' \(did you mean beta"),
    ],
)
def test_bad_hyperparameters(name: str, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        get(name).validate(hyper)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("AdamW", "adamw"),
        ("soape", "soap"),
        ("SOAP", "soap"),
        ("d_muon", "d-muon"),
        ("DMuon", "d-muon"),
        ("d-muon", "d-muon"),
        ("nadam", "nadamw"),
        ("cautious", "cautious-adamw"),
        ("c-adamw", "cautious-adamw"),
        ("mars", "mars-adamw"),
        ("psgd", "kron"),
        ("C-Lion", "cautious-lion"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert get(alias).name == name


def test_unknown_optimizer_gives_the_nearest() -> None:
    with pytest.raises(UnknownOptimizerError, match=r"unknown optimizer 'moun' \(did you mean muon.*there are adam"):
        get("moun")
    assert issubclass(UnknownOptimizerError, ValueError)


def test_names_are_unique() -> None:
    words = [word for spec in specs().values() for word in (spec.name, *spec.aliases)]
    assert len(words) == len(set(words))
    assert names() == sorted(names())


def test_costs() -> None:
    n = 64
    assert get("adamw").state_floats(n, n) == 2 * n * n
    assert get("muon").state_floats(n, n) == n * n
    assert get("muon").state_floats(n, 1, role="vector") == 2 * n
    assert get("muon").flops(n, n) == 30 * n**3 + 6 * n * n
    assert get("soap").state_floats(n, n) == 6 * n * n
    assert get("soap").state_floats(1000, n, role="embedding") == 2 * 1000 * n + 2 * n * n
    assert get("soap").state_floats(1000, n, max_precond_dim=100) == 2 * 1000 * n + 2 * n * n
    assert get("soap").flops(n, n, precondition_frequency=1) > get("soap").flops(n, n)


def test_a_spec_must_take_every_role_once() -> None:
    lr = Hyperparameter(1.0, "rate", "test", "(0, inf)")
    general: dict[str, Any] = {
        "name": "x",
        "class_name": "X",
        "title": "X",
        "reference": "",
        "search_space": {"lr": Grid.geometric(1.0, 2, "test")},
        "lr_unit": "",
        "schedule": Schedule("constant", 0.0, 1.0, "test"),
    }
    rule = Rule()
    rule.name = "x"
    with pytest.raises(ValueError, match=r"each role of matrix, embedding, .* exactly once"):
        OptimizerSpec(**general, parts=(Part(("matrix",), rule),), hyperparameters={"lr": lr, "weight_decay": lr})

    class Misspelt(Rule):
        name = "misspelt"

        def update(self, grad: Any, state: Any, param: Any, step: int, *, weight_decya: float) -> None:
            return None

    with pytest.raises(
        ValueError, match=r"the rule misspelt asks .* weight_decya, which x has not \(did you mean weight_"
    ):
        OptimizerSpec(**general, parts=(Part(ROLES, Misspelt()),), hyperparameters={"lr": lr, "weight_decay": lr})
    with pytest.raises(TypeError, match="Old: `uses` and the argument `hyper` are gone; name the hyperparameters"):
        type("Old", (Rule,), {"uses": ("beta1",)})
    with pytest.raises(ValueError, match="x must declare the hyperparameter weight_decay"):
        OptimizerSpec(**general, parts=(Part(ROLES, rule),), hyperparameters={"lr": lr})
