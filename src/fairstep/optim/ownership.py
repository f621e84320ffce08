"""Who steps what: the parameters of a model divided over ranks, so that optimizer work and state are shared.

What can be divided is decided by the rule:

    elements    of an elementwise rule              anywhere
    experts     of a stack (e, o, i)                between experts
    rows        of a rule with ``rows_apart``       between blocks of rows; done to tensors that are large for a rank
    whole       any other: Newton-Schulz, QR and Kronecker factors need the whole matrix

Matrices and experts go to the rank with the least cost so far, the dearest first (cost: the rule's FLOPs for that
shape). Elements and rows then level the state. The result depends on shapes and on the number of ranks. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Literal

from fairstep.optim.rule import Hyper, Rule

LARGE = 1 / 2
"""Share of a rank's mean state from which on a tensor with rows apart is divided: its pieces exchange sums."""

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
    """The step of one parameter: ``cost`` in FLOPs and ``state`` in floats of all its ``rows``, which may be divided at
    multiples of ``unit``."""

    name: str
    kind: Literal["elements", "experts", "rows", "whole"]
    rows: int
    cost: float
    state: float
    unit: int = 1

    @classmethod
    def of(cls, name: str, rule: Rule, role: str, shape: Sequence[int], hyper: Hyper) -> Work:
        """``hyper``: of the parameter's group, as the rule reads it."""
        if rule.elementwise:
            o, i = prod(shape), 1
            return cls(name, "elements", o, rule.flops(o, i, hyper), rule.state_floats(o, i, hyper))
        if role == "expert":
            count, o, i = shape
            return cls(name, "experts", count, count * rule.flops(o, i, hyper), count * rule.state_floats(o, i, hyper))
        o, i = (shape[0], prod(shape[1:])) if shape else (1, 1)
        unit = rule.rows_apart(hyper) if len(shape) > 1 else 0
        divisible = unit > 0 and o % unit == 0
        cost, state = rule.flops(o, i, hyper), rule.state_floats(o, i, hyper)
        return cls(name, "rows" if divisible else "whole", o, cost, state, unit if divisible else o)


Ownership = tuple[Mapping[str, Piece], ...]
"""For each rank, its piece of every parameter of which it has one."""


def divide(works: Sequence[Work], ranks: int) -> Ownership:
    """Every row of every parameter to exactly one rank, in one piece per parameter and rank.

    Where there are more ranks than pieces, some ranks have no work.
    """
    mean_cost = sum(work.cost for work in works) / ranks
    mean_state = sum(work.state for work in works) / ranks
    owned: list[dict[str, Piece]] = [{} for _ in range(ranks)]
    costs, states = [0.0] * ranks, [0.0] * ranks
    whole: list[tuple[float, float, Work, Piece]] = []
    rows: list[Work] = []
    elements: list[Work] = []
    for work in works:
        if work.kind == "elements":
            elements.append(work)
        elif work.kind == "rows" and work.state > LARGE * mean_state and work.rows // work.unit >= ranks > 1:
            rows.append(work)
        else:
            chunks = 1
            if work.kind == "experts" and work.cost:
                chunks = min(work.rows, ranks, ceil(work.cost / (CHUNK * mean_cost)))
            edges = [work.rows * n // chunks for n in range(chunks + 1)]
            for start, stop in pairwise(edges):
                share = (stop - start) / work.rows
                whole.append((work.cost * share, work.state * share, work, Piece(start, stop, work.rows)))
    for cost, state, work, piece in sorted(whole, key=lambda item: (-item[0], -item[1])):
        free = (rank for rank in range(ranks) if work.name not in owned[rank])
        rank = min(free, key=lambda rank: (costs[rank], states[rank]))
        owned[rank][work.name] = piece
        costs[rank] += cost
        states[rank] += state
    quotas = _fill(states, sum(work.state for work in (*rows, *elements)))
    for work in rows:
        _divide_rows(work, quotas, owned)
    _divide_elements(elements, quotas, owned)
    return tuple(owned)


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


def _divide_rows(work: Work, quotas: list[float], owned: list[dict[str, Piece]]) -> None:
    """In proportion to the quotas, and at least one block each: all ranks take part in the sums."""
    units, total = work.rows // work.unit, sum(quotas) or 1.0
    spare = units - len(quotas)
    passed, start = 0.0, 0
    for rank, quota in enumerate(quotas):
        passed += quota
        stop = work.rows if rank == len(quotas) - 1 else (rank + 1 + round(spare * passed / total)) * work.unit
        owned[rank][work.name] = Piece(start, stop, work.rows)
        quotas[rank] = max(0.0, quota - work.state * (stop - start) / work.rows)
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


def totals(works: Sequence[Work], ownership: Ownership) -> list[tuple[float, float]]:
    """(FLOPs, floats of state) of every rank."""
    by_name = {work.name: work for work in works}
    loads = []
    for pieces in ownership:
        shares = [((p.stop - p.start) / p.rows, by_name[name]) for name, p in pieces.items()]
        loads.append((sum(s * work.cost for s, work in shares), sum(s * work.state for s, work in shares)))
    return loads
