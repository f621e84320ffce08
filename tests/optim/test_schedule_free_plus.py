"""ScheduleFree+ against a literal twin that keeps x, y and z, and how it comes to know the loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.optim.test_rules import STEPS, gradient, rate, start
from torch import Tensor, nn

from fairstep import optim

LR, WD, EPS = 0.7, 5.0, 1e-3


def loss_at(step: int) -> float:
    return 40.0 / step + 5.0 * math.sin(step)  # below 0 at times, where there is no step


def twin(anneal: int, warmup: int, r: float, polyak_beta: float, decay: float) -> tuple[dict[str, Tensor], ...]:
    """(y, x) after STEPS steps."""
    x, y, z = start(), start(), start()
    m = {n: torch.zeros_like(w) for n, w in x.items()}
    v = {n: torch.zeros_like(w) for n, w in x.items()}
    e = weights = 0.0
    largest = EPS
    for t in range(1, STEPS + 1):
        q = min((t - 1) / anneal, 1.0) if anneal else 0.0
        b = 1 - math.exp(math.log(1 - 0.8) * (1 - q) + math.log(1 - 0.95) * q)
        g = {n: gradient(y[n], n, t) for n in y}
        ahead = b * sum((g[n] * (z[n] - x[n])).sum().item() for n in y)
        e = polyak_beta * e + (1 - polyak_beta) * math.sqrt(math.pi / 2) * sum(g[n].abs().sum().item() for n in y)
        s = LR * rate(t) * max(0.0, loss_at(t) + ahead) / (e / (1 - polyak_beta**t))
        largest, c = max(largest, s), 1.0
        if t > warmup:
            weight = t**r * largest**2
            weights += weight
            c = weight / weights
        for n in y:
            m[n], v[n] = 0.9 * m[n] + 0.1 * g[n], 0.7 * v[n] + 0.3 * g[n] * g[n]
            adam = m[n] / (1 - 0.9**t) / ((v[n] / (1 - 0.7**t)).sqrt() + EPS)
            z[n] = z[n] - s * s * decay * y[n] - s * adam
            x[n] = (1 - c) * x[n] + c * z[n]
            y[n] = b * x[n] + (1 - b) * z[n]
    return y, x


@pytest.mark.parametrize(
    ("anneal", "warmup", "r", "polyak_beta"), [(0, 0, 0.0, 0.0), (12, 3, 2.0, 0.0), (12, 0, 0.0, 0.5)]
)
def test_schedule_free_plus(anneal: int, warmup: int, r: float, polyak_beta: float) -> None:
    params = {n: nn.Parameter(w) for n, w in start().items()}
    hyper = {"sf_anneal_steps": anneal, "sf_warmup_steps": warmup, "sf_step_power": r, "polyak_beta": polyak_beta}
    betas = {"betas": (0.9, 0.7), "sf_beta": 0.8, "sf_beta_max": 0.95, "eps": EPS}
    optimizer = optim.ScheduleFreePlus(params.items(), lr=LR, weight_decay=WD, undecayed=(), **betas, **hyper)
    stood = 0
    for t in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = LR * rate(t)
        for n, p in params.items():
            p.grad = gradient(p.detach(), n, t)
        optimizer.supply("loss", loss_at(t))
        optimizer.step()
        stood += optimizer.param_groups[0]["shared"]["p"] == 0
    assert 0 < stood < STEPS, "both sides of the maximum are met"
    y, x = twin(anneal, warmup, r, polyak_beta, WD)
    for held, theirs in ((params, y), ({}, x)):
        if not held:
            optimizer.eval()
        for n, w in start().items():
            assert (params[n].detach() - theirs[n]).abs().max() <= 1e-11 * (theirs[n] - w).abs().max(), n


def small() -> tuple[nn.Parameter, Any]:
    w = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    return w, optim.build("sf+", [("w", w)], lr=0.1)


def test_a_closure_supplies_the_loss() -> None:
    weights = []
    for by_closure in (True, False):
        w, optimizer = small()
        for _ in range(3):

            def closure(w: nn.Parameter = w) -> Tensor:
                w.grad = None
                loss = w.square().sum()
                loss.backward()
                return loss

            if by_closure:
                assert optimizer.step(closure).item() > 0
            else:
                optimizer.supply("loss", closure())
                optimizer.step()
        weights.append(w.detach())
    assert torch.equal(*weights) and not torch.equal(weights[0], torch.ones(3, 2))


def test_the_loss_is_one_number_and_must_come() -> None:
    w, optimizer = small()
    w.grad = torch.ones_like(w)
    assert optimizer.due() == {"loss": ["w"]}
    with pytest.raises(ValueError, match=r"needs the signal loss in step 1; before step\(\), call optimizer.supply"):
        optimizer.step()
    for bad in (torch.ones(2), {"w": torch.ones(())}, "3.2", True):
        with pytest.raises(ValueError, match="loss must be one number, not"):
            optimizer.supply("loss", bad)
    assert torch.equal(w, torch.ones_like(w))


def test_a_loss_that_is_no_number_shows() -> None:
    w, optimizer = small()
    w.grad = torch.ones_like(w)
    optimizer.supply("loss", math.nan)
    optimizer.step()
    assert w.isnan().all()
