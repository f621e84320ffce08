"""Layers that several models are made of: RMSNorm, rotary positions, the SwiGLU MLP.

Shapes in comments: B sequences, T positions, H heads, K head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.config import ModelConfig
from fairstep.model.precision import wide


def rope_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotation angles, float32, shape (T, K/2): position x base^(-2i/K)."""
    size = config.head_width
    frequencies = config.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angles = torch.outer(torch.arange(config.context, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE (arXiv 2104.09864) on interleaved pairs, in float32. x: (B, H, T, K)."""
    even, odd = wide(x).unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) * gain with the statistics in float32 (arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return normalised(x, self.eps) * self.weight


def normalised(x: Tensor, eps: float, gain: Tensor | None = None) -> Tensor:
    """x / rms(x) * gain over the last dimension, in the dtype of x; the arithmetic between is in float32."""
    y = wide(x)
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y if gain is None else y * gain).to(x.dtype)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate x) * up x) (arXiv 2002.05202)."""

    def __init__(self, width: int, mlp_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, mlp_width, bias=False)
        self.up = nn.Linear(width, mlp_width, bias=False)
        self.down = nn.Linear(mlp_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))
