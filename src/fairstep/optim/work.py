"""The step of one parameter as work that ranks may divide: what can be divided, into which pieces, at which cost.

What can be divided is decided by the rule:

    elements    of an elementwise rule                   anywhere
    experts     of a stack (e, o, i)                     between experts
    rows        where a rule has ``rows_apart``          between blocks of rows, over all ranks
    team        where it has it with something ``kept``  between rows, over a few ranks, of which one does what is kept
    whole       any other, such as Newton-Schulz         not at all

No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

from fairstep.optim.rule import DECOMPOSITION, ELEMENTWISE, Apart, Hyper, Kept, Rule

Kind = Literal["elements", "experts", "rows", "team", "whole"]


@dataclass(frozen=True)
class Team:
    """Ranks, from ``first`` on, that share the rows of a matrix, each those from its of the ``edges`` to the next.

    ``keepers``: which of them does each of what is ``Kept``, as its place in the team.
    """

    first: int
    edges: tuple[int, ...]
    keepers: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.edges) - 1

    def keeps(self, start: int, number: int) -> bool:
        """Whether the rank with the rows from ``start`` on does that of what is kept."""
        return self.edges[self.keepers[number]] == start


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of a parameter's ``rows``: elements of elementwise rules, else the first dimension.

    ``team``: who has the other rows of a matrix, if those are few; None: any ranks.
    """

    start: int
    stop: int
    rows: int
    team: Team | None = None

    @property
    def whole(self) -> bool:
        return self.stop - self.start == self.rows

    def keeps(self, number: int) -> bool:
        """Whether who has this does that of what is kept."""
        return self.team is None or self.team.keeps(self.start, number)


@dataclass(frozen=True)
class Work:
    """The step of one parameter: ``cost`` and ``state`` in floats of all its ``rows``, which may be divided at
    multiples of ``unit``. Each rank that has some of divided rows has all of ``repeated_cost`` and of
    ``repeated_state``, and adds up ``sums`` floats with the others; one of a team has each of ``kept``.
    ``flops``: as the rule counts them."""

    name: str
    kind: Kind
    rows: int
    cost: float
    state: float
    unit: int = 1
    repeated_cost: float = 0.0
    repeated_state: float = 0.0
    sums: float = 0.0
    flops: float = 0.0
    kept: tuple[Kept, ...] = ()

    @classmethod
    def of(cls, name: str, rule: Rule, role: str, shape: Sequence[int], hyper: Hyper) -> Work:
        """``hyper``: of the parameter's group, as the rule reads it."""
        kind: Kind
        if rule.elementwise:
            o, i = prod(shape), 1
            kind, rows, count = "elements", o, 1
        elif role == "expert":
            rows, o, i = shape
            kind, count = "experts", rows
        else:
            o, i = (shape[0], prod(shape[1:])) if shape else (1, 1)
            kind, rows, count = "whole", o, 1
        step, state = count * cost(rule, o, i, hyper), count * rule.state_floats(o, i, hyper)
        whole = cls(name, kind, rows, step, state, flops=count * rule.flops(o, i, hyper))
        divided = apart(rule, role, shape, hyper)
        if divided is None:
            return replace(whole, unit=o) if kind == "whole" else whole
        return replace(
            whole,
            kind="team" if divided.kept else "rows",
            unit=divided.unit,
            repeated_cost=divided.cost,
            repeated_state=divided.state,
            sums=divided.sums,
            kept=divided.kept,
        )

    @cached_property
    def divisible(self) -> tuple[float, float]:
        """(cost, floats of state) that pieces have in proportion to their rows."""
        kept_cost, kept_state = (sum(x) for x in zip((0.0, 0), *((k.cost, k.state) for k in self.kept), strict=True))
        return self.cost - self.repeated_cost - kept_cost, self.state - self.repeated_state - kept_state

    def load(self, piece: Piece) -> tuple[float, float]:
        """(cost, floats of state) of a rank that has this piece."""
        share = (piece.stop - piece.start) / piece.rows
        cost, state = self.divisible
        own = [kept for number, kept in enumerate(self.kept) if piece.keeps(number)]
        return (
            self.repeated_cost + cost * share + sum(kept.cost for kept in own),
            self.repeated_state + state * share + sum(kept.state for kept in own),
        )


def cost(rule: Rule, o: int, i: int, hyper: Hyper) -> float:
    """What ranks are balanced by: the time of a step on an o x i matrix, in FLOPs of matrix products."""
    products, decompositions = rule.product_flops(o, i, hyper), rule.decomposition_flops(o, i, hyper)
    elementwise = rule.flops(o, i, hyper) - products - decompositions
    return products + DECOMPOSITION * decompositions + ELEMENTWISE * elementwise


def apart(rule: Rule, role: str, shape: Sequence[int], hyper: Hyper) -> Apart | None:
    """How the rows of a parameter may be divided; None: not at all."""
    if rule.elementwise or role == "expert" or len(shape) < 2:
        return None
    o, i = shape[0], prod(shape[1:])
    rows = rule.rows_apart(o, i, hyper)
    if rows is None or o % rows.unit:
        return None
    return rows if rows.kept or rows.sums <= o * i else None  # larger sums over all ranks do not pay


Ownership = tuple[Mapping[str, Piece], ...]
"""For each rank, its piece of every parameter of which it has one."""


def totals(works: Iterable[Work], ownership: Sequence[Mapping[str, Piece]]) -> list[tuple[float, float]]:
    """(cost, floats of state) of every rank."""
    by_name = {work.name: work for work in works}
    loads = []
    for pieces in ownership:
        shares = [by_name[name].load(piece) for name, piece in pieces.items()]
        loads.append((sum(cost for cost, _ in shares), sum(state for _, state in shares)))
    return loads


def team_size(ownership: Ownership) -> int:
    """Ranks of each team, if there are any; else 1."""
    return max((piece.team.size for pieces in ownership for piece in pieces.values() if piece.team), default=1)


def summed_floats(works: Iterable[Work], ownership: Ownership) -> float:
    """Floats that a rank adds up with others inside the updates of a step, for matrices whose rows they share.

    The largest of any rank; a sum over few ranks counts as much less as a ring of them sends less.
    """
    by_name, ranks = {work.name: work for work in works}, len(ownership)
    around = (ranks - 1) / ranks if ranks > 1 else 1.0

    def floats(name: str, piece: Piece) -> float:
        if piece.whole:
            return 0.0
        return by_name[name].sums * ((piece.team.size - 1) / piece.team.size / around if piece.team else 1.0)

    return max(sum(floats(name, piece) for name, piece in pieces.items()) for pieces in ownership)
