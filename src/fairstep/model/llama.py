"""The Llama of both papers: RMSNorm, RoPE, SwiGLU, causal attention, no biases; dense or with experts.

Shapes in comments: B sequences, T positions, D width, H heads, K = D / H head size, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from fairstep.model.attention import WatchedAttention, attend
from fairstep.model.base import LanguageModel, Routing
from fairstep.model.config import ModelConfig
from fairstep.model.layers import MLP, RMSNorm, rope_tables, rotate
from fairstep.model.moe import Mixture


class Attention(WatchedAttention):
    """Causal multi-head self-attention with separate q, k, v, o matrices (so that each is one matrix to Muon).

    With fewer heads of keys and values than of queries, neighbouring queries share one (arXiv 2305.13245).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, key_width = config.width, config.key_width
        self.heads, self.head_width = config.heads, config.head_width
        self.shared_by = width // key_width
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, key_width, bias=False)
        self.v = nn.Linear(width, key_width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.scale = config.attention_scale or None
        self.q_norm = RMSNorm(self.head_width, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_width, config.norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.shared_by > 1:
            k, v = (f.repeat_interleave(self.shared_by, dim=1) for f in (k, v))
        largest = self.largest if self.training else None
        return self.o(attend(q, k, v, mask, scale=self.scale, largest=largest).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """x + c attention(norm(x)), then x + c mlp(norm(x)) with c = residual_scale; experts may stand for the MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps)
        self.mlp: nn.Module
        if config.moe is None:
            self.mlp = MLP(config.width, config.mlp_width)
        else:
            self.mlp = Mixture(config.width, config.mlp_width, config.moe)
        self.routed = config.moe is not None
        self.residual_scale = config.residual_scale

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> tuple[Tensor, Routing | None]:
        x = x + self._scaled(self.attention(self.attention_norm(x), cos, sin, mask))
        y = self.mlp(self.mlp_norm(x))
        return (x + self._scaled(y[0]), y[1]) if self.routed else (x + self._scaled(y), None)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.residual_scale == 1 else x * self.residual_scale


class Llama(LanguageModel):
    """Pre-norm decoder: embedding, blocks, norm, head."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.finish()

    def hidden(self, tokens: Tensor) -> tuple[Tensor, list[Routing]]:
        length = tokens.shape[1]
        x = self.embedding(tokens)
        cos, sin = self.cos[:length], self.sin[:length]
        mask = self.explicit_mask(tokens)
        routings = []
        for block in self.blocks:
            x, routing = block(x, cos, sin, mask)
            if routing is not None:
                routings.append(routing)
        x = self.norm(x)
        return x if self.config.output_scale == 1 else x * self.config.output_scale, routings
