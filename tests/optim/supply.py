"""Optimizers that are supplied with noise for every signal that is due, whatever it is: for tests of all optimizers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairstep import optim
from fairstep.optim.engine.signals import BY_HEAD, NUMBERS

KINDS_OF_STATE = ("adamw", "muon", "soap", "kron", "adam-mini", "prodigy", "scion", "schedule-free-plus", "muon-8bit")
"""Of elements, matrices, factors, triangular factors, rows, all parameters, nothing but momentum, further
weights, and bytes: what is done with others is the same."""


def noise(signal: str, name: str, step: int, shape: torch.Size) -> Tensor:
    """The same for the same arguments, in float64."""
    generator = torch.Generator().manual_seed(hash_of(signal, name, step))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def logits(name: str, step: int, shape: torch.Size) -> Tensor:
    """The largest ones of two heads, around QK-clip's threshold; of one where rows are odd."""
    return 100 + 20 * noise("attention_logits", name, step, torch.Size([2 - shape[0] % 2]))


def hash_of(*words: object) -> int:
    return int.from_bytes(repr(words).encode()) % (2**61 - 1)  # hash() of words differs from process to process


def supplied(optimizer: Any) -> Any:
    """The optimizer, which from now on gets its signals right before each step (torch's own hook)."""

    def supply(optimizer: Any, *_: Any) -> None:
        parameters = dict(optimizer.named_parameters())
        for signal, names in optimizer.due().items():
            steps = {name: optimizer.state[parameters[name]].get("step", 0) for name in names}
            if signal in NUMBERS:
                optimizer.supply(signal, 1 + noise(signal, "", max(steps.values()), torch.Size([1])).abs())
            elif signal in BY_HEAD:
                optimizer.supply(signal, {n: logits(n, steps[n], parameters[n].shape) for n in names})
            else:
                optimizer.supply(signal, {n: noise(signal, n, steps[n], parameters[n].shape) for n in names})

    optimizer.register_step_pre_hook(supply)
    return optimizer


def build(name: str, params: Any, **settings: Any) -> Any:
    """``fairstep.optim.build``, supplied."""
    return supplied(optim.build(name, params, **settings))
