"""Measured speedups over AdamW, as points in the space of workloads.

A point is the base-2 logarithm of a speedup in one cell. Its place is (log2 matrix parameters, log2 Chinchilla ratio,
log2 batch tokens), and its standard deviation is the one that its source allows:

* W: the speedups of its figures, at the batch that W chose for the optimizer.
* S: AdamW's law of the same model and batch, fitted to its final losses of full schedules and inverted.
* A store: the verdicts of its contests.

S's Muon is left out. It leaves its matrices without weight decay, which our Muon and W's do not (S's D-Muon decays
them).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fairstep.analysis.claims.evidence import SPELLINGS, Cell, Evidence
from fairstep.analysis.claims.published_evidence import semenov_evidence, wen_evidence
from fairstep.analysis.laws.law import Law, Noise, hyperparameter_law, loss_law
from fairstep.analysis.verdict.law_speedup import law_speedup
from fairstep.model.shapes import chinchilla_tokens
from fairstep.published import wen

BASELINE = "adamw"
NORMAL = 1.96
OURS = {theirs: ours for ours, theirs in SPELLINGS.items()}
SOPHIA = {"wen": "sophia-h", "semenov": "sophia-g"}
NOT_OURS = {("semenov", "muon")}
LEAST_BUDGETS = 3
LEAST_SPREAD = 0.05
"""Sum of squared log2 speedups below which a cell says too little about how AdamW's loss drops."""


@dataclass(frozen=True)
class Target:
    """A workload: matrix parameters, tokens of the run, tokens of a batch."""

    parameters: float
    tokens: float
    batch_tokens: float

    @property
    def place(self) -> tuple[float, float, float]:
        """log2 of parameters, of the Chinchilla ratio, of batch tokens."""
        return (
            math.log2(self.parameters),
            math.log2(self.tokens / chinchilla_tokens(self.parameters)),
            math.log2(self.batch_tokens),
        )


@dataclass(frozen=True)
class Point:
    """log2 of a speedup in a cell of a study. ``gap``: AdamW's loss minus the optimizer's in the cell, in nats."""

    optimizer: str
    study: str
    label: str
    place: tuple[float, float, float]
    value: float
    deviation: float
    gap: float

    @property
    def target(self) -> Target:
        """The point's own workload."""
        parameters = 2 ** self.place[0]
        return Target(parameters, chinchilla_tokens(parameters, 2 ** self.place[1]), 2 ** self.place[2])


@functools.cache
def published_points() -> tuple[Point, ...]:
    """Both papers' points, by our names of optimizers."""
    return (*_wen_points(), *_semenov_points())


def store_points(evidence: Evidence) -> list[Point]:
    """A store's contests against AdamW with a speedup that has an interval, of models whose size is known."""
    points = []
    for cell in evidence.cells:
        if BASELINE not in cell.losses or not cell.parameters:
            continue
        for name, (value, low, high) in cell.speedups.items():
            gap = cell.gap(name, BASELINE)
            if gap is not None and math.isfinite(gap.value) and 0 < low <= high < math.inf:
                width = math.log2(high / low) / (2 * NORMAL)
                place = Target(cell.parameters, cell.tokens, cell.batch_tokens).place
                shown = OURS.get(name, name)
                points.append(Point(shown, evidence.source, cell.label, place, math.log2(value), width, gap.value))
    return points


def log_distance(first: Point | Target, second: Point | Target) -> float:
    """Distance in doublings, over all three axes."""
    return math.dist(first.place, second.place)


def loss_drop_law(points: Iterable[Point]) -> Law:
    """Nats by which AdamW's loss drops when tokens double, as a power of size and tokens, from published cells.

    Raises AnalysisError when too few cells say.
    """
    drops = loss_drop_per_doubling(points)
    workloads = [target for target, _ in drops]
    return hyperparameter_law(
        [target.parameters for target in workloads],
        [target.tokens for target in workloads],
        [drop for _, drop in drops],
    )


def loss_drop_per_doubling(points: Iterable[Point]) -> list[tuple[Target, float]]:
    """(workload, nats that AdamW gains from twice the tokens) of every cell whose speedups differ enough from 1.

    In a cell it is the slope of gaps on log2 speedups, both of which W and S give.
    """
    cells: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        cells.setdefault((point.study, point.label), []).append(point)
    drops = []
    for members in cells.values():
        squares = sum(point.value**2 for point in members)
        drop = sum(point.gap * point.value for point in members) / squares if squares > LEAST_SPREAD else 0.0
        if drop > 0:
            drops.append((members[0].target, drop))
    return drops


def _wen_points() -> list[Point]:
    batches = {
        (row["optimizer"], f"{row['model_size']}@{row['chinchilla_ratio']}x"): 4096
        * json.loads(row["hyperparameters"])["train_batch_size"]
        for row in wen.results().iter_rows(named=True)
    }
    points = []
    for cell in wen_evidence().cells:
        for name, (value, low, high) in cell.speedups.items():
            gap = cell.gap(name, BASELINE)
            if gap is not None and low > 0:
                place = Target(cell.parameters, cell.tokens, batches[name, cell.key]).place
                width = math.log2(high / low) / (2 * NORMAL)
                points.append(Point(_ours(name, "wen"), "wen", cell.label, place, math.log2(value), width, gap.value))
    return points


def _semenov_points() -> list[Point]:
    series: dict[tuple[str, float], list[Cell]] = {}
    for cell in semenov_evidence().select(metric="main"):
        if math.isfinite(cell.parameters) and BASELINE in cell.losses:
            series.setdefault((cell.size, cell.batch_tokens), []).append(cell)
    points = []
    for cells in series.values():
        if len(cells) >= LEAST_BUDGETS:
            points += _series_points(cells)
    return points


def _series_points(cells: list[Cell]) -> list[Point]:
    """Speedups of one model and batch, whose cells differ in tokens."""
    base = [cell.losses[BASELINE] for cell in cells]
    reading = float(np.mean([loss.error for loss in base])) / NORMAL
    law = loss_law([cell.tokens for cell in cells], [loss.value for loss in base], Noise(reading, math.inf))
    points = []
    for cell in cells:
        for name, loss in cell.losses.items():
            if name == BASELINE or loss.diverged or ("semenov", name) in NOT_OURS:
                continue
            error = (loss.error + abs(loss.offset - cell.losses[BASELINE].offset)) / NORMAL
            speedup = law_speedup(law, loss.value, cell.tokens, Noise(error, math.inf))
            if not (0 < speedup.low <= speedup.high < math.inf):
                continue  # below every loss that AdamW's law reaches
            width = math.log2(speedup.high / speedup.low) / (2 * NORMAL)
            place = Target(cell.parameters, cell.tokens, cell.batch_tokens).place
            gap = cell.losses[BASELINE].value - loss.value
            value = math.log2(speedup.value)
            points.append(Point(_ours(name, "semenov"), "semenov", cell.label, place, value, width, gap))
    return points


def _ours(name: str, study: str) -> str:
    return SOPHIA[study] if name == "sophia" else OURS.get(name, name)
