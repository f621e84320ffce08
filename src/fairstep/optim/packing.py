"""Indivisible pieces of work packed onto ranks, so that the busiest rank has little more than the mean.

The dearest first, each to the rank with the least so far (R. Graham, SIAM J. Appl. Math. 17, 1969); then, as long as
that helps, the busiest rank gives a piece to another or swaps it for a cheaper one. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

STRICTLY = 1 - 1e-9
"""An exchange must lower the larger of two costs to this share of it, so that rounding cannot go on for ever."""


@dataclass(frozen=True)
class Item:
    """Pieces of one ``name`` go to different ranks."""

    name: str
    cost: float
    state: float


def pack(items: Sequence[Item], ranks: int) -> list[int]:
    """The rank of each item. Needs as many ranks as one name has items."""
    chosen = [0] * len(items)
    costs, states = [0.0] * ranks, [0.0] * ranks
    names: list[set[str]] = [set() for _ in range(ranks)]
    for n in sorted(range(len(items)), key=lambda n: (-items[n].cost, -items[n].state)):
        item = items[n]
        free = (rank for rank in range(ranks) if item.name not in names[rank])
        rank = min(free, key=lambda rank: (costs[rank], states[rank]))
        chosen[n] = rank
        names[rank].add(item.name)
        costs[rank] += item.cost
        states[rank] += item.state
    _exchange(items, chosen, costs)
    return chosen


def least(costs: Sequence[float], ranks: int) -> float:
    """What the busiest rank has at least, however items of these costs are packed.

    For any k, of the k W + 1 dearest items k + 1 are on one of the W ranks, and cost at least what the cheapest of them
    do; and no rank has less than the mean.
    """
    dearest = [0.0, *accumulate(sorted(costs, reverse=True))]
    bounds = [dearest[k * ranks + 1] - dearest[k * ranks - k] for k in range((len(costs) - 1) // ranks + 1)]
    return max([dearest[-1] / ranks, *bounds])


def _exchange(items: Sequence[Item], chosen: list[int], costs: list[float]) -> None:
    """Moves and swaps between the busiest rank and any other, each time the best one, until none helps."""
    on: list[list[int]] = [[] for _ in costs]
    for n, rank in enumerate(chosen):
        on[rank].append(n)
    for _ in items:  # far more than are ever needed
        busiest = max(range(len(costs)), key=costs.__getitem__)
        best, found = costs[busiest] * STRICTLY, None
        for other in range(len(costs)):
            if costs[other] >= best:
                continue
            room = best - costs[other]  # of the two new costs both must be lower
            for n in _kinds(items, on[busiest]):
                for m in (None, *_kinds(items, on[other])):
                    change = items[n].cost - (0.0 if m is None else items[m].cost)
                    after = max(costs[busiest] - change, costs[other] + change)
                    if 0 < change < room and after < best and _fits(items, n, m, on[busiest], on[other]):
                        best, found, room = after, (other, n, m, change), after - costs[other]
        if found is None:
            return
        other, n, m, change = found
        for item, old, new in ((n, busiest, other), (m, other, busiest)):
            if item is not None:
                on[old].remove(item)
                on[new].append(item)
                chosen[item] = new
        costs[busiest] -= change
        costs[other] += change


def _kinds(items: Sequence[Item], members: Sequence[int]) -> list[int]:
    """One member of each cost."""
    return list({items[n].cost: n for n in members}.values())


def _fits(items: Sequence[Item], n: int, m: int | None, busiest: Sequence[int], other: Sequence[int]) -> bool:
    """Whether no rank would have two pieces of one name."""
    coming = items[n].name not in {items[k].name for k in other if k != m}
    return coming and (m is None or items[m].name not in {items[k].name for k in busiest if k != n})
