"""Matrices whose rows several ranks share: what looks across rows.

A rule that may be divided so (``Rule.rows_apart``) is given this rank's rows as if they were the matrix. What looks
across rows it asks here, with the hyperparameters that it was called with; where this rank has all rows, it is the
plain operation. All ranks that share ask the same in the same order. This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from fairstep.optim._lazy import torch
from fairstep.optim.work import Team

if TYPE_CHECKING:
    from torch import Tensor


class Total(Protocol):
    """Adds a tensor up over the ranks that share the optimizer's work, or finds the largest of each element."""

    def __call__(self, part: Tensor, largest: bool = False, /) -> Tensor: ...


class Mates(Protocol):
    """The ranks of this one's team."""

    def total(self, part: Tensor, largest: bool = False, /) -> Tensor: ...

    def give(self, tensor: Tensor, place: int, /) -> None:
        """On every rank of the team, in place, the contiguous tensor of the one at this place."""

    def bring(self, part: Tensor, place: int, /) -> None:
        """On the rank at this place, in place, the sum of the team's contiguous tensors; on others anything."""


@dataclass(frozen=True)
class Across:
    """This rank has the rows from ``start`` on of a matrix of ``rows``; in hyperparameters as "across_ranks".

    ``team`` and ``mates``, if few ranks have the others: then a rule takes its step in ``phases``.
    """

    start: int
    rows: int
    total: Total
    team: Team | None = None
    mates: Mates | None = None


def of(hyper: Mapping[str, Any]) -> Across | None:
    """Which rows this rank has; None: all."""
    across: Across | None = hyper.get("across_ranks")
    return across


def in_team(hyper: Mapping[str, Any]) -> bool:
    """Whether few ranks have the rows."""
    across = of(hyper)
    return across is not None and across.team is not None


def alone(hyper: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hyperparameters for what is done to a ``whole`` matrix."""
    return {name: value for name, value in hyper.items() if name != "across_ranks"} if in_team(hyper) else hyper


def keeps(hyper: Mapping[str, Any], number: int) -> bool:
    """Whether this rank does that of what one rank of a team does for all (``Apart.kept``)."""
    across = of(hyper)
    return across is None or across.team is None or across.team.keeps(across.start, number)


def give(tensors: Iterable[Tensor], hyper: Mapping[str, Any], number: int) -> None:
    """Tensors as the rank of a team has them that keeps this, in place."""
    across = of(hyper)
    if across and across.team and across.mates:
        for tensor in tensors:
            across.mates.give(tensor, across.team.keepers[number])


def whole(own: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """All rows (1, o, n), of which each rank of a team has its own; what it has if it is in no team."""
    across = of(hyper)
    if not (across and across.team and across.mates):
        return own
    found = own.new_empty(len(own), across.rows, own.shape[-1])
    found[:, across.start : across.start + own.shape[-2]] = own
    for place, (first, last) in enumerate(pairwise(across.team.edges)):
        across.mates.give(found[:, first:last], place)
    return found


def own(whole: Tensor, hyper: Mapping[str, Any], dim: int = -2) -> Tensor:
    """This rank's rows of all, or as many of another dimension; everything if it is in no team."""
    across = of(hyper)
    if not (across and across.team):
        return whole
    last = across.team.edges[across.team.edges.index(across.start) + 1]
    first, last = (edge * whole.shape[dim] // across.rows for edge in (across.start, last))
    return whole.narrow(dim, first, last - first)


def summed(part: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """The sum over a team of what each rank adds to the whole matrix; in no team, the tensor."""
    return total(part, hyper) if in_team(hyper) else part


def own_sum(part: Tensor, hyper: Mapping[str, Any]) -> Tensor:
    """This rank's rows of that sum, (1, o, i) in and fewer rows out."""
    across = of(hyper)
    if not (across and across.team and across.mates):
        return part
    part = part.contiguous()
    for place, (first, last) in enumerate(pairwise(across.team.edges)):
        across.mates.bring(part[:, first:last], place)
    return own(part, hyper)


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
