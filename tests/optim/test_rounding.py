"""Stochastic rounding of bfloat16 weights: exact on average, and what it is worth."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from fairstep import optim
from fairstep.optim.engine.rounding import Rounding, round_stochastically_

LR = {"adamw": 1e-3, "lion": 1e-4, "soap": 1e-3}


def test_values_between_two_of_bfloat16_are_rounded_to_one_of_them_and_right_on_average() -> None:
    below, above, n = 1.0, 1.0 + 2**-7, 200_000
    for share in (0.01, 0.3, 0.9):
        x = torch.full((n,), below + share * (above - below))
        round_stochastically_(x, step=1)
        assert set(x.tolist()) <= {below, above}
        up = (x == above).double().mean().item()
        assert abs(up - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_values_of_bfloat16_stay() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -3.140625, 1e-30, math.inf, -math.inf]).bfloat16().float()
    rounded = x.clone()
    round_stochastically_(rounded, step=7)
    assert torch.equal(rounded, x)
    lost = torch.tensor([math.nan])
    round_stochastically_(lost, step=7)
    assert lost.isnan().all()


def test_every_step_and_piece_has_random_numbers_of_its_own() -> None:
    drawn: list[Tensor] = []
    for step, start in ((1, 0), (2, 0), (3, 0), (1, 4096)):
        drawn.append(torch.full((4096,), 1 + 2**-8))
        round_stochastically_(drawn[-1], step, start)
    for one in range(4):
        for other in range(one):
            agree = (drawn[one] == drawn[other]).double().mean().item()
            assert 0.45 < agree < 0.55


def trained(name: str, dtype: torch.dtype, rounding: Rounding, *, resume: bool = False) -> Tensor:
    """W - T after 600 steps of noisy gradients of |W - T|^2 / 2, all weights near 0.3."""
    generator = torch.Generator().manual_seed(0)
    start, target = (torch.randn(32, 32, generator=generator) * 0.3 for _ in range(2))
    p = nn.Parameter(start.to(dtype))

    def made() -> torch.optim.Optimizer:
        roles = {"w": "matrix"}
        return optim.build(name, [("w", p)], lr=LR[name], weight_decay=0.0, roles=roles, rounding=rounding)

    optimizer = made()
    for step in range(600):
        if resume and step == 300:
            saved, optimizer = copy.deepcopy(optimizer.state_dict()), made()
            optimizer.load_state_dict(saved)
        noise = torch.randn(32, 32, generator=generator) * 0.05
        p.grad = (p.detach().float() - target + noise).to(dtype)
        optimizer.step()
    assert p.dtype == dtype
    return p.detach().float() - target


@pytest.mark.parametrize("name", sorted(LR))
def test_small_steps_are_not_lost(name: str) -> None:
    """Rounded to nearest, AdamW in bfloat16 ends at 4.7 times the loss of float32; torch's AdamW does, too."""

    def loss(dtype: torch.dtype, rounding: Rounding) -> float:
        return trained(name, dtype, rounding).square().mean().item()

    exact = loss(torch.float32, "stochastic")  # has nothing to round
    assert exact == loss(torch.float32, "nearest")
    assert loss(torch.bfloat16, "nearest") > 1.15 * exact
    assert loss(torch.bfloat16, "stochastic") == pytest.approx(exact, rel=0.05)


def test_a_resumed_run_rounds_alike() -> None:
    straight, resumed = (trained("adamw", torch.bfloat16, "stochastic", resume=resume) for resume in (False, True))
    assert torch.equal(straight, resumed)


def test_stacks_and_pieces_round_too() -> None:
    model = nn.Sequential(*(nn.Linear(16, 16, bias=False, dtype=torch.bfloat16) for _ in range(3)))
    optimizer = optim.build("adamw", model, lr=2**-12, weight_decay=0.0, rounding="stochastic")
    for p in model.parameters():
        nn.init.ones_(p)
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = [float((p != 1).double().mean()) for p in model.parameters()]
    assert all(0 < share < 1 for share in moved) and copy.deepcopy(optimizer).rounding == "stochastic"


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(ValueError, match="rounding must be one of nearest, stochastic, not 'up'"):
        optim.build("adamw", nn.Linear(2, 2), rounding="up")
