"""The model of modded-nanogpt's optimization track ("Track 3"), so that its cell can be trained and tuned here.

KellerJordan/modded-nanogpt, records/track_3_optimization (MIT), state of 2026-08-01; the facts are of the log of its
result 36. A pre-norm decoder with RMSNorm, and what no other model here has:

* one more norm, behind the embedding; a bias in every linear layer, the head too;
* MLP: down(relu(up x)^2);
* queries and keys are normalised without gains, and scores multiplied by ``SCALE``;
* rotation of half of a head's pairs, at angles position x b^(-i / (K/4 - 1)), i = 0 .. K/4 - 1, with b = ``rope_base``;
* logits between -``CAP`` and ``CAP``: c z / sqrt(z^2 + c^2);
* an embedding that is stored in bf16. With bf16 products the whole residual stream is bf16.

Differences: the pairs of a rotation are neighbours in a head, not its halves, and turn the other way; both are another
order of the same weights. The track sums losses over the 524,288 = 2^19 tokens of a batch, and here they are averaged.
All gradients are then 2^-19 times the track's, to the bit, and so is every eps that stands beside a gradient: AdamW's
1e-10 is 1e-10 / 2^19 here.

Shapes in comments: B sequences, T positions, D width, K head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.attention import attend
from fairstep.model.base import LanguageModel
from fairstep.model.config import ModelConfig
from fairstep.model.layers import RMSNorm, normalised, rotate
from fairstep.model.precision import product_dtype

SCALE = 0.12
CAP = 15.0


class Norm(RMSNorm):
    """RMSNorm whose gain multiplies in float32, rounded to the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        return normalised(x, self.eps, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal self-attention of normalised queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.eps = config.heads, config.norm_eps
        self.q, self.k, self.v, self.o = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = (rotate(normalised(f, self.eps), cos, sin) for f in (q, k))
        return self.o(attend(q, k, v, mask, scale=SCALE).transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    """down(relu(up x)^2)."""

    def __init__(self, width: int, mlp_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)

    def forward(self, x: Tensor) -> Tensor:
        positive = F.relu(self.up(x))
        return self.down(positive * positive)  # autocast would take a power in float32


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = Norm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = Norm(config.width, config.norm_eps)
        self.mlp = MLP(config.width, config.mlp_width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        return x + self.mlp(self.mlp_norm(x))


class Track3(LanguageModel):
    """Embedding, norm, blocks, norm, head."""

    cos: Tensor
    sin: Tensor
    head_bias = True
    logit_cap = CAP

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.embedding.to(torch.bfloat16)
        self.embedding_norm = Norm(config.width, config.norm_eps)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config.norm_eps)
        angles = half_rotation(config)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.finish()

    def hidden(self, tokens: Tensor) -> tuple[Tensor, tuple[()]]:
        length = tokens.shape[1]
        x = self.embedding(tokens)
        x = self.embedding_norm(x.to(product_dtype(x, self.norm.weight)))
        cos, sin = self.cos[:length], self.sin[:length]
        mask = self.explicit_mask(tokens)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        return self.norm(x), ()


def half_rotation(config: ModelConfig) -> Tensor:
    """Rotation angles (T, K/2), float32: the first half of the pairs of a head from 1 to 1/b a position, the rest 0."""
    rotated = config.head_width // 4
    frequencies = config.rope_base ** -torch.linspace(0, 1, rotated, dtype=torch.float32)
    frequencies = torch.cat([frequencies, torch.zeros(rotated)])
    return torch.outer(torch.arange(config.context, dtype=torch.float32), frequencies)
