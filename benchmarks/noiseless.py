"""Share of the loss |W - T|^2 / 2 that is left after 200 steps without noise, from W = 0 to a Gaussian 8 x 16 matrix.

python benchmarks/noiseless.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fairstep import optim

BETAS = {"beta2": 0.9, "shampoo_beta": 0.9}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("muon", {}),
    ("soap", {"precondition_frequency": 1, **BETAS}),
    ("soap", {}),
    ("soap-muon", {"precondition_frequency": 1}),
    ("soap-muon", {"precondition_frequency": 1, "shampoo_beta": 0.99}),
    ("soap-muon", {}),
]


def left(name: str, lr: float, **settings: Any) -> float:
    torch.manual_seed(0)
    target = torch.randn(8, 16, dtype=torch.float64)
    w = nn.Parameter(torch.zeros_like(target))
    optimizer = optim.build(name, [("w", w)], roles="matrix", lr=lr, weight_decay=0.0, **settings)
    for _ in range(200):
        w.grad = w.detach() - target
        optimizer.step()
    return ((w.detach() - target).square().sum() / target.square().sum()).item()


def main() -> None:
    for name, settings in CASES:
        shares = ", ".join(f"{lr}: {left(name, lr, **settings):.4f}" for lr in (0.2, 0.05, 0.02))
        print(f"{name:10} {settings}  {shares}")


if __name__ == "__main__":
    main()
