"""The losses that a claim is checked on: several optimizers in one cell, from a paper or from a store, in one form.

A **cell** is one workload and budget. Losses are compared within a cell only: S's full-split and subset losses are
different cells, and so are the sizes of W and of S.

The uncertainty of a gap depends on its source:

* a store: the t-interval of paired seeds;
* W, which has single runs: the noise that its records show (``wen_tables.noise``);
* S, read off figures: the width of the reading, and the offset between two metrics where a panel mixes them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairstep.analysis.statistics import AnalysisError, Estimate, mean_interval, paired_difference
from fairstep.analysis.verdict.crossings import Curve
from fairstep.runs.ledger import chinchilla_ratio

MATRIX = frozenset({"muon", "d-muon", "soap", "kron", "scion", "mars-shampoo", "shampoo"})
"""Optimizers that multiply a gradient by matrices; by the papers' names."""
SOPHIA = ("sophia", "sophia-g", "sophia-h")
"""Both papers' name, and ours for S's estimator and for W's."""
SCALAR = frozenset(
    {"adamw", "nadamw", "mars", "cautious", "lion", "adam_mini", *SOPHIA, "ademamix", "adopt", "signum", "sf-adamw"}
) | {"prodigy", "mars-lion"}
"""Optimizers that scale each entry by itself."""

SPELLINGS = {
    "mars-adamw": "mars",
    "cautious-adamw": "cautious",
    "schedule-free-adamw": "sf-adamw",
    "adam-mini": "adam_mini",
}
"""Our names of contestants -> the papers'."""


@dataclass(frozen=True)
class Measured:
    """A final loss in nats; nan if the runs diverged. ``error``: half the width of its 95 % interval, which is noise
    or, if ``read``, the width of a reading. ``offset``: of its metric, against others of the cell. ``runs``: seed ->
    loss."""

    value: float
    error: float = math.inf
    read: bool = False
    offset: float = 0.0
    runs: Mapping[Any, float] = field(default_factory=dict)

    @classmethod
    def of(cls, losses: Mapping[Any, float]) -> Measured:
        """The mean over seeds."""
        mean = mean_interval(losses.values())
        return cls(mean.value, mean.high - mean.value, runs=losses)

    @property
    def diverged(self) -> bool:
        return math.isnan(self.value)


OPPOSITES = (("below", "above"), ("above", "below"), ("grows", "falls"), ("falls", "grows"))


@dataclass(frozen=True)
class Gap:
    """Loss of the second minus loss of the first, in nats: above 0 the first is better."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, difference: Estimate) -> Gap:
        """A difference with its interval: second - first."""
        return cls(difference.value, difference.low, difference.high)

    def __neg__(self) -> Gap:
        return Gap(-self.value, -self.high, -self.low)

    def said(self, words: str) -> str:
        """``muon below soap by +0.0100 [...]`` of ``muon below soap``. A gap below 0 takes the opposite word
        (``OPPOSITES``), so that the sign is said once."""
        if self.value < 0:
            for word, opposite in OPPOSITES:
                before, found, after = words.rpartition(f" {word}")
                if found:
                    return f"{before} {opposite}{after} by {-self}"
        return f"{words} by {self}"

    def __str__(self) -> str:
        if math.isinf(self.value):
            return "a divergence"
        if not math.isfinite(self.low):
            return f"{self.value:+.4f} (no interval)"
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Variant:
    """An optimizer with these settings, of its own and of the run, and its loss. ``curves``: for "loss" of
    the training's batches, "gradient_norm", "effective_lr" (of Prodigy) and "matrix_rms" (root mean square of the
    matrices' weights), (tokens, value) along each run, by seed, read when asked for."""

    settings: Mapping[str, Any]
    loss: Measured
    curves: Callable[[str], Mapping[Any, Curve]] = lambda what: {}


@dataclass(frozen=True)
class Cell:
    """One workload and budget. ``losses``: optimizer -> its final loss. ``sweeps``: (optimizer, hyperparameter) ->
    value -> loss, everything else at the chosen values. ``curves``: optimizer -> runs, read when asked for.
    ``variants``: optimizer -> every setting that it has paired seeds with, its own configuration first. ``model``: what
    may differ between models of one size (initial deviation, z-loss, experts)."""

    label: str
    size: str
    parameters: float
    batch_tokens: float
    tokens: float
    losses: Mapping[str, Measured]
    sweeps: Mapping[tuple[str, str], Mapping[float, Measured]] = field(default_factory=dict)
    speedups: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    curves: Callable[[], Mapping[str, Sequence[Curve]]] = dict
    key: str = ""
    metric: str = ""
    steps: int = 0
    data: str = ""
    transfer: str = ""
    """Rule by which hyperparameters came from another cell's; empty: none."""
    pairs: int = 0
    """The fewest paired seeds of a contestant with a speedup; 0: not known."""
    variants: Mapping[str, Sequence[Variant]] = field(default_factory=dict)
    model: tuple[tuple[str, Any], ...] = ()

    @property
    def ratio(self) -> float:
        """Chinchilla ratio: tokens over 20 per matrix parameter."""
        return self.tokens / (20 * max(self.parameters, 1))

    def gap(self, first: str, second: str) -> Gap | None:
        """How far ``first`` is below ``second``; None where one has no loss here."""
        if first not in self.losses or second not in self.losses:
            return None
        return gap(self.losses[first], self.losses[second])

    def beside(self, optimizer: str, name: str, but: Iterable[str] = (), **where: Any) -> dict[Any, Variant]:
        """Value of a setting -> the variant that has it and is otherwise the optimizer's first one, with other values
        of ``where``. What is in ``but`` may differ too, as the learning rate does with the schedule."""
        found: dict[Any, Variant] = {}
        if not (variants := self.variants.get(optimizer)):
            return found
        free = {name, *but}
        wanted = {key: value for key, value in {**variants[0].settings, **where}.items() if key not in free}
        for variant in variants:
            if name in variant.settings and {k: v for k, v in variant.settings.items() if k not in free} == wanted:
                found.setdefault(variant.settings[name], variant)
        return found

    def only_differs(self, other: Cell, *names: str) -> bool:
        """Whether two cells differ in nothing but fields of these names, of size, batch_tokens, tokens, data and
        model. Lengths within 1 % are equal, and models of which nothing is known."""
        equal = {
            "size": self.size == other.size,
            "batch_tokens": self.batch_tokens == other.batch_tokens,
            "tokens": abs(self.tokens - other.tokens) <= 0.01 * self.tokens,
            "data": self.data == other.data,
            "model": not (self.model and other.model) or self.model == other.model,
        }
        return all(same for name, same in equal.items() if name not in names)

    @property
    def experts(self) -> int:
        """Experts of a block; 0: the model is dense."""
        return int(dict(self.model).get("experts", 0))

    def ranked(self, among: Iterable[str] | None = None) -> list[str]:
        """Names by loss, lowest first, without those that diverged."""
        names = [n for n, m in self.losses.items() if not m.diverged and (among is None or n in among)]
        return sorted(names, key=lambda name: self.losses[name].value)


@dataclass(frozen=True)
class Evidence:
    """Cells of one source. ``from_store``: the conditions of a paper do not select among them."""

    source: str
    cells: tuple[Cell, ...]
    from_store: bool = False

    def select(self, **wanted: Any) -> list[Cell]:
        """Cells whose fields have these values (a tuple: one of them); of a store, all."""
        if self.from_store:
            return list(self.cells)
        return [
            cell
            for cell in self.cells
            if all(getattr(cell, k) in v if isinstance(v, tuple) else getattr(cell, k) == v for k, v in wanted.items())
        ]

    def cell(self, key: str) -> Cell:
        """The cell of one published record."""
        return next(cell for cell in self.cells if cell.key == key)

    def speedups(self, optimizer: str, transfer: str = "") -> list[dict[str, Any]]:
        """Rows ``model_size, chinchilla_ratio, speedup, low, high`` for trends; the ratio is rounded to 2 digits.

        Of the cells with this rule of transfer.
        """
        return [
            {
                "model_size": cell.size,
                "chinchilla_ratio": chinchilla_ratio(cell.tokens, cell.parameters),
                "speedup": value,
                "low": low,
                "high": high,
            }
            for cell in self.cells
            for name, (value, low, high) in cell.speedups.items()
            if name == optimizer and cell.transfer == transfer
        ]

    @property
    def sizes(self) -> dict[str, float]:
        """Size -> matrix parameters."""
        return {cell.size: cell.parameters for cell in self.cells}


def gap(first: Measured, second: Measured) -> Gap:
    """Second minus first. Shared seeds are paired; otherwise reading errors add up and noises add in squares."""
    if first.diverged or second.diverged:
        sign = second.diverged - first.diverged
        return Gap(sign * math.inf, sign * math.inf, sign * math.inf) if sign else Gap(0, -math.inf, math.inf)
    if first.runs and second.runs:
        with contextlib.suppress(AnalysisError):
            return Gap.of(paired_difference(second.runs, first.runs))
    value = second.value - first.value
    both = first.error + second.error if first.read or second.read else math.hypot(first.error, second.error)
    width = both + abs(first.offset - second.offset)
    return Gap(value, value - width, value + width)


def apart(first: Gap, second: Gap) -> Gap:
    """First minus second where their errors are independent: they add in squares."""
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    return Gap(value, value - below, value + math.hypot(first.high - first.value, second.value - second.low))
