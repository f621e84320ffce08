"""Rules that need signals: against their literal twins, as in ``test_rules``, and what happens without the signals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim import signal_twins as twins
from tests.optim.supply import noise
from tests.optim.test_rules import Twin, difference
from torch import Tensor, nn

from fairstep import optim


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("denominator", ["sum", "max"])
@pytest.mark.parametrize(("name", "rho", "signal"), [("g", "rho", "gauss_newton"), ("h", "gamma", "hessian")])
def test_sophia(name: str, rho: str, signal: str, denominator: str, debias: bool) -> None:
    clipped: dict[str, list[int]] = {}

    def twin(n: str) -> Twin:
        def step(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            estimate = noise(f"{signal}_diagonal", n, s.get("t", 0), w.shape)
            clipped[n] = s.setdefault("clipped", [0, 0])
            return twins.sophia(w, g, estimate, s, 0.03 * fraction, 0.2, 0.8, 0.7, 5.0, 1e-3, 3, denominator, debias)

        return step

    hyper = {"beta1": 0.8, "beta2": 0.7, rho: 5.0, "eps": 1e-3, "interval": 3, "weight_decay": 0.2}
    measured = difference(f"sophia-{name}", {}, twin, 0.03, denominator=denominator, debias=debias, **hyper)
    assert max(measured.values()) < 1e-12, measured
    assert all(n not in clipped or min(clipped[n]) > 0 for n in ("square", "wide")), "both sides of the clip are met"


def parameters() -> list[tuple[str, nn.Parameter]]:
    return [("w", nn.Parameter(torch.ones(2, 2))), ("b", nn.Parameter(torch.ones(2)))]


def step(optimizer: optim.Engine) -> None:
    for _, p in optimizer.named_parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()


def test_a_plain_loop_supplies_what_is_due() -> None:
    optimizer = optim.build("sophia-g", parameters(), interval=2)
    asked = []
    for _ in range(6):
        asked.append(optimizer.due())
        for signal, names in optimizer.due().items():
            shapes = {n: p.shape for n, p in optimizer.named_parameters()}
            optimizer.supply(signal, {n: torch.ones(shapes[n]) for n in names})
        step(optimizer)
    assert [bool(signals) for signals in asked] == [False, False, True, False, True, False]
    assert asked[2] == {"gauss_newton_diagonal": ["w", "b"]}
    assert optim.build("adamw", parameters()).due() == {}


def test_a_missing_signal_is_named_before_anything_changes() -> None:
    named = parameters()
    optimizer = optim.build("sophia-g", named, interval=1)
    step(optimizer)
    before = [p.detach().clone() for _, p in named]
    optimizer.supply("gauss_newton_diagonal", {"w": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"sophia-g needs the signal gauss_newton_diagonal of b in step 2; .*supply\("):
        step(optimizer)
    assert all(torch.equal(p, start) for (_, p), start in zip(named, before, strict=True))
    assert optimizer.state[named[0][1]]["step"] == 1
    optimizer.supply("gauss_newton_diagonal", {"w": torch.ones(2, 2), "b": torch.ones(2)})
    step(optimizer)
    with pytest.raises(ValueError, match="needs the signal"):
        step(optimizer)  # a signal is of one step


@pytest.mark.parametrize(
    ("signal", "values", "message"),
    [
        (
            "gauss_newton",
            {},
            r"takes no signal 'gauss_newton' \(did you mean gauss_newton_diagonal\?\); it takes gauss",
        ),
        ("gauss_newton_diagonal", {"v": torch.ones(2)}, r"no parameter is named 'v'"),
        ("gauss_newton_diagonal", {"w": torch.ones(2)}, r"of w must be a tensor of shape \(2, 2\), not \(2,\)"),
        ("gauss_newton_diagonal", {"w": 1.0}, r"of w must be a tensor of shape \(2, 2\), not float"),
    ],
)
def test_bad_signals(signal: str, values: Any, message: str) -> None:
    optimizer = optim.build("sophia-g", parameters(), interval=1)
    step(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.supply(signal, values)


def test_signals_out_of_turn() -> None:
    optimizer = optim.build("sophia-g", parameters())
    with pytest.raises(
        ValueError, match=r"sophia-g: gauss_newton_diagonal is not due in the coming step; ask .*due\(\)"
    ):
        optimizer.supply("gauss_newton_diagonal", {"w": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"adamw takes no signal 'gauss_newton_diagonal'; it takes none"):
        optim.build("adamw", parameters()).supply("gauss_newton_diagonal", {})
