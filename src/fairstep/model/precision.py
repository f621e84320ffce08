"""Which dtype arithmetic has: of matrix products, and float32 or wider for scores, norms, rotations and logits."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where the model is: checks in float64 shall not be rounded on the way."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """dtype of the matrix products of x: autocast's where it is on, else the weight's."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
