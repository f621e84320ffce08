"""The rules without matrix products against their literal twins, as in ``test_rules``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.test_rules import difference
from torch import Tensor, nn

from fairstep.optim import build


@pytest.mark.parametrize("form", ["optax", "algoperf", "dozat"])
def test_nadamw(form: str) -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.nadamw(w, g, s, 0.03 * fraction, 0.2, 0.8, 0.9, 1e-3, form)

    hyper = {"weight_decay": 0.2, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "form": form}
    measured = difference("nadamw", {}, lambda _: twin, 0.03, **hyper)
    assert max(measured.values()) < 1e-12, measured


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_adopt(eps: float) -> None:
    """With the larger eps, its floor acts on some elements."""

    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.adopt(w, g, s, 0.03 * fraction, 0.2, 0.8, 0.9, eps)

    measured = difference("adopt", {}, lambda _: twin, 0.03, weight_decay=0.2, beta1=0.8, beta2=0.9, eps=eps)
    assert max(measured.values()) < 1e-12, measured


@pytest.mark.parametrize(
    ("nesterov", "dampening", "momentum"),
    [(False, 0.0, 0.9), (False, 0.9, 0.9), (True, 0.0, 0.9), (True, 0.6, 0.9), (True, 0.0, 0.0)],
)
def test_signum(nesterov: bool, dampening: float, momentum: float) -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.signum(w, g, s, 0.03 * fraction, 0.5, momentum, dampening, nesterov)

    hyper = {"weight_decay": 0.5, "momentum": momentum, "nesterov": nesterov, "dampening": dampening}
    measured = difference("signum", {}, lambda _: twin, 0.03, **hyper)
    assert max(measured.values()) < 1e-12, measured


def test_signum_dampening_changes_the_step_ahead_only() -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.signum(w, g, s, 0.03 * fraction, 0.5, 0.9, 0.0, nesterov)

    hyper = {"weight_decay": 0.5, "momentum": 0.9, "dampening": 0.9}
    nesterov = False
    assert max(difference("signum", {}, lambda _: twin, 0.03, nesterov=False, **hyper).values()) < 1e-12
    nesterov = True
    assert max(difference("signum", {}, lambda _: twin, 0.03, nesterov=True, **hyper).values()) > 0.01


@pytest.mark.parametrize("steps", [0, 1, 15, 1000])
def test_ademamix(steps: int) -> None:
    """Without schedules, with schedules that end within the run, and with such that do not."""

    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.ademamix(w, g, s, 0.03 * fraction, 0.2, (0.8, 0.9, 0.99), 5.0, steps, 1e-3)

    own = {"beta1": 0.8, "beta2": 0.9, "beta3": 0.99, "alpha": 5.0, "schedule_steps": steps, "eps": 1e-3}
    measured = difference("ademamix", {}, lambda _: twin, 0.03, weight_decay=0.2, **own)
    assert max(measured.values()) < 1e-12, measured


def test_ademamix_without_its_fast_momentum() -> None:
    """beta1 = 0 has a logarithm of minus infinity; the schedule's time constant then starts at 0."""

    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.ademamix(w, g, s, 0.03 * fraction, 0.2, (1e-300, 0.9, 0.99), 5.0, 15, 1e-3)

    own = {"beta1": 0.0, "beta2": 0.9, "beta3": 0.99, "alpha": 5.0, "schedule_steps": 15, "eps": 1e-3}
    measured = difference("ademamix", {}, lambda _: twin, 0.03, weight_decay=0.2, **own)
    assert max(measured.values()) < 1e-3, measured


@pytest.mark.parametrize("name", ["lion", "signum", "mars-lion", "cautious-lion", "scion"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sign_hides_no_divergence(name: str, bad: float) -> None:
    """torch.sign(nan) is 0: weights would stay finite for good, as if the run had converged."""
    p = nn.Parameter(torch.ones(4, 4))
    optimizer = build(name, [("head.weight", p)], roles={"head.weight": "head"}, weight_decay=0.0)
    for gradient in (1.0, bad, 1.0):
        p.grad = torch.full((4, 4), gradient)
        optimizer.step()
    assert not p.isfinite().any()
