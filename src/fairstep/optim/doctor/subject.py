"""What the conformance checks do to an optimizer: a small model, gradients for it, steps.

Gradients are a pure function of the step and the weights, so that two optimizers in the same state must do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fairstep.optim.catalogue import registry
from fairstep.optim.catalogue.foreign import ForeignSpec
from fairstep.optim.engine.signals import in_form


class SmallModel(nn.Module):
    """What a language model has: embedding, square, tall and wide matrices, gains and biases, a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(24, 8)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(8, 8, bias=False), "up": nn.Linear(8, 12), "down": nn.Linear(12, 8)})
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 24, bias=False)


def seed(number: int) -> None:
    """Of the processor's generator alone. ``torch.manual_seed`` is as dear as a step: until there is a device it writes
    down, with the whole stack, who asked for its seed."""
    torch.default_generator.manual_seed(number)


def small_model(dtype: torch.dtype = torch.float32) -> SmallModel:
    """The same weights at every call; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        seed(0)
        return SmallModel().to(dtype)


Pair = tuple[nn.Module, Any]
"""A model with its optimizer."""


@dataclass
class Subject:
    """One optimizer under examination, by its name. ``hyper`` are its hyperparameters, ``lr`` among them.

    ``resume(name, saved, fresh)``: how the training loop that asks takes a fresh pair to where a saved one is.
    """

    name: str
    hyper: dict[str, Any] = field(default_factory=dict)
    resume: Callable[[str, Pair, Pair], None] | None = None

    def build(self, params: Any, **changes: Any) -> Any:
        """A new optimizer of the name; random numbers that its class draws are the same every time."""
        seed(1)
        return registry.build(self.name, params, **{**self.hyper, **changes})

    def pair(self, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[SmallModel, Any]:
        """A new model with a new optimizer."""
        model = small_model(dtype)
        return model, self.build(model, **changes)

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Param groups of the model's matrices and of all others: with names for ours, which infer roles by them."""
        named = list(model.named_parameters())
        foreign = isinstance(registry.get(self.name), ForeignSpec)
        kinds = [pair for pair in named if pair[1].ndim == 2], [pair for pair in named if pair[1].ndim != 2]
        return [{"params": [p for _, p in kind] if foreign else kind} for kind in kinds]

    @property
    def another_lr(self) -> float:
        """A learning rate for one group: 0 where all others must be the same."""
        one = any(part.rule.one_lr for part in registry.get(self.name).parts)
        return 0.0 if one else self.hyper["lr"] / 7

    @property
    def undecayed(self) -> dict[str, float]:
        """The weight decay switched off, if there is one."""
        name = getattr(registry.get(self.name), "decay_name", "weight_decay")
        return {name: 0.0} if name else {}


def feed(params: Mapping[str, Tensor], step: int, feedback: float = 1.0) -> None:
    """Gradients of mixed scales with feedback, A_t + W: fresh tensors, the same for the same weights and step."""
    generator = torch.Generator().manual_seed(step)
    for index, p in enumerate(params.values()):
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 3.0 ** (index % 4 - 2)
        p.grad = (noise + feedback * p.detach()).to(p.dtype)


def step_with_signals(optimizer: Any, params: Mapping[str, Tensor], loss: float = 1.0) -> None:
    """A step, with what the optimizer declares that it needs beside gradients (see ``signals``): this loss, a curvature
    of 1, attention logits of 1, and the gradient itself as the one of this batch at the weights before."""
    for signal, names in optimizer.due().items() if hasattr(optimizer, "due") else ():
        again = signal == "previous_gradient"
        made_up: dict[str, Any] = {n: params[n].grad if again else torch.ones_like(params[n]) for n in names}
        optimizer.supply(signal, loss if signal == "loss" else in_form(signal, made_up))
    optimizer.step()


def run(optimizer: Any, model: nn.Module, first: int, last: int, feedback: float = 1.0) -> None:
    """Steps ``first`` to ``last``, counted from 1."""
    params = dict(model.named_parameters())
    seed(first)  # for those that draw random numbers in a step
    for step in range(first, last + 1):
        feed(params, step, feedback)
        step_with_signals(optimizer, params)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def largest(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest absolute difference of two lists of tensors; NaN beside NaN is no difference."""
    return max((x.double() - y.double()).nan_to_num(0.0).abs().max().item() for x, y in zip(a, b, strict=True))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
