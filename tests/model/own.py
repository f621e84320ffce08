"""Models of one's own for tests: one that is right in every way, and one for each thing that may be wrong.

``build(vocabulary, context)`` of each kind of output; ``REFUSED`` and ``FAILED`` name factories and what is said.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Tiny(nn.Module):
    """Embedding, two blocks of one causal mean and one matrix, head. Tokens (B, T) to logits (B, T, V)."""

    def __init__(self, vocabulary: int, width: int = 16, tied: bool = False, rows: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, rows or vocabulary, bias=False)
        if tied:
            self.head.weight = self.embedding.weight
            nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Any:
        x = self.embedding(tokens)
        for block in self.blocks:
            past = x.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
            x = x + torch.tanh(block(past))
        return self.head(self.norm(x))


def build(vocabulary: int, context: int) -> nn.Module:
    return Tiny(vocabulary)


def tied(vocabulary: int, context: int) -> nn.Module:
    return Tiny(vocabulary, tied=True)


def swapped(context: int, vocabulary: int) -> nn.Module:
    """Arguments in another order: they are given by name."""
    return Tiny(vocabulary)


class Loss(Tiny):
    """A loss alone, whose own mark of what does not count is another than ours."""

    def forward(self, tokens: Tensor, next_tokens: Tensor) -> Any:
        return F.cross_entropy(super().forward(tokens).flatten(0, 1), next_tokens.flatten(), ignore_index=-1)


def loss(vocabulary: int, context: int) -> nn.Module:
    return Loss(vocabulary)


class Both(Tiny):
    """Logits and a loss with another term, as nanoGPT returns them: without targets only the last position's."""

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Any:
        logits = super().forward(tokens)
        if targets is None:
            return logits[:, [-1]], None
        own = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
        return logits, own + 0.1 * logits.square().mean()


def both(vocabulary: int, context: int) -> nn.Module:
    return Both(vocabulary)


class Named(Tiny):
    """Roles that nothing tells: a stack of three dimensions under another name."""

    def __init__(self, vocabulary: int, roles: dict[str, str] | None) -> None:
        super().__init__(vocabulary)
        self.stack = nn.Parameter(0.1 * torch.randn(3, 16, 16))
        if roles is not None:
            self.roles = roles

    def forward(self, tokens: Tensor) -> Any:
        return super().forward(tokens) + (self.stack.sum(0) * 0).sum()


def with_roles(vocabulary: int, context: int) -> nn.Module:
    return Named(vocabulary, {"stack": "expert"})


def without_roles(vocabulary: int, context: int) -> nn.Module:
    return Named(vocabulary, None)


class Counting(Tiny):
    """Buffers that training changes: one in checkpoints, and one that is lost."""

    def __init__(self, vocabulary: int, lost: bool) -> None:
        super().__init__(vocabulary)
        self.register_buffer("seen", torch.zeros(()), persistent=not lost)
        self.seen: Tensor

    def forward(self, tokens: Tensor) -> Any:
        if self.training:
            self.seen += 1
        return super().forward(tokens) * (1 + 0.01 * self.seen.detach())


def counting(vocabulary: int, context: int) -> nn.Module:
    return Counting(vocabulary, lost=False)


def forgetful(vocabulary: int, context: int) -> nn.Module:
    return Counting(vocabulary, lost=True)


def valued(vocabulary: int, context: int) -> nn.Module:
    """Its shapes depend on values, which the meta device does not have."""

    class Valued(Tiny):
        def forward(self, tokens: Tensor) -> Any:
            return super().forward(tokens) + (0.0 if tokens.max().item() >= 0 else 1.0)

    return Valued(vocabulary)


# What is refused.


class Ends(Tiny):
    def __init__(self, vocabulary: int, change: Any) -> None:
        super().__init__(vocabulary)
        self.change = change

    def forward(self, tokens: Tensor) -> Any:
        return self.change(super().forward(tokens))


class Labels(Tiny):
    def forward(self, tokens: Tensor, labels: Tensor) -> Any:
        return super().forward(tokens)


class Mask(Tiny):
    def forward(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Any:
        return super().forward(tokens)


class Single(Tiny):
    def forward(self, tokens: Tensor, targets: Tensor) -> Any:
        return F.cross_entropy(super().forward(tokens).flatten(0, 1), targets.flatten()).detach()


def raises(vocabulary: int, context: int) -> nn.Module:
    raise RuntimeError("no GPU here")


def bursts(logits: Tensor) -> Tensor:
    raise KeyError("boom")


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (lambda vocabulary, context: nn.Identity(), "builds a module without parameters; layers count when"),
    "frozen": (lambda vocabulary, context: Tiny(vocabulary).requires_grad_(False), "parameters are all frozen"),
    "number": (lambda vocabulary, context: 3, "gives int; let it return a torch.nn.Module"),
    "raises": (raises, "raises RuntimeError: no GPU here; it is called as build(vocabulary=512, context=128)"),
    "one_argument": (lambda vocabulary: Tiny(vocabulary), "takes 1 positional argument but 2 were given"),
    "fewer": (lambda vocabulary, context: Tiny(vocabulary, rows=100), "the vocabulary is 512, which build"),
    "last": (lambda vocabulary, context: Ends(vocabulary, lambda y: y[:, -1:]), "a score for every position"),
    "mean": (lambda vocabulary, context: Ends(vocabulary, lambda y: y.mean(1)), "gives a tensor of shape (2, 512)"),
    "boom": (lambda vocabulary, context: Ends(vocabulary, bursts), "builds a module that raises KeyError: 'boom'"),
    "labels": (lambda vocabulary, context: Labels(vocabulary), "forward needs labels, and labels are shifted in some"),
    "mask": (lambda vocabulary, context: Mask(vocabulary), "needs mask, positions beside tokens"),
    "detached": (lambda vocabulary, context: Single(vocabulary), "a loss that depends on no parameter"),
    "untold": (without_roles, "stack of shape (3, 16, 16) has no evident role"),
}
globals().update({name: factory for name, (factory, _) in REFUSED.items()})


def no_matrix(vocabulary: int, context: int) -> nn.Module:
    return nn.Embedding(vocabulary, vocabulary)


# What a check finds.


class Unused(Tiny):
    def __init__(self, vocabulary: int) -> None:
        super().__init__(vocabulary)
        self.unused = nn.Linear(3, 3)


class Unseeded(Tiny):
    def __init__(self, vocabulary: int) -> None:
        super().__init__(vocabulary)
        with torch.no_grad():
            self.embedding.weight.normal_(generator=torch.Generator().manual_seed(torch.seed() % 2**31))


FAILED: dict[str, tuple[Any, str, str]] = {
    "future": (
        lambda vocabulary, context: Ends(vocabulary, lambda y: y + y.mean(1, keepdim=True)),
        "causal",
        "it sees what it shall predict",
    ),
    "neighbours": (
        lambda vocabulary, context: Ends(vocabulary, lambda y: y - y.mean(0)),
        "sequences",
        "with the other sequences of its batch",
    ),
    "unused": (
        lambda vocabulary, context: Unused(vocabulary),
        "gradients",
        "unused.weight, unused.bias get no gradient",
    ),
    "noisy": (
        lambda vocabulary, context: Ends(vocabulary, lambda y: y + torch.randn_like(y)),
        "evaluates",
        "honour self.training",
    ),
    "unseeded": (lambda vocabulary, context: Unseeded(vocabulary), "repeats", "differ although the seed is the same"),
    "forgetful": (forgetful, "state", "training changes seen, which no checkpoint has"),
    "narrow": (lambda vocabulary, context: Tiny(vocabulary).bfloat16(), "precision", "are not float32"),
}
globals().update({name: factory for name, (factory, _, _) in FAILED.items()})
