"""The trainer's signals against exact curvature, and that nothing but weights, batch, seeds and step decides them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep import optim
from fairstep.model import Llama, ModelConfig
from fairstep.train.signals import Signals, sample_labels

VOCABULARY, WIDTH = 5, 3


class Unigram(nn.Module):
    """Logits that are linear in the weights, so that the Hessian of the loss is its Gauss-Newton matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.5 * torch.randn(VOCABULARY, WIDTH, dtype=torch.float64))
        self.features = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.features[tokens] @ self.weight.T

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(tokens).flatten(0, 1), targets.flatten())


def estimator(
    model: Any, name: str, inputs: Tensor, targets: Tensor, seed: int = 0, micro: int = 4, **hyper: Any
) -> Callable[[int], dict[str, Tensor]]:
    """A function of the step that gives the estimate for the optimizer of this name."""
    optimizer = optim.build(name, model, interval=1, weight_decay=0.0, **hyper)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    given: dict[str, Tensor] = {}
    optimizer.supply = lambda signal, values: given.update(values)  # type: ignore[method-assign]
    signals = Signals(optimizer, model, model.logits, micro, (seed,))

    def estimate(step: int) -> dict[str, Tensor]:
        signals.supply(step, inputs, targets)
        return dict(given)

    return estimate


def batch() -> tuple[Tensor, Tensor]:
    return torch.randint(VOCABULARY, (4, 3)), torch.randint(VOCABULARY, (4, 3))


@pytest.mark.parametrize("probe", ["gaussian", "rademacher"])
def test_hutchinson_is_the_diagonal_on_average(probe: str) -> None:
    torch.manual_seed(0)
    model, (inputs, targets) = Unigram(), batch()
    hessian = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy((model.features[inputs] @ w.T).flatten(0, 1), targets.flatten()),
        model.weight.detach(),
    )
    exact = hessian.reshape(VOCABULARY * WIDTH, -1).diagonal().reshape(VOCABULARY, WIDTH)
    estimate = estimator(model, "sophia-h", inputs, targets, probe=probe)
    draws = [estimate(step)["weight"] for step in range(600)]
    mean, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 600**0.5
    assert ((mean - exact).abs() < 4.5 * spread).all() and (spread < 0.2 * exact.max()).all()


def test_gauss_newton_bartlett_is_the_diagonal_on_average() -> None:
    torch.manual_seed(0)
    model, (inputs, targets) = Unigram(), batch()
    p = model.logits(inputs).detach().softmax(-1).flatten(0, 1)  # (12, V)
    x = model.features[inputs].flatten(0, 1)  # (12, D)
    exact = ((p * (1 - p)).T @ x.square()) / len(x)  # of the mean loss: p (1 - p) x^2 over tokens
    estimate = estimator(model, "sophia-g", inputs, targets)
    draws = [estimate(step)["weight"] for step in range(600)]
    mean, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 600**0.5
    assert ((mean - exact).abs() < 4.5 * spread).all() and (spread < 0.2 * exact.max()).all()


def test_labels_are_drawn_from_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).expand(1, 40_000, 4)
    draws = torch.rand((1, 40_000), generator=torch.Generator().manual_seed(0))
    labels = sample_labels(logits, draws)
    shares = torch.bincount(labels.flatten(), minlength=4) / 40_000
    assert (shares - logits[0, 0].softmax(-1)).abs().max() < 0.01
    edges = sample_labels(logits[:, :2], torch.tensor([[0.0, 1.0 - 2**-24]]))
    assert edges.tolist() == [[0, 3]], "the whole of [0, 1) is a label"


@pytest.fixture
def llama() -> Llama:
    torch.manual_seed(0)
    return Llama(ModelConfig(layers=2, width=16, heads=2, mlp_width=32, vocabulary=32, context=8))


@pytest.mark.parametrize("name", ["sophia-g", "sophia-h"])
def test_estimates_depend_on_seed_and_step_and_on_nothing_else(name: str, llama: Llama) -> None:
    inputs, targets = torch.randint(32, (2, 4, 8))
    first = estimator(llama, name, inputs, targets)(7)
    assert set(first) == {n for n, _ in llama.named_parameters()} and all(v.isfinite().all() for v in first.values())
    torch.randn(3)  # the global generator plays no part
    again, small = (estimator(llama, name, inputs, targets, micro=micro)(7) for micro in (4, 1))
    others = estimator(llama, name, inputs, targets)(8), estimator(llama, name, inputs, targets, seed=1)(7)
    for n, value in first.items():
        assert torch.equal(value, again[n]) and not any(torch.equal(value, other[n]) for other in others)
        assert torch.allclose(value, small[n], rtol=1e-3, atol=1e-5 * value.abs().max().item())
    assert all(p.grad is not None and not p.grad.any() for p in llama.parameters()), "gradients are left alone"


def test_exact_mars_of_one_batch_is_the_approximate_form(llama: Llama) -> None:
    """With one batch for ever, the gradient at the previous weights is the previous gradient, clipping included."""
    inputs, targets = torch.randint(32, (2, 4, 8))
    start, after = {n: p.detach().clone() for n, p in llama.named_parameters()}, []
    for form in ("exact", "approximate"):
        llama.load_state_dict(start, strict=False)
        optimizer = optim.build("mars", llama, form=form)
        signals = Signals(optimizer, llama, llama.logits, 2, (0,))
        for step in range(8):
            llama(inputs, targets).backward()
            norm = torch.nn.utils.clip_grad_norm_(llama.parameters(), 1e6)
            signals.supply(step, inputs, targets, (1e6 / (norm + 1e-6)).clamp(max=1.0))
            optimizer.step()
            optimizer.zero_grad()
        after.append({n: p.detach().clone() for n, p in llama.named_parameters()})
    for n, p in after[0].items():
        assert torch.allclose(p, after[1][n], rtol=0, atol=0.02 * (p - start[n]).abs().max().item()), n


@pytest.mark.parametrize(("name", "settings"), [("sophia-g", {"interval": 3}), ("mars", {"form": "exact"})])
def test_a_resumed_run_gets_the_same_signals(name: str, settings: dict[str, Any], llama: Llama) -> None:
    def advance(model: Llama, optimizer: optim.Engine, first: int, last: int) -> None:
        signals = Signals(optimizer, model, model.logits, 4, (0,))
        for step in range(first, last):
            inputs, targets = torch.randint(32, (2, 4, 8), generator=torch.Generator().manual_seed(step))
            model(inputs, targets).backward()
            signals.supply(step, inputs, targets)
            optimizer.step()
            optimizer.zero_grad()

    optimizer = optim.build(name, llama, **settings)
    advance(llama, optimizer, 0, 6)
    other = copy.deepcopy(llama)
    resumed = optim.build(name, other, **settings)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(llama, optimizer, 6, 11)
    advance(other, resumed, 6, 11)
    assert all(torch.equal(p, q) for p, q in zip(llama.parameters(), other.parameters(), strict=True))
