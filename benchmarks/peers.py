"""The peers that our training step is measured against: a model, and how its loop runs, as in ``plain+bf16+compiled``.

* plain: ``scaled_dot_product_attention`` and ``torch.nn.RMSNorm`` as they come.
* transformers: Transformers' ``LlamaForCausalLM`` (extra: eval).

The loop is eager and in float32 unless its name says ``compiled`` (``torch.compile`` of the model with its loss) or
``bf16`` (autocast). Its optimizer is ``torch.optim.AdamW(fused=True)``.

Both models have the mathematics and sizes of ``fairstep.model.Llama`` and can load that model's weights;
``train_throughput.py`` checks that all give the same loss before it measures anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.runs import ModelSpec
from fairstep.train.compilation import compile_soundly


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, mlp_width, bias=False) for _ in range(2))
        self.down = nn.Linear(mlp_width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        h = self.norm1(x)
        q, k, v = (f(h).view(batch, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, width))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class PlainLlama(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width, heads = spec.width, spec.heads
        self.embedding = nn.Embedding(spec.vocabulary, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads, spec.mlp_width) for _ in range(spec.layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, spec.vocabulary, bias=False)
        size = width // heads
        angles = torch.outer(torch.arange(spec.context), 10_000.0 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def plain(spec: ModelSpec) -> nn.Module:
    return PlainLlama(spec)


def transformers(spec: ModelSpec) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.width,
        intermediate_size=spec.mlp_width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        max_position_embeddings=spec.context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        use_cache=False,
    )

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = LlamaForCausalLM(config).train()

        def forward(self, tokens: Tensor) -> Tensor:
            return self.model(tokens).logits

    return Logits()


MODELS = {"plain": plain, "transformers": transformers}
MODES = ("bf16", "compiled")
PEERS = tuple(
    "+".join((model, *modes)) for model in MODELS for modes in ((), ("bf16",), ("compiled",), ("bf16", "compiled"))
)
RENAMED = {
    "plain": {"attention.": "", "mlp.": "", "attention_norm": "norm1", "mlp_norm": "norm2"},
    "transformers": {
        "embedding": "model.model.embed_tokens",
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "attention.": "self_attn.",
        "blocks": "model.model.layers",
    }
    | {f".{name}.weight": f".{name}_proj.weight" for name in ("q", "k", "v", "o", "gate", "up", "down")},
}
"""From parts of our parameters' names to theirs."""


@torch.no_grad()
def load(name: str, model: nn.Module, weights: Mapping[str, Tensor], heads: int) -> None:
    """Give a peer our weights. Transformers rotates halves of a head where we rotate neighbours, so the rows of its
    query and key matrices come in another order."""
    own = dict(model.named_parameters())
    for key, value in weights.items():
        if name == "transformers" and key.endswith((".q.weight", ".k.weight")):
            value = value.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        for old, new in RENAMED[name].items():
            key = key.replace(old, new)
        if name == "transformers":
            key = {"norm.weight": "model.model.norm.weight", "head.weight": "model.lm_head.weight"}.get(key, key)
        own.pop(key).copy_(value)
    if own:
        raise SystemExit(f"{name} has parameters that we have not: {', '.join(own)}")


class Loop:
    """One optimizer step of a peer at a time: forward, backward, clip, step."""

    def __init__(self, peer: str, spec: ModelSpec, weights: Mapping[str, Tensor] | None = None) -> None:
        name, *modes = peer.split("+")
        self.model: Any = MODELS[name](spec)
        if weights is not None:
            load(name, self.model, weights, spec.heads)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in modes)
        self.loss: Any = self._loss
        if "compiled" in modes:
            compile_soundly()
            self.loss = torch.compile(self._loss, dynamic=False)

    def _loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model(tokens).flatten(0, 1), targets.flatten())

    def step(self, tokens: Tensor) -> float:
        with self.autocast:
            loss = self.loss(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()
