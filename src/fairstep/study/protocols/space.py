"""Search spaces: the values of each hyperparameter, what lies next to a configuration, and how a grid goes on.

A configuration is a value for every hyperparameter that is searched. A hyperparameter is an optimizer's own, or one of
the run's (``workload.TUNABLE``: batch size, warm-up, clipping, schedule). Nothing here knows what is being trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from fairstep.optim.spec import as_float, inside
from fairstep.runs import Value

Configuration = Mapping[str, Value]
Key = tuple[tuple[str, Value], ...]


def key(configuration: Configuration) -> Key:
    """A configuration as a dictionary key; the order of its hyperparameters does not matter."""
    return tuple(sorted(configuration.items()))


def rounded(value: float, whole: bool) -> float | int:
    """Six digits, so that going up a grid and down again ends at the same number."""
    return max(1, round(value)) if whole else float(f"{value:.6g}")


@dataclass(frozen=True)
class Axis:
    """The values of one hyperparameter that are tried: numbers in ascending order, or words and switches.

    Numbers go on beyond the ends, inside ``domain`` (an interval such as "[0, 1)"): by the difference of the two
    outermost values if they are evenly spaced or hold a zero (weight decay), by the ratio of 1 - value if they approach
    1 (betas), else by ``factor`` (0: the ratio of the two outermost). ``fixed`` keeps the ends as they are.
    """

    values: tuple[Value, ...]
    factor: float = 0.0
    domain: str = "(-inf, inf)"
    fixed: bool = False

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a grid needs at least one value, and this one is empty")
        if self.numeric:
            if not all(math.isfinite(as_float(value)) for value in self.values):
                raise ValueError(f"the values of a grid must be finite, not {list(self.values)}")
            object.__setattr__(self, "values", tuple(sorted(set(self.values))))
        else:
            object.__setattr__(self, "values", tuple(dict.fromkeys(self.values)))

    @cached_property
    def numeric(self) -> bool:
        return not any(isinstance(value, bool | str) for value in self.values)

    @property
    def searched(self) -> bool:
        return len(self.values) > 1

    def beyond(self, upper: bool) -> float | int | None:
        """The next value beyond an end, or None where there is none: words, one value, the domain's end."""
        if self.fixed or not self.numeric or not self.searched:
            return None
        numbers = [float(value) for value in self.values]
        whole = all(isinstance(value, int) for value in self.values)
        end, inner = (numbers[-1], numbers[-2]) if upper else (numbers[0], numbers[1])
        scale = self._scale(numbers)
        if scale == "linear":
            value = end + (end - inner)
        elif scale == "complement":
            value = 1 - (1 - end) ** 2 / (1 - inner)
            if value < 0.01:  # from 0.99 and 0.9 the next step down would be none at all
                return None
        else:
            ratio = self.factor or (end / inner if upper else inner / end)
            value = end * ratio if upper else end / ratio
        new = rounded(value, whole)
        return new if self.allows(new) and new not in self.values else None

    def position(self, value: Value) -> float:
        """Where a value lies along the axis, in steps from its first value; words by their place. One that has no place
        (a search may start off the grid, at a word or a zero that is not on it) is one step below the first."""
        if not self.numeric:
            return float(self.values.index(value)) if value in self.values else -1.0
        numbers = [float(known) for known in self.values]
        if not self.searched:
            return 0.0
        low, high, here, steps = numbers[0], numbers[-1], float(value), len(numbers) - 1
        scale = self._scale(numbers)
        if scale == "linear":
            return (here - low) / (high - low) * steps
        if scale == "complement" and here < 1:
            low, high, here = 1 / (1 - low), 1 / (1 - high), 1 / (1 - here)
        if here <= 0:
            return -1.0
        return math.log(here / low) / math.log(high / low) * steps

    def _scale(self, numbers: list[float]) -> str:
        steps = [high - low for low, high in itertools.pairwise(numbers)]
        even = len(steps) > 1 and max(steps) - min(steps) < 1e-6 * max(steps)
        if min(numbers) <= 0 or (even and not self.factor):
            return "linear"
        if not self.factor and min(numbers) >= 0.5 and max(numbers) < 1:
            return "complement"
        return "log"

    def allows(self, number: float) -> bool:
        """Whether a number lies in the domain."""
        return inside(self.domain, number)

    def extended(self, value: float | int) -> Axis:
        return replace(self, values=(*self.values, value))


@dataclass(frozen=True)
class Edge:
    """A hyperparameter whose value is the outermost one tried, and the value that comes next."""

    name: str
    upper: bool
    beyond: float | int


@dataclass(frozen=True)
class Space:
    """Axes by name, in the order in which sequential protocols go through them."""

    axes: Mapping[str, Axis] = field(default_factory=dict)

    @property
    def searched(self) -> list[str]:
        return [name for name, axis in self.axes.items() if axis.searched]

    def points(self) -> Iterator[dict[str, Value]]:
        """The full grid."""
        for values in itertools.product(*(axis.values for axis in self.axes.values())):
            yield dict(zip(self.axes, values, strict=True))

    def size(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes.values())

    def line(self, centre: Configuration, name: str) -> list[dict[str, Value]]:
        """All values of one hyperparameter with the others at the centre, the centre's own left out."""
        return [{**centre, name: value} for value in self.axes[name].values if value != centre[name]]

    def star(self, centre: Configuration) -> list[dict[str, Value]]:
        """All single-coordinate moves of a configuration."""
        return [point for name in self.searched for point in self.line(centre, name)]

    def edges(self, configuration: Configuration) -> list[Edge]:
        """Where a configuration is at an end that can be moved."""
        edges = []
        for name, axis in self.axes.items():
            if not axis.numeric or not axis.searched:
                continue
            for upper in (False, True):
                outermost = axis.values[-1 if upper else 0]
                value = axis.beyond(upper)
                if configuration[name] == outermost and value is not None:
                    edges.append(Edge(name, upper, value))
        return edges

    def extended(self, edges: Iterable[Edge]) -> Space:
        axes = dict(self.axes)
        for edge in edges:
            axes[edge.name] = axes[edge.name].extended(edge.beyond)
        return Space(axes)

    def only(self, names: Iterable[str]) -> Space:
        """The space of some hyperparameters; the others stay where a search starts."""
        wanted = set(names)
        return Space({name: axis for name, axis in self.axes.items() if name in wanted})
