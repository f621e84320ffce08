"""Every rule against its literal twin and against torch, in float64, with decay, feedback and a changing rate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.optim.supply import build
from torch import Tensor

from fairstep.optim.maths import newton_schulz as module
from fairstep.optim.maths.newton_schulz import newton_schulz

_twins = spec_from_file_location("twins", Path(__file__).with_name("twins.py"))
assert _twins and _twins.loader
twins = module_from_spec(_twins)
_twins.loader.exec_module(twins)

SHAPES = {
    "square": (8, 8),
    "square2": (8, 8),
    "wide": (6, 16),
    "tall": (16, 6),
    "tall2": (16, 6),
    "vector": (7,),
    "scalar": (),
}
"""Names that no role is inferred from: two dimensions are matrices, fewer are vectors."""
STEPS = 25

Twin = Callable[[Tensor, Tensor, dict[str, Any], float], Tensor]


def start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(shape, generator=generator, dtype=torch.float64) for n, shape in SHAPES.items()}


def gradient(w: Tensor, name: str, step: int) -> Tensor:
    """A_t + W with a scale of its own for each parameter."""
    position = list(SHAPES).index(name)
    generator = torch.Generator().manual_seed(100 * step + position)
    return 3.0 ** (position - 3) * torch.randn(w.shape, generator=generator, dtype=torch.float64) + w


def rate(step: int) -> float:
    """Fraction of the peak: warm-up, then decay, so that decay at the current rate matters."""
    return min(1.0, step / 5) * (1 - step / (2 * STEPS))


def difference(
    name: str, roles: dict[str, str], twin_of: Callable[[str], Twin], lr: float, size: float = 1.0, **hyper: Any
) -> dict[str, float]:
    """max|ours - twin| / max|twin - start| of every parameter after STEPS steps; ``size`` multiplies all gradients."""
    ours = {n: torch.nn.Parameter(w) for n, w in start().items()}
    optimizer = build(name, ours.items(), roles=roles, lr=lr, undecayed=(), **hyper)
    theirs, states = start(), {n: {} for n in SHAPES}
    for step in range(1, STEPS + 1):
        for n, p in ours.items():
            p.grad = size * gradient(p.detach(), n, step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate(step)
        optimizer.step()
        theirs = {n: twin_of(n)(w, size * gradient(w, n, step), states[n], rate(step)) for n, w in theirs.items()}
    return {
        n: ((ours[n].detach() - theirs[n]).abs().max() / (theirs[n] - w).abs().max()).item() for n, w in start().items()
    }


def test_adamw() -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.adamw(w, g, s, 0.03 * fraction, 0.2, 0.8, 0.9, 1e-3)

    measured = difference("adamw", {}, lambda _: twin, 0.03, weight_decay=0.2, beta1=0.8, beta2=0.9, eps=1e-3)
    assert max(measured.values()) < 1e-12, measured


def test_lion() -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.lion(w, g, s, 0.03 * fraction, 0.5, 0.8, 0.9)

    measured = difference("lion", {}, lambda _: twin, 0.03, weight_decay=0.5, beta1=0.8, beta2=0.9)
    assert max(measured.values()) < 1e-12, measured


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("name", "scale", "ratio"), [("muon", "shape", 0.2), ("d-muon", "rms", 1.0)])
def test_muon(name: str, scale: str, ratio: float, nesterov: bool) -> None:
    def twin(n: str) -> Twin:
        def matrix(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.muon(w, g, s, 0.03 * fraction, 0.2, 0.9, nesterov, 4, scale)

        def rest(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.adamw(w, g, s, 0.03 * ratio * fraction, 0.2, 0.9, 0.95, 1e-8)

        return matrix if len(SHAPES[n]) == 2 and n != "square2" else rest

    # One square matrix plays the head, so that both parts of the optimizer hold tensors of one shape.
    hyper = {"momentum": 0.9, "nesterov": nesterov, "ns_steps": 4, "weight_decay": 0.2}
    measured = difference(name, {"square2": "head"}, twin, 0.03, **hyper)
    assert max(measured.values()) < 1e-11, measured


@pytest.mark.parametrize("frequency", [1, 3, 10])
def test_soap(frequency: int) -> None:
    """Square matrices on both sides, rectangular ones on the shorter side (as head), vectors not at all.

    The two-sided rule on rectangular matrices is chaotic in rounding (the longer Gram matrix has a null space, in
    which any basis is right); there only one step after the refresh of the basis can be compared.
    """

    def twin(n: str) -> Twin:
        sides = {"square": "LR", "square2": "LR", "wide": "L", "tall": "R", "tall2": "R"}.get(n, "")

        def step(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.soap(w, g, s, 0.03 * fraction, 0.2, 0.9, 0.8, 0.7, 1e-8, frequency, sides)

        return step

    hyper = {"beta1": 0.9, "beta2": 0.8, "shampoo_beta": 0.7, "precondition_frequency": frequency, "weight_decay": 0.2}
    roles = {"wide": "head", "tall*": "head"}
    measured = difference("soap", roles, twin, 0.03, **hyper)
    # Rounding is amplified where two eigenvalues are close; the twin's own sensitivity is of this size.
    assert max(measured.values()) < 1e-9, measured


def test_soap_leaves_long_sides_unrotated() -> None:
    def twin(n: str) -> Twin:
        sides = {"square": "LR", "square2": "LR", "wide": "L", "tall": "R", "tall2": "R"}.get(n, "")

        def step(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.soap(w, g, s, 0.03 * fraction, 0.1, 0.95, 0.95, 0.95, 1e-8, 10, sides)

        return step

    measured = difference("soap", {}, twin, 0.03, max_precond_dim=8)
    assert max(measured.values()) < 1e-9, measured

    def adam(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.soap(w, g, s, 0.03 * fraction, 0.1, 0.95, 0.95, 0.95, 1e-8, 10, "")

    assert max(difference("soap", {}, lambda _: adam, 0.03, max_precond_dim=5).values()) < 1e-12


def test_adamw_equals_torch() -> None:
    ours, theirs = ({n: torch.nn.Parameter(w) for n, w in start().items()} for _ in range(2))
    hyper = {"lr": 0.02, "weight_decay": 0.1}
    optimizers = (
        build("adamw", ours.items(), undecayed=(), **hyper),
        torch.optim.AdamW(theirs.values(), betas=(0.9, 0.95), eps=1e-8, **hyper),
    )
    for step in range(1, STEPS + 1):
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            for n, p in params.items():
                p.grad = gradient(p.detach(), n, step)
            optimizer.step()
    for n, w in start().items():
        assert (ours[n] - theirs[n]).abs().max() <= 1e-12 * (theirs[n] - w).abs().max()


@pytest.mark.parametrize(("name", "torch_scale"), [("muon", "original"), ("d-muon", "match_rms_adamw")])
def test_muon_equals_torch(name: str, torch_scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch iterates in bfloat16; with that cast turned into a copy it iterates in float64, as ours does.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    matrices = {n: w for n, w in start().items() if w.ndim == 2}
    ours, theirs = ({n: torch.nn.Parameter(w.clone()) for n, w in matrices.items()} for _ in range(2))
    optimizers = (
        build(name, ours.items(), lr=0.02, weight_decay=0.1),
        torch.optim.Muon(theirs.values(), lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=torch_scale),
    )
    for step in range(1, STEPS + 1):
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            for n, p in params.items():
                p.grad = gradient(p.detach(), n, step)
            optimizer.step()
    for n, w in matrices.items():
        # torch takes eps as the norm's floor where we add it: the tolerance is that of the reference table.
        assert (ours[n] - theirs[n]).abs().max() <= 1e-6 * (theirs[n] - w).abs().max()


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 16), (2, 16, 6), (5, 4), (1, 6, 16), (1, 16, 6), (2, 3, 4, 4)])
def test_newton_schulz(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = newton_schulz(x, steps=5)
    assert y.shape == x.shape and y.dtype == x.dtype
    flat = zip(x.reshape(-1, *shape[-2:]), y.reshape(-1, *shape[-2:]), strict=True)
    for one, orthogonal in flat:
        assert torch.allclose(orthogonal, twins.orthogonalise(one, 5), rtol=1e-12, atol=1e-13)
        values = torch.linalg.svdvals(orthogonal)
        assert values.min() > 0.3 and values.max() < 1.3
    assert newton_schulz(torch.zeros(2, 3, 3)).abs().max() == 0, "a zero gradient has no direction"


def test_newton_schulz_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = newton_schulz(x)
    errors = {
        dtype: (newton_schulz(x, dtype=dtype) - exact).norm() / exact.norm()
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert 1e-9 < errors[torch.float32] < 1e-5 and 1e-4 < errors[torch.bfloat16] < 3e-2
    single = functools.partial(newton_schulz, x.float())
    for prefers, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(module, "cpu_prefers_bfloat16", lambda prefers=prefers: prefers)
        assert torch.equal(single(), single(dtype=dtype)), f"{dtype} is the default where it is the faster one"
    assert torch.equal(newton_schulz(x), exact), "float64 stays what it is"
