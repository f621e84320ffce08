"""Who steps what: the parameters of a model divided over ranks, so that optimizer work and state are shared.

What can be divided is decided by the rule:

    elements    of an elementwise rule              anywhere
    experts     of a stack (e, o, i)                between experts
    rows        where a rule has ``rows_apart``     between blocks of rows; done to tensors that are large for a rank
    whole       any other: Newton-Schulz, QR and Kronecker factors need the whole matrix

Matrices and experts are packed by cost (``packing``). Rows that cost something then level the cost of the ranks,
other rows and elements their state. The result depends on shapes and on the number of ranks. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, prod
from typing import Literal

from fairstep.optim.packing import Item, least, pack
from fairstep.optim.rule import DECOMPOSITION, ELEMENTWISE, Apart, Hyper, Rule

LARGE = 1 / 3
"""Share of a rank's mean state or cost from which on a tensor with rows apart is divided: its pieces exchange sums."""

LEVEL = 1 / 20
"""Share of a rank's mean cost from which on a tensor's rows level the ranks' cost, below it their state."""

CHUNK = 1 / 8
"""Share of a rank's mean cost that a chunk of experts may have."""


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
class Work:
    """The step of one parameter: ``cost`` and ``state`` in floats of all its ``rows``, which may be divided at
    multiples of ``unit``. Each rank that has some of divided rows has all of ``repeated_cost`` and of
    ``repeated_state``, and adds up ``sums`` floats with the others. ``flops``: as the rule counts them."""

    name: str
    kind: Literal["elements", "experts", "rows", "whole"]
    rows: int
    cost: float
    state: float
    unit: int = 1
    repeated_cost: float = 0.0
    repeated_state: float = 0.0
    sums: float = 0.0
    flops: float = 0.0

    @classmethod
    def of(cls, name: str, rule: Rule, role: str, shape: Sequence[int], hyper: Hyper) -> Work:
        """``hyper``: of the parameter's group, as the rule reads it."""
        kind: Literal["elements", "experts", "rows", "whole"]
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
            kind="rows",
            unit=divided.unit,
            repeated_cost=divided.cost,
            repeated_state=divided.state,
            sums=divided.sums,
        )

    def load(self, piece: Piece) -> tuple[float, float]:
        """(cost, floats of state) of a rank that has this piece."""
        share = (piece.stop - piece.start) / piece.rows
        cost = self.repeated_cost + (self.cost - self.repeated_cost) * share
        return cost, self.repeated_state + (self.state - self.repeated_state) * share


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
    return rows if rows and o % rows.unit == 0 and rows.sums <= o * i else None  # larger sums than that do not pay


Ownership = tuple[Mapping[str, Piece], ...]
"""For each rank, its piece of every parameter of which it has one."""


def divide(works: Sequence[Work], ranks: int) -> Ownership:
    """Every row of every parameter to exactly one rank, in one piece per parameter and rank.

    Where there are more ranks than pieces, some ranks have no work.
    """
    pieces, rows, elements = _sorted(works, ranks)
    owned: list[dict[str, Piece]] = [{} for _ in range(ranks)]
    items = [Item(work.name, *work.load(piece)) for work, piece in pieces]
    for (work, piece), rank in zip(pieces, pack(items, ranks), strict=True):
        owned[rank][work.name] = piece
    level = LEVEL * sum(work.cost for work in works) / ranks
    dear, cheap = [w for w in rows if w.cost > level], [w for w in rows if w.cost <= level]
    costs = [cost for cost, _ in totals(works, owned)]
    divisible = [work.cost - work.repeated_cost for work in dear]
    _divide_rows(dear, divisible, _fill(costs, sum(divisible)), owned)
    states = [state for _, state in totals(works, owned)]
    divisible = [work.state - work.repeated_state for work in cheap]
    quotas = _fill(states, sum(divisible) + sum(work.state for work in elements))
    _divide_rows(cheap, divisible, quotas, owned)
    _divide_elements(elements, quotas, owned)
    return tuple(owned)


def least_cost(works: Sequence[Work], ranks: int) -> float:
    """What the busiest rank must have at least, because some pieces are indivisible."""
    pieces, rows, elements = _sorted(works, ranks)
    rest = sum(work.cost + (ranks - 1) * work.repeated_cost for work in (*rows, *elements))
    costs = [work.load(piece)[0] for work, piece in pieces]
    return max((sum(costs) + rest) / ranks, least(costs, ranks) + sum(work.repeated_cost for work in rows))


def summed_floats(works: Sequence[Work], ownership: Ownership) -> float:
    """Floats that are added up over all ranks inside the updates of a step, for matrices whose rows they share."""
    by_name = {work.name: work for work in works}
    return sum(by_name[name].sums for name, piece in ownership[0].items() if not piece.whole)


def _sorted(works: Sequence[Work], ranks: int) -> tuple[list[tuple[Work, Piece]], list[Work], list[Work]]:
    """(pieces that stay whole, works divided by rows, works divided by elements)."""
    mean_cost = sum(work.cost for work in works) / ranks
    mean_state = sum(work.state for work in works) / ranks
    pieces: list[tuple[Work, Piece]] = []
    rows: list[Work] = []
    elements: list[Work] = []
    for work in works:
        large = work.state > LARGE * mean_state or work.cost > LARGE * mean_cost
        if work.kind == "elements":
            elements.append(work)
        elif work.kind == "rows" and large and work.rows // work.unit >= ranks > 1:
            rows.append(work)
        else:
            chunks = 1
            if work.kind == "experts" and work.cost:
                chunks = min(work.rows, ranks, ceil(work.cost / (CHUNK * mean_cost)))
            edges = [work.rows * n // chunks for n in range(chunks + 1)]
            pieces += [(work, Piece(start, stop, work.rows)) for start, stop in pairwise(edges)]
    return pieces, rows, elements


def shard(rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """First row and the one behind the last of a rank's shard, as FSDP2 and ``torch.chunk`` divide a tensor."""
    length = ceil(rows / ranks)
    return min(rank * length, rows), min((rank + 1) * length, rows)


def divide_shards(
    works: Sequence[Work], shapes: Mapping[str, Sequence[int]], ranks: int
) -> tuple[Ownership, frozenset[str]]:
    """Ownership where each rank has a shard of every parameter: the shards, wherever a rule can step them apart.

    The parameters named in the second result are divided as ``divide`` does, so that shards must travel to owners.
    """
    kept: list[dict[str, Piece]] = [{} for _ in range(ranks)]
    others: list[Work] = []
    for work in works:
        length = shapes[work.name][0]
        shards = [shard(length, rank, ranks) for rank in range(ranks)]
        scale = work.rows // length  # elements of a row, or 1
        apart = work.kind == "elements" or (work.kind == "experts" and length >= ranks)
        if work.kind == "rows":  # its sums need all ranks, and blocks of rows must stay together
            apart = all(start < stop and start * scale % work.unit == 0 for start, stop in shards)
        if not apart:
            others.append(work)
            continue
        for rank, (start, stop) in enumerate(shards):
            if start < stop:
                kept[rank][work.name] = Piece(start * scale, stop * scale, work.rows)
    rest = divide(others, ranks) if others else ({},) * ranks
    return tuple({**a, **b} for a, b in zip(kept, rest, strict=True)), frozenset(work.name for work in others)


def _fill(levels: Sequence[float], amount: float) -> list[float]:
    """How much each rank gets so that the lowest levels rise together."""
    order = sorted(levels)
    surface = order[0]
    for count, level in enumerate(order, 1):
        ceiling = order[count] if count < len(order) else float("inf")
        needed = (ceiling - level) * count
        if needed >= amount:
            surface = level + amount / count
            break
        amount -= needed
    return [max(0.0, surface - level) for level in levels]


def _divide_rows(
    works: Sequence[Work], amounts: Sequence[float], quotas: list[float], owned: list[dict[str, Piece]]
) -> None:
    """In proportion to the quotas, of which all rows together take ``amounts``, and at least one block each: all ranks
    take part in the sums."""
    for work, amount in zip(works, amounts, strict=True):
        units, total = work.rows // work.unit, sum(quotas)
        spare = units - len(quotas)
        passed, start = 0.0, 0
        for rank, quota in enumerate(quotas):
            passed += quota / total if total else 1 / len(quotas)
            stop = work.rows if rank == len(quotas) - 1 else (rank + 1 + round(spare * passed)) * work.unit
            owned[rank][work.name] = Piece(start, stop, work.rows)
            quotas[rank] = max(0.0, quota - amount * (stop - start) / work.rows)
            start = stop


def _divide_elements(works: Sequence[Work], quotas: list[float], owned: list[dict[str, Piece]]) -> None:
    """One after another: each rank takes what its quota has room for, the last rank with a quota what is left."""
    takers = [rank for rank, quota in enumerate(quotas) if quota > 0] or [0]
    place = 0
    room = quotas[takers[0]]
    for work in works:
        start = 0
        density = work.state / work.rows
        while start < work.rows:
            last = place == len(takers) - 1
            fits = work.rows - start if last or not density else min(work.rows - start, round(room / density))
            if fits:
                owned[takers[place]][work.name] = Piece(start, start + fits, work.rows)
                room -= fits * density
                start += fits
            if start < work.rows:
                place += 1
                room = quotas[takers[place]]


def totals(works: Sequence[Work], ownership: Sequence[Mapping[str, Piece]]) -> list[tuple[float, float]]:
    """(cost, floats of state) of every rank."""
    by_name = {work.name: work for work in works}
    loads = []
    for pieces in ownership:
        shares = [by_name[name].load(piece) for name, piece in pieces.items()]
        loads.append((sum(cost for cost, _ in shares), sum(state for _, state in shares)))
    return loads
