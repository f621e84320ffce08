"""Objectives whose optimum, noise and interactions are known: to test certificates, and to foresee a study's trials.

With p_i the place of hyperparameter i along its grid, in steps, and o_i the optimum's place,

    loss = floor + sum_i curvature_i d_i^2 + sum_i<j interaction_ij d_i d_j,   d = p - o

plus normal noise with a common sigma. All runs of a seed share one part of the noise (initialisation and data order);
each run has the other part for itself. A learning rate more than ``cliff`` steps above the optimum diverges. With every
doubling of tokens the optimum moves by ``drift`` steps.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from fairstep.runs import Value
from fairstep.study.protocols.space import Configuration, Space, key


@dataclass(frozen=True)
class Synthetic:
    """``shared`` is the part of the noise's variance that runs of one seed have in common; ``salt`` draws other
    noise."""

    space: Space
    optimum: Mapping[str, float]
    curvature: Mapping[str, float]
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)
    sigma: float = 0.0
    shared: float = 0.5
    cliff: float = math.inf
    floor: float = 3.0
    salt: str = ""
    drift: Mapping[str, float] = field(default_factory=dict)
    _known: dict[tuple[str, Value], float] = field(default_factory=dict, repr=False, compare=False)
    _lengths: dict[float, Synthetic] = field(default_factory=dict, repr=False, compare=False)
    _draw: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def at_length(self, ratio: float) -> Synthetic:
        """The objective of schedules of ``ratio`` times the tokens, with noise of its own."""
        if ratio not in self._lengths:
            doublings, salt = math.log2(ratio), f"{self.salt} {ratio:.6g}"
            moved = {name: place + doublings * self.drift.get(name, 0.0) for name, place in self.optimum.items()}
            self._lengths[ratio] = replace(self, optimum=moved, salt=salt, _known={}, _lengths={})
        return self._lengths[ratio]

    def loss(self, configuration: Configuration) -> float:
        """Without noise; inf where it diverges."""
        away = [self._away((name, configuration[name])) for name in self.optimum]
        if math.isfinite(self.cliff) and "lr" in self.optimum and away[list(self.optimum).index("lr")] > self.cliff:
            return math.inf
        rows = zip(away, self._rows, strict=True)
        return self.floor + sum(d * sum(map(operator.mul, row, away)) for d, row in rows)

    @cached_property
    def _rows(self) -> list[list[float]]:
        """The quadratic form as a matrix: curvatures on the diagonal, interactions above it."""
        names = list(self.optimum)
        pairs = {(name, name): value for name, value in self.curvature.items()} | dict(self.interactions)
        return [[pairs.get((a, b), 0.0) for b in names] for a in names]

    def _away(self, place: tuple[str, Value]) -> float:
        """Steps from the optimum along one hyperparameter."""
        if place not in self._known:
            name, value = place
            self._known[place] = self.space.axes[name].position(value) - self.optimum[name]
        return self._known[place]

    def run(self, configuration: Configuration, seed: int) -> float:
        """With the noise of one run: the same for the same configuration and seed."""
        loss = self.loss(configuration)
        if not self.sigma:
            return loss
        common = self._normal(f"{self.salt} {seed}") if self.shared else 0.0
        alone = self._normal(f"{self.salt} {seed} {key(configuration)}")
        return loss + self.sigma * (math.sqrt(self.shared) * common + math.sqrt(1 - self.shared) * alone)

    def _normal(self, seed: str) -> float:
        self._draw.seed(seed)
        return self._draw.gauss(0, 1)
