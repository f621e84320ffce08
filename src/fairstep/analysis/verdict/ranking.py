"""A ranking that says which places are ties.

Every two contestants are compared. Holm's step-down rule (Scand. J. Statist. 6, 1979) keeps the probability of *any*
false separation among all pairs at 5 %. A rank is a range: its best end is one more than the number of surely better
contestants, its worst end the number of contestants that are not surely worse.

Groups are the longest runs of neighbours in the order of means in which no two are separated. A contestant may be in
two groups, as in a critical-difference diagram (Demsar, JMLR 7, 2006).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairstep.analysis.statistics import LEVEL, AnalysisError, Key, paired_difference

Losses = Mapping[str, Mapping[Key, float]]
"""Contestant -> seed -> final loss."""


@dataclass(frozen=True)
class Ranked:
    """A contestant's place. ``groups``: numbers, from 1, of its groups; ``best``, ``worst``: the range of its rank."""

    name: str
    value: float
    best: int
    worst: int
    groups: tuple[int, ...]


def rank(losses: Losses, baseline: str = "", decided: Collection[str] = ()) -> list[Ranked]:
    """Contestants by mean final loss, lowest first, from ``separations``. Raises AnalysisError for a contestant without
    losses."""
    apart = separations(losses, baseline, decided)
    return ranking(_means(losses), lambda a, b: (a, b) in apart or (b, a) in apart)


def separations(losses: Losses, baseline: str = "", decided: Collection[str] = ()) -> set[tuple[str, str]]:
    """The pairs (lower, higher) of contestants whose losses are surely not equal; ``losses``: contestant -> seed ->
    nats per token.

    Pairs that share fewer than two seeds cannot be separated. ``decided``: the contestants that a verdict separates
    from ``baseline``; ranks and verdicts then agree, and Holm's rule is for the other pairs. Raises AnalysisError for a
    contestant without losses.
    """
    if any(not runs for runs in losses.values()):
        raise AnalysisError("every contestant of a ranking needs a final loss; leave out those that have none")
    pairs = [pair for pair in itertools.combinations(losses, 2) if baseline not in pair]
    probabilities = _probabilities(losses, pairs)
    found = [pair for pair, wrong in zip(pairs, holm(probabilities), strict=True) if wrong <= 1 - LEVEL]
    means = _means(losses)
    settled = [(baseline, name) for name in decided if {baseline, name} <= losses.keys()]
    ordered = [sorted(pair, key=means.__getitem__) for pair in [*found, *settled]]
    return {(lower, higher) for lower, higher in ordered}


def ranking(values: Mapping[str, float], separated: Callable[[str, str], bool]) -> list[Ranked]:
    """The same from any rule that says which two values are separated, for example by stated uncertainties."""
    order = sorted(values, key=lambda name: values[name])
    surely_better = {
        name: sum(separated(other, name) and values[other] < values[name] for other in order) for name in order
    }
    surely_worse = {
        name: sum(separated(other, name) and values[other] > values[name] for other in order) for name in order
    }
    groups = _groups(order, separated)
    return [
        Ranked(
            name,
            values[name],
            1 + surely_better[name],
            len(order) - surely_worse[name],
            tuple(number for number, group in enumerate(groups, 1) if name in group),
        )
        for name in order
    ]


def holm(probabilities: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: rejecting those at most 5 % errs anywhere in at most 5 %. nan counts as 1."""
    clean = np.nan_to_num(np.asarray(probabilities, dtype=float), nan=1.0)
    order = np.argsort(clean, kind="stable")
    factors = np.arange(clean.size, 0, -1)
    adjusted = np.empty_like(clean)
    adjusted[order] = np.minimum(np.maximum.accumulate(clean[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def _means(losses: Losses) -> dict[str, float]:
    return {name: float(np.mean(list(runs.values()))) for name, runs in losses.items()}


def _groups(order: Sequence[str], separated: Callable[[str, str], bool]) -> list[tuple[str, ...]]:
    groups: list[tuple[str, ...]] = []
    end = 0
    for start in range(len(order)):
        stop = max(start + 1, end)  # what no two of a longer run are, no two of its end are
        while stop < len(order) and not any(separated(order[stop], name) for name in order[start:stop]):
            stop += 1
        if stop > end:
            groups.append(tuple(order[start:stop]))
            end = stop
    return groups


def _probabilities(losses: Losses, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """p-value of each pair; nan where it shares fewer than two seeds. Rivals on the seeds of the first of a pair are
    taken together, since a contest of many contestants has many pairs."""
    from scipy.special import stdtr

    numbers: dict[tuple[Any, ...], int] = {}
    seeds = {name: numbers.setdefault(tuple(runs), len(numbers)) for name, runs in losses.items()}
    values = {name: np.array(list(runs.values())) for name, runs in losses.items()}
    found: dict[tuple[str, str], float] = {}
    for first, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        rivals = [second for _, second in group]
        alike = [name for name in rivals if seeds[name] == seeds[first]]
        others = [name for name in rivals if seeds[name] != seeds[first]]
        found |= {(first, name): _probability(losses[first], losses[name]) for name in others}
        count = len(losses[first])
        if not alike or count < 2:
            found |= dict.fromkeys([(first, name) for name in alike], math.nan)
            continue
        difference = values[first] - np.stack([values[name] for name in alike])  # (rivals, seeds)
        mean, error = difference.mean(1), difference.std(1, ddof=1) / math.sqrt(count)
        with np.errstate(divide="ignore", invalid="ignore"):
            tails = 2 * stdtr(count - 1, -np.abs(mean) / error)
        tails = np.where(error == 0, mean == 0, tails)
        found |= {(first, name): float(tail) for name, tail in zip(alike, tails, strict=True)}
    return [found[pair] for pair in pairs]


def _probability(first: Mapping[Key, float], second: Mapping[Key, float]) -> float:
    try:
        return paired_difference(first, second).probability
    except AnalysisError:
        return math.nan
