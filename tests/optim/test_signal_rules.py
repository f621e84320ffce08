"""Rules that need signals: against their literal twins, as in ``test_rules``, and what happens without the signals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.signal_twins import sophia
from tests.optim.supply import noise
from tests.optim.test_rules import SHAPES, Twin, difference, gradient, start
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
            return sophia(w, g, estimate, s, 0.03 * fraction, 0.2, 0.8, 0.7, 5.0, 1e-3, 3, denominator, debias)

        return step

    hyper = {"beta1": 0.8, "beta2": 0.7, rho: 5.0, "eps": 1e-3, "interval": 3, "weight_decay": 0.2}
    measured = difference(f"sophia-{name}", {}, twin, 0.03, denominator=denominator, debias=debias, **hyper)
    assert max(measured.values()) < 1e-12, measured
    assert all(n not in clipped or min(clipped[n]) > 0 for n in ("square", "wide")), "both sides of the clip are met"


@pytest.mark.parametrize("kind", ["adamw", "lion", "shampoo"])
def test_exact_mars(kind: str) -> None:
    own = {"adamw": {"b2": 0.95, "eps": 1e-3}, "lion": {}, "shampoo": {"steps": 4}}[kind]

    def twin(n: str) -> Twin:
        def matrix(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            taken = s.get("t", 0)
            last = noise("previous_gradient", n, taken, w.shape) if taken else torch.zeros_like(w)
            return twins.mars(w, g, s, 0.03 * fraction, 0.2, kind, 0.05, 0.9, previous=last, **own)

        def vector(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.adamw(w, g, s, 0.03 * 0.5 * fraction, 0.2, 0.8, 0.9, 1e-3)

        return matrix if len(SHAPES[n]) == 2 else vector

    named = {"b2": "beta2", "eps": "eps", "steps": "ns_steps"}
    vector = {"vector_lr_ratio": 0.5, "vector_beta1": 0.8, "vector_beta2": 0.9, "vector_eps": 1e-3}
    hyper = {"gamma": 0.05, "beta1": 0.9, "weight_decay": 0.2, **{named[k]: v for k, v in own.items()}, **vector}
    measured = difference(f"mars-{kind}", {}, twin, 0.03, form="exact", **hyper)
    assert max(measured.values()) < 1e-11, measured


def test_exact_mars_is_the_approximate_one_if_the_batch_stays() -> None:
    """The gradient of an objective without noise at the previous weights is the previous gradient."""
    torch.manual_seed(0)
    target = torch.randn(6, 4, dtype=torch.float64)
    results = []
    for form in ("exact", "approximate"):
        w, b = (nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in ((6, 4), (6,)))
        optimizer = optim.build("mars", {"w": w, "b": b}.items(), form=form, lr=0.05)
        for _ in range(20):
            optimizer.zero_grad()
            loss = ((w + b[:, None] - target) ** 4).sum()
            loss.backward()
            now = w.detach().clone(), b.detach().clone()
            for signal, names in optimizer.due().items():
                with optimizer.previous_weights():
                    assert not torch.equal(w, now[0]) and not torch.equal(b, now[1]), "vectors go back as well"
                    loss = ((w + b[:, None] - target) ** 4).sum()
                    gradients = torch.autograd.grad(loss, [dict(optimizer.named_parameters())[n] for n in names])
                assert torch.equal(w, now[0]) and torch.equal(b, now[1])
                optimizer.supply(signal, dict(zip(names, gradients, strict=True)))
            optimizer.step()
        results.append((w.detach(), b.detach()))
    for exact, approximate in zip(*results, strict=True):
        assert torch.allclose(exact, approximate, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [1.0, 0.001])
def test_mars_as_w_has_it(size: float) -> None:
    """Every parameter is corrected, and clipped by the norm over all of them (of gradients as they are, or small)."""
    weights = start()
    ours = {n: nn.Parameter(w.clone()) for n, w in weights.items()}
    settings = {"gamma": 0.05, "beta1": 0.9, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.2}
    optimizer = optim.build("mars", ours.items(), lr=0.03, undecayed=(), clip="global", optimize_1d=True, **settings)
    assert {group["rule"] for group in optimizer.param_groups} == {"mars-adamw"}
    states: dict[str, dict[str, Any]] = {n: {} for n in weights}
    for step_ in range(1, 22):
        for n, p in ours.items():
            p.grad = size * gradient(p.detach(), n, step_)
        optimizer.step()
        gradients = {n: size * gradient(w, n, step_) for n, w in weights.items()}
        total = sum(
            twins.mars_correction(g, states[n].get("last", torch.zeros_like(g)), 0.05, 0.9).square().sum().item()
            for n, g in gradients.items()
        )
        norm = max(1.0, total**0.5 + 1e-6)
        for n, g in gradients.items():
            weights[n] = twins.mars(weights[n], g, states[n], 0.03, 0.2, "adamw", 0.05, 0.9, 0.95, 1e-3, norm=norm)
    for n, p in ours.items():
        assert ((p - weights[n]).abs().max() / (weights[n] - start()[n]).abs().max()).item() < 1e-12, n


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
