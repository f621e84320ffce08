"""Matrices whose rows all ranks share: what looks across rows.

A rule that may be divided so (``Rule.rows_apart``) is given this rank's rows as if they were the matrix. What looks
across rows it asks here, with the hyperparameters that it was called with; where this rank has all rows, it is the
plain operation. All ranks ask the same in the same order. This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fairstep.optim._lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Total(Protocol):
    """Adds a tensor up over the ranks that share the optimizer's work, or finds the largest of each element."""

    def __call__(self, part: Tensor, largest: bool = False, /) -> Tensor: ...


@dataclass(frozen=True)
class Across:
    """This rank has the rows from ``start`` on of a matrix of ``rows``; in hyperparameters as "across_ranks"."""

    start: int
    rows: int
    total: Total


def of(hyper: Mapping[str, Any]) -> Across | None:
    """Which rows this rank has; None: all."""
    across: Across | None = hyper.get("across_ranks")
    return across


def total(part: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """A sum over this rank's rows, as the sum over all rows."""
    across = of(hyper)
    return across.total(part.contiguous()) if across else part


def largest(part: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """A maximum over this rank's rows, as the maximum over all rows."""
    across = of(hyper)
    return across.total(part.contiguous(), True) if across else part


def rows(own: int, hyper: Mapping[str, Any]) -> int:
    """Rows of the whole matrix, of which this rank has its own."""
    across = of(hyper)
    return across.rows if across else own


def mean(x: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """Mean of all elements of each matrix, (s, 1, 1)."""
    across = of(hyper)
    if not across:
        return x.mean((-2, -1), keepdim=True)
    return total(x.sum((-2, -1), keepdim=True), hyper).div_(across.rows * x.shape[-1])


def norm(x: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """Frobenius norm of each matrix, (s, 1, 1)."""
    if not of(hyper):
        return torch.linalg.matrix_norm(x, keepdim=True)
    return total(x.square().sum((-2, -1), keepdim=True), hyper).sqrt_()
