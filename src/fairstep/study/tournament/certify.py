"""Making certificates: what the results say about one contestant in one cell, with intervals that hold at their level.

The gain of a move is the chosen configuration's loss minus the move's loss. The chosen configuration's loss is the mean
of its s final runs, on seeds that took no part in choosing it: the loss that won the search is too low by selection. A
move's loss is the mean of its n runs as a finalist, or else its trial in the search (n = 1). sigma-hat comes from the
runs of the chosen configuration on fresh seeds, with d degrees of freedom; m configurations were tried. Then

    gain +- t(d, 1 - (1 - level) / 2m) * sigma-hat * sqrt(1/s + 1/n)

holds for all tried configurations at once (Bonferroni), and so for the moves of whichever was chosen, however the
search chose what to try. The largest true gain lies between the largest of the lower ends and the largest of the upper
ends. All runs have normal noise of one sigma, and runs of one seed may share any part of it. Other configurations' runs
on the same seeds therefore add no knowledge of sigma.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairstep.analysis import LEVEL, Estimate, mean_interval, pooled_deviation
from fairstep.analysis.statistics import plain, t_quantile
from fairstep.analysis.verdict.paired import deviation_estimate
from fairstep.analysis.verdict.regret import Neighbours
from fairstep.runs import Value
from fairstep.runs.certificate import Certificate, Coordinate, Move, Near
from fairstep.study.protocols.search import Hyperparameters, Tuning
from fairstep.study.protocols.space import Configuration, Key, key


@dataclass(frozen=True)
class Fresh:
    """Losses on seeds that tuning has not used. ``finalists``: configuration -> seed -> loss, by which one was chosen;
    ``finals``: of the chosen one, seed -> loss."""

    finalists: Mapping[Key, Mapping[int, float]] = field(default_factory=dict)
    finals: Mapping[int, float] = field(default_factory=dict)

    def sigma(self, chosen: Configuration) -> Estimate:
        """Deviation of one run's loss over seeds, of ``count`` - 1 degrees of freedom.

        From the runs of the chosen configuration, diverged ones left out. Its runs as a finalist and its final ones
        count about a mean of their own each: the first mean is low by selection, the scatter about it is not."""
        blocks = self.finals.values(), self.finalists.get(key(chosen), {}).values()
        finite = [[loss for loss in block if math.isfinite(loss)] for block in blocks]
        sigma, degrees = pooled_deviation(finite)
        return deviation_estimate(sigma, degrees + 1)


@dataclass(frozen=True)
class Effort:
    """What a contestant cost in a cell: tuning trials and fresh runs with results, failed attempts, all tokens and
    seconds."""

    trials: int = 0
    fresh: int = 0
    failures: int = 0
    tokens: int = 0
    seconds: float = 0.0


def certify(
    contestant: str,
    cell: str,
    tuning: Tuning,
    chosen: Hyperparameters | None,
    fresh: Fresh,
    tolerance: float,
    effort: Effort,
    missing: Iterable[str] = (),
) -> Certificate:
    """The certificate of a contestant in a cell. ``missing``: what the caller knows to be outstanding."""
    lacks = list(missing)
    sigma = fresh.sigma(chosen or {})
    common: dict[str, Any] = {
        "contestant": contestant,
        "cell": cell,
        "tolerance": tolerance,
        "near_optimal": tuple(Near(hyperparameters=c, loss=tuning.loss(c)) for c in tuning.near(tolerance)),
        "sigma": plain(sigma.value),
        "sigma_low": sigma.low if sigma.has_interval else None,
        "sigma_high": sigma.high if sigma.has_interval else None,
        "degrees": sigma.count - 1,
        "level": LEVEL,
        "notes": tuple(tuning.notes),
        **effort.__dict__,
    }
    if chosen is None:
        return Certificate(**common, missing=tuple(lacks))
    estimates = _Estimates(tuning, chosen, fresh, sigma)
    rates = [(tried, loss) for tried, loss in tuning.results() if {**tried, "lr": 0} == {**chosen, "lr": 0}]
    regret = Neighbours.of(rates, chosen).regret(sigma.value)
    coordinates = tuple(_coordinate(name, estimates) for name in tuning.problem.space.searched)
    lacks += _lacks(coordinates, estimates)
    observed = {key(near.hyperparameters) for near in common["near_optimal"]}
    moves = [c.best for c in coordinates if c.best is not None]
    return Certificate(
        **common,
        configuration=chosen,
        loss=estimates.centre,
        tuning_loss=tuning.loss(chosen),
        not_excluded=tuple(
            Near(hyperparameters=c, loss=tuning.loss(c)) for c in estimates.near(tolerance) if key(c) not in observed
        ),
        coordinates=coordinates,
        rate_regret=None if regret is None else regret.mean,
        rate_regret_deviation=None if regret is None else math.sqrt(regret.variance),
        largest=_largest(moves),
        missing=tuple(lacks),
    )


class _Estimates:
    """Losses and half-widths of intervals around one chosen configuration."""

    def __init__(self, tuning: Tuning, chosen: Hyperparameters, fresh: Fresh, sigma: Estimate) -> None:
        self.tuning, self.chosen, self.fresh = tuning, chosen, fresh
        losses = list(fresh.finals.values())
        self.seeds = len(losses)
        self.centre = mean_interval(losses).value if losses and all(map(math.isfinite, losses)) else None
        self.width: float | None = None
        if self.centre is not None and sigma.has_interval:
            tail = (1 - LEVEL) / (2 * max(1, tuning.trials))
            self.width = sigma.value * t_quantile(sigma.count - 1, 1 - tail)

    def move(self, name: str, value: Value, configuration: Configuration) -> Move | None:
        """None for a configuration without a finite loss."""
        loss, runs = self._loss(configuration)
        centre = self.tuning.loss(self.chosen) if self.centre is None else self.centre
        if not math.isfinite(loss) or not math.isfinite(centre):
            return None
        gain = centre - loss
        if self.width is None:
            return Move(name=name, value=value, gain=gain, runs=runs)
        half = self.width * math.sqrt(1 / self.seeds + 1 / runs)
        return Move(name=name, value=value, gain=gain, low=gain - half, high=gain + half, runs=runs)

    def near(self, tolerance: float) -> list[Hyperparameters]:
        """The configurations tried that may be within the tolerance of the chosen one."""
        near = []
        for configuration in self.tuning.configurations.values() if self.width is not None else ():
            move = self.move("", 0, configuration)
            if configuration == self.chosen or (move is not None and (move.high or 0.0) >= -tolerance):
                near.append(configuration)
        return near

    def _loss(self, configuration: Configuration) -> tuple[float, int]:
        losses = list(self.fresh.finalists.get(key(configuration), {}).values())
        return (sum(losses) / len(losses), len(losses)) if losses else (self.tuning.loss(configuration), 1)


def _coordinate(name: str, estimates: _Estimates) -> Coordinate:
    tuning, chosen = estimates.tuning, estimates.chosen
    tried: list[Value] = []
    untried: list[Value] = []
    impossible: list[Value] = []
    moves: list[Move] = []
    for point in tuning.space.line(chosen, name):
        value = point[name]
        if not tuning.asked(point):
            untried.append(value)
        elif math.isnan(tuning.loss(point)):
            impossible.append(value)
        else:
            tried.append(value)
            if (move := estimates.move(name, value, point)) is not None:
                moves.append(move)
    edge = next((("upper" if e.upper else "lower") for e in tuning.space.edges(chosen) if e.name == name), "")
    return Coordinate(
        name=name,
        value=chosen[name],
        tried=tuple(tried),
        untried=tuple(untried),
        impossible=tuple(impossible),
        edge=edge,
        best=_largest(moves),
    )


def _largest(moves: list[Move]) -> Move | None:
    """The move with the largest observed gain, with the interval of the largest true one."""
    if not moves:
        return None
    best = max(moves, key=lambda move: move.gain)
    lows = [move.low for move in moves if move.low is not None]
    highs = [move.high for move in moves if move.high is not None]
    return best.model_copy(update={"low": max(lows), "high": max(highs)}) if lows and highs else best


def _lacks(coordinates: tuple[Coordinate, ...], estimates: _Estimates) -> list[str]:
    sentences = []
    if not coordinates:  # a value that a law predicts may be right, and nothing here shows it
        sentences.append("No hyperparameter was searched in this cell, so that no single-coordinate move was tried.")
    untried = [f"{c.name} {', '.join(map(str, c.untried))}" for c in coordinates if c.untried]
    if untried:
        sentences.append(f"Single-coordinate moves that were never tried: {'; '.join(untried)}.")
    edges = [f"{c.name} {c.value} ({c.edge})" for c in coordinates if c.edge]
    if edges:
        sentences.append(f"The outermost value tried is the chosen one: {', '.join(edges)}.")
    if not estimates.seeds:
        sentences.append("No run of the chosen configuration on a fresh seed.")
    elif estimates.centre is None:
        sentences.append("A run of the chosen configuration on a fresh seed diverged.")
    elif estimates.width is None:
        sentences.append("Too few fresh runs for an interval: give the chosen configuration at least 2 seeds.")
    return sentences
