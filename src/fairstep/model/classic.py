"""GPT-2 and BERT: LayerNorm, GELU, learned positions, biases. They test whether a verdict holds beyond Llama.

GPT-2 (Radford et al. 2019) reads from left to right and normalises before each layer. BERT (arXiv 1810.04805) reads
both ways, normalises behind each sum, and is trained on masked tokens; ``data.masking`` makes its batches. This BERT
has no segment embedding and no next-sentence loss, and its head is the tied embedding alone.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.attention import WatchedAttention, attend
from fairstep.model.base import LanguageModel
from fairstep.model.config import ModelConfig


class Attention(WatchedAttention):
    """Multi-head self-attention with biases."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        largest = self.largest if self.training else None
        return self.o(attend(q, k, v, mask, self.causal, largest=largest).transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    """down(gelu(up x))."""

    def __init__(self, width: int, mlp_width: int, gelu: Literal["tanh", "none"]) -> None:
        super().__init__()
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate=self.gelu))


class Block(nn.Module):
    """Pre-norm when causal, else post-norm."""

    def __init__(self, config: ModelConfig, causal: bool) -> None:
        super().__init__()
        self.pre_norm = causal
        self.attention_norm = nn.LayerNorm(config.width, config.norm_eps)
        self.attention = Attention(config.width, config.heads, causal)
        self.mlp_norm = nn.LayerNorm(config.width, config.norm_eps)
        self.mlp = MLP(config.width, config.mlp_width, "tanh" if causal else "none")

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.attention_norm(x), mask)
            return x + self.mlp(self.mlp_norm(x))
        x = self.attention_norm(x + self.attention(x, mask))
        return self.mlp_norm(x + self.mlp(x))


class Classic(LanguageModel):
    """Embeddings of tokens and positions, blocks, one more norm: behind the blocks when causal, else before them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config, self.causal) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.finish()

    def hidden(self, tokens: Tensor) -> tuple[Tensor, tuple[()]]:
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.positions.weight[:length]
        mask = self.explicit_mask(tokens)
        x = x if self.causal else self.norm(x)
        for block in self.blocks:
            x = block(x, mask)
        return (self.norm(x) if self.causal else x), ()


class GPT2(Classic):
    """The decoder."""


class BERT(Classic):
    """The encoder."""

    causal = False
