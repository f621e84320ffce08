"""Mixtures of experts: the grouped computation against a literal loop, and every kind of routing by its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fairstep.model.config import MoEConfig
from fairstep.model.grouped import grouped_linear
from fairstep.model.moe import Mixture, expert_choice, top_k, top_k_with_capacity


def literal(mixture: Mixture, x: Tensor) -> Tensor:
    """Top-k token by token and expert by expert, as S section 2 writes it."""
    out = torch.zeros_like(x)
    experts = mixture.experts
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            logits = mixture.router.weight @ x[b, t]
            best = logits.topk(mixture.config.experts_per_token)
            for weight, e in zip(torch.softmax(best.values, -1), best.indices.tolist(), strict=True):
                h = F.silu(experts.gate[e] @ x[b, t]) * (experts.up[e] @ x[b, t])
                out[b, t] = out[b, t] + weight * (experts.down[e] @ h)
    return out if mixture.shared is None else out + mixture.shared(x)


def mixture_of(config: MoEConfig, dtype: torch.dtype = torch.float64) -> Mixture:
    torch.manual_seed(0)
    mixture = Mixture(12, 20, config).to(dtype)
    for p in mixture.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return mixture


@pytest.mark.parametrize(
    "config",
    [
        MoEConfig(experts=5),
        MoEConfig(experts=4, experts_per_token=1),
        MoEConfig(experts=3, experts_per_token=3, shared_experts=1),
    ],
)
def test_grouped_experts_are_the_literal_loop(config: MoEConfig) -> None:
    mixture = mixture_of(config)
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    ours, expected = mixture(x)[0], literal(mixture, x)
    assert torch.allclose(ours, expected, atol=1e-12)
    slope = torch.randn_like(ours)
    inputs = [x, *mixture.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours, inputs, slope), torch.autograd.grad(expected, inputs, slope), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_float32_and_float64_take_different_ways_to_the_same_result() -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(10, 8, dtype=torch.float64), torch.randn(4, 16, 8, dtype=torch.float64)
    ends = torch.tensor([3, 3, 9, 10], dtype=torch.int32)  # the second group is empty
    results = []
    for dtype in (torch.float32, torch.float64):
        a, b = (x.to(dtype).requires_grad_() for x in (rows, weight))
        y = grouped_linear(a, b, ends)
        results.append([y, *torch.autograd.grad(y.square().sum(), (a, b))])
    for low, high in zip(*results, strict=True):
        assert torch.allclose(low.double(), high, rtol=1e-5, atol=1e-4)
    assert torch.equal(results[0][2][1], torch.zeros(16, 8))


def test_grouped_linear_follows_autocast() -> None:
    rows, weight = torch.randn(4, 8), torch.randn(2, 8, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = grouped_linear(rows, weight, torch.tensor([1, 4], dtype=torch.int32))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_top_k_conserves_tokens() -> None:
    logits = torch.randn(3, 8, 6)
    tokens, weights, ends, taken = top_k(logits, 2)
    assert torch.equal(tokens.bincount(), torch.full((24,), 2))
    assert torch.allclose(torch.zeros(24).index_add(0, tokens, weights), torch.ones(24))
    assert ends[-1] == 48
    assert taken.all()
    for e, (start, end) in enumerate(zip([0, *ends.tolist()], ends.tolist(), strict=False)):
        chosen = (logits.flatten(0, 1).topk(2).indices == e).any(-1).nonzero()[:, 0]
        assert torch.equal(tokens[start:end].sort().values, chosen)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25])
def test_capacity_bounds_every_expert_and_keeps_the_first(factor: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 8, 4)
    capacity = math.ceil(factor * 2 * 8 / 4)
    tokens, weights, ends, taken = top_k_with_capacity(logits, 2, factor)
    best = logits.topk(2)
    for e in range(4):
        rows = slice(int(ends[e]) - 3 * capacity, int(ends[e]))
        for b in range(3):
            wanting = (best.indices[b] == e).any(-1).nonzero()[:, 0][:capacity]
            mine = taken[rows] & (tokens[rows] // 8 == b)
            assert torch.equal(tokens[rows][mine] - 8 * b, wanting)
            place = (best.indices[b, wanting] == e).int().argmax(-1)
            assert torch.equal(weights[rows][mine], torch.softmax(best.values, -1)[b, wanting, place])
    assert (weights[~taken] == 0).all()


def test_enough_capacity_is_no_bound() -> None:
    mixture = mixture_of(MoEConfig(experts=4))
    x = torch.randn(2, 8, 12, dtype=torch.float64)
    free = mixture(x)[0]
    mixture.config = MoEConfig(experts=4, capacity_factor=2.0)
    assert torch.allclose(mixture(x)[0], free, atol=1e-12)
    assert mixture(x)[1].unrouted == 0
    mixture.config = MoEConfig(experts=4, capacity_factor=0.25)
    assert mixture(x)[1].unrouted > 0


def test_experts_choose_their_best_tokens() -> None:
    """Each expert has exactly k T / E tokens of each sequence, those with its largest probabilities."""
    torch.manual_seed(0)
    logits = torch.randn(2, 12, 4)
    tokens, weights, ends, _ = expert_choice(logits, 2, 0.0)
    assert ends.tolist() == [12, 24, 36, 48]  # 2 sequences of 6 tokens for each expert
    probabilities = torch.softmax(logits, -1)
    for e in range(4):
        for b in range(2):
            mine = tokens[12 * e + 6 * b : 12 * e + 6 * (b + 1)] - 12 * b
            best = probabilities[b, :, e].topk(6)
            assert torch.equal(mine, best.indices)
            assert torch.equal(weights[12 * e + 6 * b : 12 * e + 6 * (b + 1)], best.values)


def test_balance_loss_of_perfect_balance() -> None:
    """0.25 in S's form and 2 on the Switch scale, with 8 experts and top 2; larger when one expert takes all."""
    mixture = mixture_of(MoEConfig(experts=8))
    logits = torch.full((1, 8, 8), 0.0, dtype=torch.float64)
    for t in range(8):  # every expert is among the best two twice, with next to equal probabilities
        logits[0, t, t] = logits[0, t, (t + 1) % 8] = 1e-6
    assert mixture._routing(logits, mixture.assign(logits)).balance.item() == pytest.approx(0.25, abs=1e-6)
    mixture.config = MoEConfig(experts=8, balance_scale="switch")
    assert mixture._routing(logits, mixture.assign(logits)).balance.item() == pytest.approx(2.0, abs=1e-5)
    logits[..., :2] += 20.0
    routing = mixture._routing(logits, mixture.assign(logits))
    assert routing.balance.item() == pytest.approx(8.0, abs=1e-3)  # 8 (1 x 1/2 + 1 x 1/2)
    assert routing.load.tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    assert routing.z.item() == pytest.approx((20 + math.log(2)) ** 2, rel=1e-5)
