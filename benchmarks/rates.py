"""How fast the operations of optimizer steps run beside matrix products, on one thread of this machine's CPU.

    python benchmarks/rates.py

Ranks share an optimizer's work by its time, which is estimated from its FLOPs: QR decompositions, work
between elements, and random numbers count as many FLOPs of a matrix product as this measures (``optim.rule``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

SIDES = (128, 256, 512, 768, 1024, 2048)
ELEMENTS = 2**22
"""Beyond the caches, as the matrices of the models that several ranks train."""


def seconds(operation: Callable[[], object], repeats: int = 3) -> float:
    """The least of some, after one that does not count; processor time of this thread."""
    operation()
    found = []
    for _ in range(repeats):
        began = time.thread_time()
        operation()
        found.append(time.thread_time() - began)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"load average {os.getloadavg()[0]:.2f}")
    rate = 0.0
    for n in SIDES:
        a, noise = torch.randn(n, n), torch.randn(n, 4 * n)
        triangle = torch.randn(n, n).triu() + n * torch.eye(n)
        rate = 2 * n**3 / seconds(lambda a=a: a @ a)  # type: ignore[misc]
        decomposition = 3 * n**3 / seconds(lambda a=a: torch.linalg.qr(a))  # type: ignore[misc]
        solution = 4 * n**3 / seconds(lambda t=triangle, x=noise: torch.linalg.solve_triangular(t, x, upper=True))  # type: ignore[misc]
        print(
            f"side {n:4}: product {rate / 1e9:6.1f} GFLOP/s, QR {rate / decomposition:4.1f} times the time of a FLOP, "
            f"triangular solution {rate / solution:4.1f} times"
        )
    x, y, z = (torch.rand(ELEMENTS) for _ in range(3))

    def adam() -> None:
        """As SOAP has it: 12 FLOPs an element."""
        x.lerp_(y, 0.1)
        z.mul_(0.9).addcmul_(y, y, value=0.1)
        x.div(z.sqrt().add_(1e-8).mul_(1.0))

    for name, flops, operation in (
        ("Adam without a fused kernel, FLOP", 12, adam),
        ("random number", 1, lambda: torch.randn(ELEMENTS)),
    ):
        print(f"{name}: {seconds(operation) / ELEMENTS / flops * rate:5.0f} times")


if __name__ == "__main__":
    main()
