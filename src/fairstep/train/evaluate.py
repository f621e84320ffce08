"""Validation loss on a fixed set of windows, whatever the batch size, at the weights that count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairstep.model.loss import IGNORED
from fairstep.train.ranks.world import ALONE, World

LossFunction = Callable[..., Tensor]
"""(B, T) tokens and targets, and the model if it is not the trained one, to the mean loss."""


@contextmanager
def evaluation_weights(optimizer: Any, changed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """With the weights that the optimizer would hand over in the parameters (averages, schedule-free's x).

    Any torch optimizer: one without ``eval`` and ``train`` has no others than those it trains. ``changed`` is called
    after each change, to bring other ranks' parameters up to date.
    """
    swap = callable(getattr(optimizer, "eval", None)) and callable(getattr(optimizer, "train", None))
    if swap:
        optimizer.eval()
        changed()
    try:
        yield
    finally:
        if swap:
            optimizer.train()
            changed()


def evenly(windows: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the windows at equal distances (all of them if there are no more), for evaluation while training.

    A prefix would be the first documents only. Their loss may differ from all documents' by more than optimizers do.
    """
    count = min(count, len(windows))
    return windows[np.arange(count) * len(windows) // count]


def evaluate(
    loss_function: LossFunction,
    objective: Callable[[np.ndarray, int], tuple[Tensor, Tensor]],
    windows: np.ndarray,
    sequences: int,
    device: torch.device,
    world: World = ALONE,
) -> float:
    """Mean cross-entropy (nats per token) over all windows, ``sequences`` of them at a time, the ranks taking turns.

    The last batch is filled up with windows whose targets do not count, so that every batch has the one shape that
    is compiled; for the same reason gradients stay enabled (a second graph would cost more than it saves). Ranks take
    equally many turns, the last ones perhaps over nothing, because they share weights when these are divided.
    ``objective`` makes inputs and targets of windows and the place of the first.
    """
    total, count = 0.0, 0
    for first in range(0, len(windows), world.size * sequences):
        start = first + world.rank * sequences
        part = windows[start : start + sequences]
        inputs, targets = objective(part if len(part) else windows[:1], start)
        missing = sequences - len(inputs)
        if missing:
            inputs = torch.cat((inputs, inputs[:1].expand(missing, -1)))
            targets = torch.cat((targets, torch.full_like(targets[:1], IGNORED).expand(missing, -1)))
        loss = loss_function(inputs, targets)
        if len(part):
            tokens = len(part) * (windows.shape[1] - 1)
            total += loss.item() * tokens
            count += tokens
    if world.size > 1:
        total, count = world.total(torch.tensor([total, count], device=device, dtype=torch.float64)).tolist()
    return total / count
