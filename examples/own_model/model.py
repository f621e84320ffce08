"""A model of one's own: `build(vocabulary, context)` returns a module that gives logits for tokens.

fairstep model check examples/own_model/model.py:build
fairstep compare adamw muon --model examples/own_model/model.py:build --tokens 200k --store runs/own-model
"""

import torch
from torch import nn


class Convolutions(nn.Module):
    """Gated causal convolutions instead of attention. Tokens (B, T) to logits (B, T, vocabulary)."""

    def __init__(self, vocabulary: int, width: int = 64, layers: int = 4, span: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.span = span
        self.mix = nn.ModuleList(nn.Conv1d(width, 2 * width, span, bias=False) for _ in range(layers))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(layers + 1))
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for mix, norm in zip(self.mix, self.norms, strict=False):
            past = nn.functional.pad(norm(x).transpose(1, 2), (self.span - 1, 0))  # the future is not seen
            x = x + nn.functional.glu(mix(past), dim=1).transpose(1, 2)
        return self.head(self.norms[-1](x))


def build(vocabulary: int, context: int) -> nn.Module:
    return Convolutions(vocabulary)
