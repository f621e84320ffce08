"""The cost of one parameter's step, and the pieces into which ranks may divide it.

The rule decides what can be divided:

    elements    of an elementwise rule                   anywhere
    experts     of a stack (e, o, i)                     between experts
    rows        where a rule has ``row_sharding``        between blocks of rows, over all ranks
    whole       any other, such as Newton-Schulz         not at all

This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any, Literal

from fairstep.optim.rule import DECOMPOSITION, ELEMENTWISE, Context, Hyper, RowSharding, Rule, call
from fairstep.optim.splits import SPLITS, part_runs

Kind = Literal["elements", "experts", "rows", "whole"]


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of a parameter's ``rows``: elements of elementwise rules, else the first dimension."""

    start: int
    stop: int
    rows: int

    @property
    def whole(self) -> bool:
        return self.stop - self.start == self.rows


@dataclass(frozen=True)
class StepCost:
    """The step of one parameter with ``rows`` rows, which may be divided at multiples of ``unit``.

    ``cost``: in matrix-product FLOPs. ``state``: in floats. A rank with some of the rows also has all of
    ``repeated_cost`` and ``repeated_state``, and adds up ``sums`` floats with the others. ``flops``: the rule's count.
    """

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

    @classmethod
    def of(cls, name: str, rule: Rule, role: str, shape: Sequence[int], hyper: Hyper) -> StepCost:
        """``hyper``: of the parameter's group, as the rule reads it."""
        kind: Kind
        splits = 1 if rule.elementwise else hyper.get(SPLITS, 1)
        if rule.elementwise:
            o, i = prod(shape), 1
            kind, rows, count = "elements", o, 1
        elif role == "expert":
            rows, o, i = shape
            kind, count = "experts", rows
        else:
            o, i = (prod(shape), 1) if role == "vector" or not shape else (shape[0], prod(shape[1:]))
            kind, rows, count = "whole", o, 1
        context = Context(hyper)
        sizes = [(run.parts * count, run.rows // run.parts) for run in part_runs(splits, o)]
        step, state, flops = (
            sum(times * one(part) for times, part in sizes)
            for one in (
                lambda part: cost(rule, part, i, hyper),
                lambda part: call(rule.state_floats, context, part, i),
                lambda part: call(rule.flops, context, part, i),
            )
        )
        whole = cls(name, kind, rows, step, state, flops=flops)
        divided = row_sharding(rule, role, shape, hyper)
        if divided is None:
            return replace(whole, unit=o) if kind == "whole" else whole
        return replace(
            whole,
            kind="rows",
            unit=divided.unit,
            repeated_cost=divided.cost,
            repeated_state=divided.state,
            sums=divided.sums,
        )

    def named(self, name: str) -> StepCost:
        """The same step of another parameter."""
        return StepCost(name, *self._numbers)

    @cached_property
    def _numbers(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))[1:]

    @cached_property
    def divisible(self) -> tuple[float, float]:
        """(cost, floats of state) that pieces have in proportion to their rows."""
        return self.cost - self.repeated_cost, self.state - self.repeated_state

    def load(self, piece: Piece) -> tuple[float, float]:
        """(cost, floats of state) of a rank that has this piece."""
        share = (piece.stop - piece.start) / piece.rows
        cost, state = self.divisible
        return self.repeated_cost + cost * share, self.repeated_state + state * share


def cost(rule: Rule, o: int, i: int, hyper: Hyper) -> float:
    """The time of a step on an o x i matrix, in matrix-product FLOPs; ranks are balanced by it."""
    context = Context(hyper)
    products, decompositions = (
        call(method, context, o, i) for method in (rule.product_flops, rule.decomposition_flops)
    )
    elementwise = call(rule.flops, context, o, i) - products - decompositions
    return products + DECOMPOSITION * decompositions + ELEMENTWISE * elementwise


def row_sharding(rule: Rule, role: str, shape: Sequence[int], hyper: Hyper) -> RowSharding | None:
    """How the rows of a parameter may be divided; None: not at all, as where parts of it are matrices of their own."""
    if rule.elementwise or role in ("expert", "vector") or len(shape) < 2 or hyper.get(SPLITS, 1) != 1:
        return None
    o, i = shape[0], prod(shape[1:])
    rows = call(rule.row_sharding, Context(hyper), o, i)
    if rows is None or o % rows.unit:
        return None
    return rows if rows.sums <= o * i else None  # larger sums over all ranks do not pay


Ownership = tuple[Mapping[str, Piece], ...]
"""For each rank, its piece of every parameter of which it has one."""


def totals(works: Iterable[StepCost], ownership: Sequence[Mapping[str, Piece]]) -> list[tuple[float, float]]:
    """(cost, floats of state) of every rank."""
    by_name = {work.name: work for work in works}
    loads = []
    for pieces in ownership:
        shares = [by_name[name].load(piece) for name, piece in pieces.items()]
        loads.append((sum(cost for cost, _ in shares), sum(state for _, state in shares)))
    return loads


def summed_floats(works: Iterable[StepCost], ownership: Ownership) -> float:
    """Floats that a rank adds up with others inside the updates of a step, for matrices whose rows they share; the
    largest of any rank."""
    by_name = {work.name: work for work in works}
    return max(sum(by_name[name].sums for name, piece in owned.items() if not piece.whole) for owned in ownership)
