"""Sign and clipping by element that hide no divergence. This file does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, in new memory; NaN where x is not finite.

    ``torch.sign(nan)`` is 0: a momentum that became NaN would stop its weights for good, and look like convergence.
    """
    return x.sign().add_(x, alpha=0)


def clipped(x: Tensor, limit: float) -> Tensor:
    """x within -limit and limit, in new memory; NaN where x is not finite, which ``torch.clamp`` makes the limit."""
    return x.clamp(-limit, limit).add_(x, alpha=0)
