"""Who steps what: the parameters of a model divided over ranks, so that they share the optimizer's work and state.

Whole matrices and experts are packed by cost (``packing``). Costly divisible rows then level the cost of the ranks.
Cheap rows and elements level their state. The busiest rank may exceed the mean by the cost of the dearest whole matrix
(``least_cost``). The result depends on shapes and on the number of ranks only. This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, inf

from fairstep.optim.sharding.packing import Item, least, pack
from fairstep.optim.sharding.step_cost import Ownership, Piece, StepCost, totals

AIM = 1 / 10
"""Share of the mean cost. A rank that is about so far above the mean gets no divisible state on top."""

LARGE = 1 / 3
"""Share of a rank's mean state or cost from which on a matrix with divisible rows is divided: its pieces exchange
sums."""

LEVEL = 1 / 20
"""Share of a rank's mean cost. Rows of a matrix that costs more level the ranks' cost, others level their state."""

CHUNK = 1 / 8
"""Largest cost of a chunk of experts, as a share of a rank's mean cost."""


def divide(works: Sequence[StepCost], ranks: int) -> Ownership:
    """Every row of every parameter to exactly one rank, in one piece per parameter and rank.

    Where there are more ranks than pieces, some ranks have no work.
    """
    if ranks == 1:  # what most plans ask for, and nothing is to be weighed
        ordered = sorted(works, key=lambda work: work.kind == "elements")
        return ({work.name: Piece(0, work.rows, work.rows) for work in ordered if work.rows},)
    pieces, rows, elements = _sorted(works, ranks)
    owned: list[dict[str, Piece]] = [{} for _ in range(ranks)]
    places = pack([Item(work.name, *work.load(piece)) for work, piece in pieces], ranks)
    for (work, piece), rank in zip(pieces, places, strict=True):
        owned[rank][work.name] = piece
    mean = sum(work.cost for work in works) / ranks
    dear, cheap = [w for w in rows if w.cost > LEVEL * mean], [w for w in rows if w.cost <= LEVEL * mean]
    amounts = [work.divisible[0] for work in dear]
    _divide_rows(dear, amounts, _fill([cost for cost, _ in totals(works, owned)], sum(amounts)), owned)
    amounts = [work.divisible[1] for work in cheap]
    levels = [state if cost <= (1 + 0.9 * AIM) * mean else inf for cost, state in totals(works, owned)]
    quotas = _fill(levels, sum(amounts) + sum(work.state for work in elements))
    _divide_rows(cheap, amounts, quotas, owned)
    _divide_elements(elements, quotas, owned)
    return tuple(owned)


def least_cost(works: Sequence[StepCost], ranks: int) -> float:
    """The least cost of the busiest rank, in matrix-product FLOPs, given that some pieces are indivisible."""
    pieces, rows, elements = _sorted(works, ranks)
    rest = sum(work.cost + (ranks - 1) * work.repeated_cost for work in (*rows, *elements))
    costs = [work.load(piece)[0] for work, piece in pieces]
    return max((sum(costs) + rest) / ranks, least(costs, ranks) + sum(work.repeated_cost for work in rows))


def _sorted(
    works: Sequence[StepCost], ranks: int
) -> tuple[list[tuple[StepCost, Piece]], list[StepCost], list[StepCost]]:
    """(pieces that stay whole, works divided by rows, works divided by elements)."""
    mean_cost = sum(work.cost for work in works) / ranks
    mean_state = sum(work.state for work in works) / ranks
    pieces: list[tuple[StepCost, Piece]] = []
    rows: list[StepCost] = []
    elements: list[StepCost] = []
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
    """(first row, last row + 1) of a rank's shard, as FSDP2 and ``torch.chunk`` divide a tensor."""
    length = ceil(rows / ranks)
    return min(rank * length, rows), min((rank + 1) * length, rows)


def divide_shards(
    works: Sequence[StepCost], shapes: Mapping[str, Sequence[int]], ranks: int
) -> tuple[Ownership, frozenset[str]]:
    """Ownership where each rank has a shard of every parameter: the shards, wherever a rule can step them apart.

    The parameters named in the second result are divided as ``divide`` does, so that shards must travel to owners.
    """
    if ranks == 1:
        return divide(works, 1), frozenset()
    kept: list[dict[str, Piece]] = [{} for _ in range(ranks)]
    others: list[StepCost] = []
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
        ceiling = order[count] if count < len(order) else inf
        needed = (ceiling - level) * count
        if needed >= amount:
            surface = level + amount / count
            break
        amount -= needed
    return [max(0.0, surface - level) for level in levels]


def _divide_rows(
    works: Sequence[StepCost], amounts: Sequence[float], quotas: list[float], owned: list[dict[str, Piece]]
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


def _divide_elements(works: Sequence[StepCost], quotas: list[float], owned: list[dict[str, Piece]]) -> None:
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
