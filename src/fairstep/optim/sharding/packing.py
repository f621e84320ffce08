"""Indivisible pieces of work packed onto ranks, so that the busiest rank has little more than the mean.

The dearest piece comes first, and each goes to the rank with the least work so far. The busiest rank then has at most
4/3 of the best possible (R. Graham, SIAM J. Appl. Math. 17, 1969). Exchanges between ranks afterwards gained 1.3 % in
one of 480 cases and nothing in the others (docs/log.md). This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


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
    return chosen


def least(costs: Sequence[float], ranks: int) -> float:
    """A lower bound of the busiest rank's cost, however items of these costs are packed.

    The busiest rank has at least the mean. And for any k, one of the W ranks has k + 1 of the k W + 1 dearest items,
    which cost at least as much as the k + 1 cheapest among these.
    """
    dearest = [0.0, *accumulate(sorted(costs, reverse=True))]
    bounds = [dearest[k * ranks + 1] - dearest[k * ranks - k] for k in range((len(costs) - 1) // ranks + 1)]
    return max([dearest[-1] / ranks, *bounds])
