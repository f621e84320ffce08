"""The sets of tensors that optimizer steps are timed on: shaped like Llamas, by name."""

from __future__ import annotations

import torch
from torch import nn

from optimizer_peers import Parameters

Shapes = dict[str, tuple[int, ...]]


def llama(layers: int, width: int, mlp: int, vocabulary: int = 0, tied: bool = False) -> Shapes:
    """Matrices of a Llama; with a vocabulary also its embedding, norms and, if not tied, head."""
    shapes: Shapes = {}
    for n in range(layers):
        shapes |= {f"blocks.{n}.{name}.weight": (width, width) for name in "qkvo"}
        shapes |= {f"blocks.{n}.{name}.weight": (mlp, width) for name in ("gate", "up")}
        shapes[f"blocks.{n}.down.weight"] = (width, mlp)
        if vocabulary:
            shapes |= {f"blocks.{n}.norm{k}.weight": (width,) for k in (1, 2)}
    if vocabulary:
        shapes |= {"embedding.weight": (vocabulary, width), "norm.weight": (width,)}
        shapes |= {} if tied else {"head.weight": (vocabulary, width)}
    return shapes


SETS: dict[str, Shapes] = {
    "tiny": llama(2, 64, 192, 512),
    "small": llama(24, 64, 192),  # 168 matrices of at most 12 288 elements
    "20m": llama(6, 384, 1024, 12_288),
    "20m-matrices": llama(12, 384, 1024),
    "124m": llama(12, 768, 2048, 50_304, tied=True),
    "124m-matrices": llama(12, 768, 2048),
    "720m": llama(12, 2048, 5632, 50_304, tied=True),
}


def parameters(shapes: Shapes, device: str) -> Parameters:
    generator = torch.Generator().manual_seed(0)
    made = {n: nn.Parameter((0.02 * torch.randn(s, generator=generator)).to(device)) for n, s in shapes.items()}
    hidden = {n: p for n, p in made.items() if n.startswith("blocks") and p.ndim == 2}
    return Parameters(hidden, {n: p for n, p in made.items() if n not in hidden})
