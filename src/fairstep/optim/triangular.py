"""Products with large triangular and symmetric matrices, without what is zero or known from the other half.

A side is cut into block rows, at most four: an n x n product of two triangular matrices then takes 0.47 of the
operations, one with a triangular factor and a symmetric one 0.63 of them. Below ``LARGE`` the plain product is faster.
This file does not import torch.
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


def shares(n: int) -> tuple[float, float]:
    """Operations of what is made here over those of the plain product: (one triangular factor or symmetric, two)."""
    if n < LARGE:
        return 1.0, 1.0
    rows = [(stop - start, n - start) for start, stop in _blocks(n)]
    return sum(o * k for o, k in rows) / n**2, sum(o * k * k for o, k in rows) / n**3


def multiply(q: Tensor, x: Tensor, transpose: bool = False) -> Tensor:
    """Q x, or Q^T x, of upper triangular Q (s, n, n) and x (s, n, k)."""
    if q.shape[-1] < LARGE:
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
    if q.shape[-1] < LARGE:
        return p @ q
    product = torch.zeros_like(q)
    for start, stop in _blocks(q.shape[-1]):
        torch.bmm(p[:, start:stop, start:], q[:, start:, start:], out=product[:, start:stop, start:])
    return product


def gram(x: Tensor) -> Tensor:
    """x x^T (s, n, n) of x (s, n, k)."""
    if x.shape[-2] < LARGE:
        return x @ x.mT
    product = x.new_empty(len(x), x.shape[-2], x.shape[-2])
    for start, stop in _blocks(x.shape[-2]):
        torch.bmm(x[:, start:stop], x[:, start:].mT, out=product[:, start:stop, start:])
        product[:, stop:, start:stop] = product[:, start:stop, stop:].mT
    return product


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    length = max(SHORTEST, -(-n // BLOCKS))
    for start in range(0, n, length):
        yield start, min(start + length, n)
