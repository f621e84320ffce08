"""W's three phases (Wen et al. 2025): all hyperparameters at small scale, the sensitive ones further up, laws beyond.

Phase I tunes all hyperparameters in every cell of ``phase1``. A hyperparameter is *sensitive* to scale unless a single
value of it occurs in the near-optimal set of every such cell. Phase II tunes the sensitive ones alone, in ``phase2``,
from the best configuration of the nearest cell of phase I. Phase III fits a law in size and tokens to each sensitive
number and runs what it predicts, once, in ``phase3``; the others stay as in the nearest cell. In the cells of
``checked`` the prediction is then tuned like a cell of phase I, which measures by how much it misses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fairstep.published.wen import sensitive
from fairstep.runs import Value
from fairstep.study.protocols.one_cell import OneCell, settle
from fairstep.study.protocols.search import Hyperparameters, InEveryCell, Problem, Search, Tuning
from fairstep.study.protocols.space import Axis, rounded
from fairstep.study.protocols.star_search import Star


@dataclass(frozen=True)
class Wen:
    """``near``: nats within which configurations are near-optimal (Delta2). ``first`` tunes phase I, ``second`` phase
    II. ``law``: straight in logs, or W's own form with an offset. ``phase1`` empty: the cells that no other phase
    names."""

    phase1: tuple[str, ...] = ()
    phase2: tuple[str, ...] = ()
    phase3: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    near: float = 6.4e-3
    first: OneCell = field(default_factory=Star)
    second: OneCell = field(default_factory=Star)
    law: Literal["power", "offset"] = "power"

    @property
    def effort(self) -> int:
        """See ``TPE.effort``."""
        return max(getattr(inner, "effort", 1) for inner in (self.first, self.second))

    def search(self, cells: Mapping[str, Problem]) -> Search[None]:
        later = {*self.phase2, *self.phase3}
        first = self.phase1 or tuple(name for name in cells if name not in later)
        if unknown := ({*first, *self.checked} | later) - set(cells):
            raise ValueError(f"the protocol names cells that the study has not: {', '.join(sorted(unknown))}")
        tuned: dict[str, Tuning] = yield InEveryCell({name: settle(self.first, Tuning(cells[name])) for name in first})
        names = sensitive([tuning.near(self.near) for tuning in tuned.values()])
        kept = f"Scaling-sensitive, by the cells of phase I: {', '.join(names) or 'none'}."
        searches = {}
        for name in self.phase2:
            tuning = Tuning(cells[name].from_start(nearest(tuned, cells[name]).best or {}, only=names))
            tuning.notes.append(kept)
            searches[name] = settle(self.second, tuning)
        tuned |= yield InEveryCell(searches)
        searches = {}
        for name in self.phase3:
            start, notes = predicted(tuned, cells[name], names, self.law)
            check = name in self.checked
            tuning = Tuning(cells[name].from_start(start, only=None if check else ()))
            tuning.notes.extend([kept, *notes])
            searches[name] = settle(Predicted(self.first if check else None), tuning)
        yield InEveryCell(searches)


@dataclass(frozen=True)
class Predicted(OneCell):
    """Runs the predicted configuration, then searches around it, if it is to be checked, and says what that gained."""

    search_around: OneCell | None = None

    def tune(self, tuning: Tuning) -> Search[None]:
        start = tuning.problem.start
        yield from tuning.ask([start])
        if self.search_around is not None:
            yield from self.search_around.tune(tuning)
            best = tuning.best
            gap = tuning.loss(start) - tuning.loss(best) if best else math.nan
            tuning.notes.append(f"The predicted configuration is {gap:.4f} above the best one found around it.")


def nearest(tuned: Mapping[str, Tuning], problem: Problem) -> Tuning:
    """The tuned cell next to this one in the logarithms of size and tokens."""

    def distance(tuning: Tuning) -> float:
        other = tuning.problem
        return abs(math.log(problem.parameters / other.parameters)) + abs(math.log(problem.tokens / other.tokens))

    return min(tuned.values(), key=distance)


def predicted(
    tuned: Mapping[str, Tuning], problem: Problem, names: Iterable[str], law: Literal["power", "offset"]
) -> tuple[Hyperparameters, list[str]]:
    """What laws over the tuned cells say for another cell, and a sentence for each on how far to trust it."""
    best = [(tuning.problem, tuning.best) for tuning in tuned.values() if tuning.best]
    found, notes = dict(nearest(tuned, problem).best or {}), []
    for name in names:
        axis = problem.space.axes.get(name)
        if axis is None:  # of a stage at the end, which this cell does not have
            notes.append(f"{name} stays as in the nearest cell: {found.get(name)}.")
            continue
        if not axis.numeric:
            notes.append(f"{name} is not a number, so it stays as in the nearest cell: {found.get(name)}.")
            continue
        points = [(cell.parameters, cell.tokens, float(hyper[name])) for cell, hyper in best]
        value, note = by_law(points, problem, law)
        if value is not None and axis.allows(value):
            found[name] = settled_on(axis, value)
        elif value is not None:
            note += f", which is outside {axis.domain}, so it stays as in the nearest cell"
        notes.append(f"{name}: {note}; here {found.get(name)}.")
    return found, notes


def by_law(
    points: list[tuple[int, int, float]], problem: Problem, law: Literal["power", "offset"]
) -> tuple[float | None, str]:
    """A law's value at a cell with its error in words; None where the points allow no law."""
    from fairstep.analysis import AnalysisError, hyperparameter_law, offset_law

    values = [value for _, _, value in points]
    if len(set(values)) == 1:
        return values[0], f"{values[0]:g} won in all {len(values)} cells"
    sizes, tokens = [size for size, _, _ in points], [count for _, count, _ in points]
    try:
        fitted = (hyperparameter_law if law == "power" else offset_law)(sizes, tokens, values)
    except AnalysisError as error:
        return None, f"no law ({error}), so it stays as in the nearest cell"
    value = fitted.at(problem.parameters, problem.tokens)
    low, high = fitted.interval_at(problem.parameters, problem.tokens)
    miss = f"leave-one-out error {fitted.leave_one_out:.2g}{' in logs' if law == 'power' else ''}"
    return value, f"a law over {len(points)} cells says {value:.3g} [{low:.3g}, {high:.3g}], {miss}"


def settled_on(axis: Axis, value: float) -> Value:
    """A law's value as the hyperparameter can take it: whole numbers take the nearest of the grid, in logs."""
    if all(isinstance(known, int) for known in axis.values) and value > 0:
        return min((v for v in axis.values if float(v) > 0), key=lambda v: abs(math.log(float(v) / value)))
    return rounded(float(f"{value:.3g}"), whole=False)
