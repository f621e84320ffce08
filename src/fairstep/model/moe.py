"""A mixture of experts in place of an MLP: a router decides which experts see which tokens; experts are one stack.

Shapes in comments: B sequences, T positions, D width, F MLP width, E experts, k experts per token, N = B T tokens,
R assignments of a token to an expert.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.base import Routing
from fairstep.model.config import MoEConfig
from fairstep.model.grouped import grouped_linear
from fairstep.model.layers import MLP
from fairstep.model.precision import wide


class Assignment(NamedTuple):
    """Which expert sees which token, sorted by expert: expert e has the rows before ``ends[e]`` and behind e - 1's.

    ``tokens``: (R,) token of each row; ``weights``: (R,) its share in the token's output, 0 for an unused row;
    ``ends``: (E,) int32; ``taken``: (R,) whether the row is used.
    """

    tokens: Tensor
    weights: Tensor
    ends: Tensor
    taken: Tensor


def top_k(logits: Tensor, k: int) -> Assignment:
    """Every token to its k best experts, with the softmax of their k logits as weights (S section 2). Drops nothing.

    logits: (B, T, E), float32.
    """
    experts = logits.shape[-1]
    best, chosen = logits.flatten(0, 1).topk(k)
    expert, order = chosen.flatten().sort(stable=True)
    ends = (expert[:, None] == torch.arange(experts, device=expert.device)).sum(0).cumsum(0).to(torch.int32)
    weights = torch.softmax(best, -1).flatten()[order]
    return Assignment(order // k, weights, ends, torch.ones_like(order, dtype=torch.bool))


def top_k_with_capacity(logits: Tensor, k: int, capacity_factor: float) -> Assignment:
    """``top_k``, but an expert takes the first ceil(factor k T / E) of a sequence's tokens that chose it, no more.

    First in position, so that whether a token is taken does not depend on those behind it, nor on other sequences.
    """
    sequences, length, experts = logits.shape
    capacity = min(length, math.ceil(capacity_factor * k * length / experts))
    best, chosen = logits.topk(k)
    expert = chosen.flatten(1)  # (B, T k)
    wanted = F.one_hot(expert, experts).cumsum(1).gather(2, expert[..., None])[..., 0] - 1
    sequence = torch.arange(sequences, device=logits.device)[:, None]
    rows = experts * sequences * capacity
    # Row of (expert, sequence, place); what finds no place goes to one row behind the last, which is cut off.
    row = torch.where(wanted < capacity, (expert * sequences + sequence) * capacity + wanted, rows).flatten()
    token = torch.arange(sequences * length, device=logits.device).repeat_interleave(k)
    weights = torch.softmax(best, -1).flatten()
    empty = weights.new_zeros(rows + 1)
    return Assignment(
        torch.zeros_like(token, dtype=torch.int64).new_zeros(rows + 1).scatter(0, row, token)[:rows],
        empty.scatter(0, row, weights)[:rows],
        _equal_ends(experts, sequences * capacity, logits.device),
        empty.scatter(0, row, torch.ones_like(weights))[:rows] > 0,
    )


def expert_choice(logits: Tensor, k: int, capacity_factor: float) -> Assignment:
    """Every expert takes the ceil(factor k T / E) tokens of each sequence with the largest softmax(logits)_e, which is
    also their weight (arXiv 2202.09368, section 3.1, with a sequence as the group)."""
    sequences, length, experts = logits.shape
    capacity = min(length, math.ceil((capacity_factor or 1.0) * k * length / experts))
    weights, picks = torch.softmax(logits, -1).transpose(1, 2).topk(capacity)  # (B, E, C)
    tokens = picks + length * torch.arange(sequences, device=logits.device)[:, None, None]
    tokens, weights = (x.transpose(0, 1).flatten() for x in (tokens, weights))
    ends = _equal_ends(experts, sequences * capacity, logits.device)
    return Assignment(tokens, weights, ends, torch.ones_like(tokens, dtype=torch.bool))


def _equal_ends(experts: int, rows: int, device: torch.device) -> Tensor:
    return torch.arange(1, experts + 1, device=device, dtype=torch.int32) * rows


class Experts(nn.Module):
    """E SwiGLU networks as three stacks of matrices (output x input each)."""

    def __init__(self, experts: int, width: int, mlp_width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(experts, mlp_width, width))
        self.up = nn.Parameter(torch.empty(experts, mlp_width, width))
        self.down = nn.Parameter(torch.empty(experts, width, mlp_width))

    def forward(self, rows: Tensor, ends: Tensor) -> Tensor:
        """rows: (R, D) sorted by expert. Returns (R, D)."""
        gate, up = (grouped_linear(rows, weight, ends) for weight in (self.gate, self.up))
        return grouped_linear(F.silu(gate) * up, self.down, ends)


class Mixture(nn.Module):
    """sum over the experts that took a token of weight x expert(token), plus the shared experts, which see all."""

    def __init__(self, width: int, mlp_width: int, config: MoEConfig) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Linear(width, config.experts, bias=False)
        self.experts = Experts(config.experts, width, mlp_width)
        # n SwiGLU networks whose outputs are added are one that is n times as wide.
        self.shared = MLP(width, config.shared_experts * mlp_width) if config.shared_experts else None

    def assign(self, logits: Tensor) -> Assignment:
        config = self.config
        if config.routing == "expert_choice":
            return expert_choice(logits, config.experts_per_token, config.capacity_factor)
        if config.capacity_factor:
            return top_k_with_capacity(logits, config.experts_per_token, config.capacity_factor)
        return top_k(logits, config.experts_per_token)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """x: (B, T, D)."""
        logits = wide(self.router(x))
        assignment = self.assign(logits)
        tokens = x.flatten(0, 1)
        rows = self.experts(tokens[assignment.tokens], assignment.ends) * assignment.weights[:, None]
        mixed = torch.zeros_like(tokens).index_add(0, assignment.tokens, rows.to(x.dtype)).view_as(x)
        if self.shared is not None:
            mixed = mixed + self.shared(x)
        return mixed, self._routing(logits, assignment)

    def _routing(self, logits: Tensor, assignment: Assignment) -> Routing:
        """Balance: sum_e f_e P_e, f the share of tokens with e among their choices (sum k), P the mean of softmax;
        z: the mean of logsumexp(logits)^2 (S section 2; arXiv 2202.08906, equation 5). Nothing is to be balanced where
        experts choose."""
        config, logits = self.config, logits.flatten(0, 1)
        z = torch.logsumexp(logits, -1).square().mean()
        with torch.no_grad():
            chosen = torch.zeros_like(logits).scatter(1, logits.topk(config.experts_per_token).indices, 1.0)
            starts = torch.cat((assignment.ends.new_zeros(1), assignment.ends[:-1]))
            row = torch.arange(len(assignment.tokens), device=logits.device)[:, None]
            of_expert = (row >= starts) & (row < assignment.ends) & assignment.taken[:, None]
            load = of_expert.sum(0) / assignment.taken.sum()
            seen = torch.zeros_like(logits[:, 0]).index_add(0, assignment.tokens, assignment.taken.to(logits.dtype))
            unrouted = (seen == 0).to(logits.dtype).mean()
        balance = torch.zeros_like(z)
        if config.routing == "top_k":
            balance = (chosen.mean(0) * torch.softmax(logits, -1).mean(0)).sum()
            balance = balance * (config.experts if config.balance_scale == "switch" else 1)
        return Routing(balance, z, load, unrouted)
