"""Literal twins, as in ``twins``, of the rules that need more than gradients."""

from __future__ import annotations

import torch
from tests.optim.twins import State
from torch import Tensor


def sophia(
    w: Tensor,
    g: Tensor,
    estimate: Tensor,
    s: State,
    lr: float,
    wd: float,
    b1: float,
    b2: float,
    rho: float,
    eps: float,
    interval: int,
    denominator: str,
    debias: bool,
) -> Tensor:
    """``estimate`` is of the curvature after the last step; only every interval-th is used."""
    t = s.get("t", 0)
    h = s.get("h", torch.zeros_like(w))
    if t and t % interval == 0:
        h = b2 * h + (1 - b2) * estimate
    s["h"], s["t"] = h, t + 1
    s["m"] = b1 * s.get("m", torch.zeros_like(w)) + (1 - b1) * g
    m = s["m"] / (1 - b1 ** (t + 1)) if debias else s["m"]
    u = torch.empty_like(w)
    flat = u.view(-1)
    for index, (a, c) in enumerate(zip(m.flatten().tolist(), h.flatten().tolist(), strict=True)):
        bottom = rho * max(c, 0.0) + eps if denominator == "sum" else max(rho * c, eps)
        flat[index] = max(-1.0, min(1.0, a / bottom))
        s.setdefault("clipped", [0, 0])[int(abs(a / bottom) > 1)] += 1
    return w - lr * (u + wd * w)
