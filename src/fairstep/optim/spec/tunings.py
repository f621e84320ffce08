"""Tunings: what both papers tried and chose for each optimizer, at each scale, with the source. No torch.

    spec.tunings                            all of them
    spec.tuning_at(parameters_matrix)       the nearest in size that has a chosen configuration
    spec.search_space_at(parameters_matrix) the values tried at the nearest size; the CPU-sized grids for small models
    spec.defaults_at(parameters_matrix)     every hyperparameter with where its value is from

Sizes are matrix parameters (attention and MLP), the count by which W names its models; S's 124m has 85M of them.
``tunings.json`` is written by tools/optimizer_tunings.py from the published numbers.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal, NamedTuple

from fairstep.optim.roles import Value
from fairstep.optim.spec.hyperparameter import Grid, Hyperparameter

Paper = Literal["S", "W"]
"""S: Semenov et al., arXiv 2509.01440. W: Wen et al., arXiv 2509.02046."""

CPU_PARAMETERS = 213_000
"""Matrix parameters of the models that ``OptimizerSpec.search_space`` was made for: width 64."""


@dataclass(frozen=True)
class Tuning:
    """One paper's tuning of one optimizer in one setting.

    ``space`` holds the values tried and ``chosen`` the best configuration, by our hyperparameters. ``run_space`` and
    ``run`` hold the same of the run: batch_tokens, warmup_steps, clip_norm, schedule, final_fraction, decay_fraction.
    ``other_space`` and ``other`` hold hyperparameters that ours does not have, in the paper's names. W's chosen
    configuration is the best on record. S's is the released script's, and empty for grids of other batch sizes.
    Hyperparameters with a single value are in no space.
    """

    optimizer: str
    paper: Paper
    scale: str
    """As the paper names it: 130m, 720m, moe-520m."""
    parameters_matrix: int
    source: str
    tokens: int = 0
    """Of the runs; 0 if several lengths share a grid."""
    space: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    run_space: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    other_space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    chosen: Mapping[str, Value] = field(default_factory=dict)
    run: Mapping[str, Value] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)


class Sourced(NamedTuple):
    """A value and where it is from."""

    value: Value
    source: str


@functools.cache
def all_tunings() -> tuple[Tuning, ...]:
    text = resources.files("fairstep.optim.spec").joinpath("tunings.json").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    for entry in entries:
        for key in entry.keys() & {"space", "run_space", "other_space"}:
            entry[key] = {name: tuple(values) for name, values in entry[key].items()}
    return tuple(Tuning(**entry) for entry in entries)


class Tuned:
    """What both papers tell about the optimizer that a spec describes. Sizes are matrix parameters."""

    name: str
    hyperparameters: Mapping[str, Hyperparameter]
    search_space: Mapping[str, Grid]

    @property
    def tunings(self) -> tuple[Tuning, ...]:
        """What the two papers tried and chose for it, at every scale."""
        return tuple(t for t in all_tunings() if t.optimizer == self.name)

    def tuning_at(self, parameters_matrix: int, tokens: int = 0, paper: Paper | None = None) -> Tuning | None:
        """The tuning of a dense model with a chosen configuration that is nearest in the ratio of sizes, then of
        tokens.

        ``tokens`` 0: one Chinchilla, 20 a matrix parameter. None if neither paper, or not this one, tuned it.
        """
        tokens = tokens or 20 * parameters_matrix
        dense = [t for t in self._of(paper) if t.chosen and not t.scale.startswith("moe")]

        def distance(tuning: Tuning) -> tuple[float, float]:
            return _log_distance(tuning.parameters_matrix, parameters_matrix), _log_distance(tuning.tokens, tokens)

        return min(dense, key=distance, default=None)

    def search_space_at(
        self, parameters_matrix: int, paper: Paper | None = None
    ) -> tuple[dict[str, tuple[Value, ...]], str]:
        """(hyperparameter -> values tried, source) at the nearest size: the grid with the most hyperparameters there.

        Without ``paper`` the CPU-sized grids of ``search_space`` count as a size too, and serve an optimizer that
        neither paper tuned.
        """
        tuned = [t for t in self._of(paper) if "lr" in t.space]
        if paper is None and _is_small(parameters_matrix, tuned):
            sources = dict.fromkeys(grid.source for grid in self.search_space.values())
            return {name: grid.values for name, grid in self.search_space.items()}, "; ".join(sources)
        if not tuned:
            return {}, ""
        nearest = min(_log_distance(t.parameters_matrix, parameters_matrix) for t in tuned)
        there = [t for t in tuned if _log_distance(t.parameters_matrix, parameters_matrix) == nearest]
        best = max(there, key=lambda t: (len(t.space), bool(t.chosen)))
        return dict(best.space), best.source

    def defaults_at(self, parameters_matrix: int, tokens: int = 0, paper: Paper | None = None) -> dict[str, Sourced]:
        """Every hyperparameter: what was chosen at the nearest scale, otherwise the optimizer's default.

        For CPU-sized models, unless a paper is named, the defaults with the middle of the learning-rate grid.
        """
        defaults = {key: Sourced(known.default, known.source) for key, known in self.hyperparameters.items()}
        tuning = self.tuning_at(parameters_matrix, tokens, paper)
        if paper is None and _is_small(parameters_matrix, [tuning] if tuning else []):
            grid = self.search_space.get("lr")
            return defaults | ({"lr": Sourced(grid.values[len(grid.values) // 2], grid.source)} if grid else {})
        if tuning is None:
            return defaults
        return defaults | {key: Sourced(value, tuning.source) for key, value in tuning.chosen.items()}

    def _of(self, paper: Paper | None) -> list[Tuning]:
        return [t for t in self.tunings if paper in (None, t.paper)]


def _is_small(parameters_matrix: int, sizes: Iterable[Tuning]) -> bool:
    """Whether a size is nearer to the size of the CPU-sized grids than to any of these."""
    here = min((_log_distance(t.parameters_matrix, parameters_matrix) for t in sizes), default=math.inf)
    return _log_distance(CPU_PARAMETERS, parameters_matrix) < here


def _log_distance(a: int, b: int) -> float:
    """Distance of two sizes: the absolute logarithm of their ratio."""
    return abs(math.log(max(a, 1) / max(b, 1)))
