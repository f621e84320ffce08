"""Where arithmetic must not be narrower than float32: scores, norms, rotations, logits."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where the model is: checks in float64 shall not be rounded on the way."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
