"""Products with large triangular and symmetric matrices on a CPU, without what is zero or known from the other half.

A side is cut into at most four block rows. With four, a product of two triangular matrices takes 0.47 of the
operations, and one with a triangular factor or a symmetric result 0.63 of them. Below ``LARGE``, and on accelerators,
which products of few rows do not fill, it is the plain product. This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

LARGE = 512
"""Shortest side that is cut."""
BLOCKS = 4
SHORTEST = 256
"""Rows of a block, at least: products of fewer are slow."""


def multiply(q: Tensor, x: Tensor, transpose: bool = False) -> Tensor:
    """Q x, or Q^T x, of upper triangular Q (s, n, n) and x (s, n, k)."""
    if not _pays(q):
        return (q.mT if transpose else q) @ x
    product = torch.empty_like(x, memory_format=torch.contiguous_format)
    for start, stop in _blocks(q.shape[-1]):
        if transpose:
            torch.bmm(q[:, :stop, start:stop].mT, x[:, :stop], out=product[:, start:stop])
        else:
            torch.bmm(q[:, start:stop, start:], x[:, start:], out=product[:, start:stop])
    return product


def upper_product(p: Tensor, q: Tensor) -> Tensor:
    """P Q of upper triangular matrices (s, n, n)."""
    if not _pays(q):
        return p @ q
    product = torch.zeros_like(q)
    for start, stop in _blocks(q.shape[-1]):
        torch.bmm(p[:, start:stop, start:], q[:, start:, start:], out=product[:, start:stop, start:])
    return product


def gram(x: Tensor, plus: Tensor | None = None, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """x x^T of x (s, n, k), or beta plus + alpha x x^T with a symmetric ``plus`` (s, n, n)."""
    if not _pays(x):
        return x @ x.mT if plus is None else torch.baddbmm(plus, x, x.mT, beta=beta, alpha=alpha)
    product = x.new_empty(len(x), x.shape[-2], x.shape[-2])
    for start, stop in _blocks(x.shape[-2]):
        rows, part = (x[:, start:stop], x[:, start:].mT), product[:, start:stop, start:]
        if plus is None:
            torch.bmm(*rows, out=part)
        else:
            torch.baddbmm(plus[:, start:stop, start:], *rows, beta=beta, alpha=alpha, out=part)
        product[:, stop:, start:stop] = product[:, start:stop, stop:].mT
    return product


def _pays(x: Tensor) -> bool:
    return x.shape[-2] >= LARGE and x.device.type == "cpu"


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    length = max(SHORTEST, -(-n // BLOCKS))
    for start in range(0, n, length):
        yield start, min(start + length, n)
