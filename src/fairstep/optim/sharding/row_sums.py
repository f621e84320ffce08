"""Sums, norms and counts over all rows of a matrix of which each rank has some.

A rule with a ``row_sharding`` sees only this rank's rows. For anything that needs all rows (a norm, a Gram matrix) it
calls the functions below with its ``context.rows``, and they add up over ranks. Without a ``RowShard`` each is the
plain operation. All ranks must call the same functions in the same order. This file does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.rule import RowShard

if TYPE_CHECKING:
    from torch import Tensor


def total(part: Tensor, shard: RowShard | None) -> Tensor:
    """The sum over all rows, from the sum over this rank's rows."""
    return shard.total(part.contiguous()) if shard else part


def largest(part: Tensor, shard: RowShard | None) -> Tensor:
    """The maximum over all rows, from the maximum over this rank's rows."""
    return shard.total(part.contiguous(), True) if shard else part


def row_count(present: int, shard: RowShard | None) -> int:
    """Rows of the whole matrix, of which ``present`` are on this rank."""
    return shard.rows if shard else present


def mean(x: Tensor, shard: RowShard | None) -> Tensor:
    """Mean of all elements of each matrix of a stack (s, o, i), as (s, 1, 1)."""
    if not shard:
        return x.mean((-2, -1), keepdim=True)
    return total(x.sum((-2, -1), keepdim=True), shard).div_(shard.rows * x.shape[-1])


def norm(x: Tensor, shard: RowShard | None) -> Tensor:
    """Frobenius norm of each matrix of a stack (s, o, i), as (s, 1, 1)."""
    if not shard:
        return torch.linalg.matrix_norm(x, keepdim=True)
    return total(x.square().sum((-2, -1), keepdim=True), shard).sqrt_()
