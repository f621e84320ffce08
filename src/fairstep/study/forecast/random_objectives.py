"""Losses that a study may meet: random objectives for every contestant and cell.

They have noise, optima off the start and beyond the grids, and hyperparameters that depend on each other. The ranges
come from two sources (docs/log.md). W: the 66 fully swept cells that Wen et al. (2025) published, around 3e8 matrix
parameters. Pocket: `studies/pocket-wen-phases.toml`, 27k to 213k matrix parameters. Between these sizes a power of the
size holds.

* Noise of one run: 0.00125 nats (W), between runs of one seed that should be equal; 0.02 nats over seeds (pocket and
  demo). Half of the variance over seeds is common to the runs of a seed, and all tuning has one seed.
* Loss of one step off the best value, quartiles: 0.0010, 0.0044, 0.0130 nats (W); 0.009, 0.017, 0.053 (pocket). Along
  the learning rate: 0.007, 0.010, 0.016 (W); 0.032, 0.062, 0.108 (pocket).
* Distance from the start to the optimum, in grid steps (root mean square over hyperparameters and cells): 0.35 (demo,
  learning rate alone), 0.53 (W), 1.6 (pocket). Each game draws one. A contestant's cells share about half of its
  variance: a quarter in W, most of it in pocket.
* Steps that the optimum moves when tokens double: see ``RATE_FALLS`` and ``DRIFT``.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping

from fairstep.study.forecast.objectives import Synthetic
from fairstep.study.protocols.search import Problem
from fairstep.study.protocols.thrifty import step_of
from fairstep.study.transfer.length import EXPONENT

SIZE = 3e8
"""Matrix parameters of W's models (130M to 1.2B), in the middle."""

SIGMA, SIGMA_FALLS = 1.25e-3, 0.31
"""Deviation of a run at SIZE, in nats, from others of its seed; the power of size that it falls with."""

UNSURE = 2.0
"""Factor by which a study's noise may be larger or smaller than that."""

LR_STEP, STEP, STEP_FALLS = (4e-3, 4e-2), (5e-4, 4e-2), 0.17
"""Loss of one step off the optimum at SIZE, in nats, evenly in logs, for the learning rate and for others; the power of
size that it falls with."""

FAR = 2.0
"""Steps from the start to the optimum (deviation), in the game where starting points fit worst."""

COMMON = 0.5
"""Part of the variance of that distance that the cells of a contestant share."""

RATE_FALLS = (-0.23, 0.14)
"""Exponent of tokens in the best learning rate, mean and deviation over eleven optimizers (W, 130M, 1x to 8x)."""

DRIFT = 0.25
"""Steps that the optimum of any other hyperparameter moves when tokens double (deviation). In W optima move by 0.90
steps from a length to twice it and by 1.03 to eight times it. Most of that is noise; what grows with the length is
this."""

Problems = Mapping[tuple[str, str], Problem]
Objectives = Mapping[tuple[str, str], Synthetic]
"""By (cell, contestant)."""


def objectives(problems: Problems, game: int, games: int) -> Objectives:
    """The objectives of one of several games.

    What is common to a study (how well its starting points fit, how noisy its runs are) is spread evenly over the
    games, so that a few of them show its range.
    """
    draw = random.Random(f"landscape {game}")
    far = FAR * (game + draw.random()) / games
    noise = UNSURE ** (2 * ((game * 0.618034 + draw.random() / games) % 1) - 1)
    shapes: dict[str, _Shape] = {}
    made = {}
    for (cell, contestant), problem in problems.items():
        names = problem.space.searched
        shape = shapes.setdefault(contestant, _Shape(draw))
        size = problem.parameters / SIZE
        steps = {name: size**-STEP_FALLS * shape.step(name) for name in names}
        optimum = {name: at + far * shape.away(name) for name, at in start(problem).items()}
        strength = 2 / max(1, len(names) - 1)  # as strong as keeps one optimum
        pairs = {
            (a, b): strength * shape.interaction(a, b) * math.sqrt(steps[a] * steps[b])
            for a, b in itertools.combinations(names, 2)
        }
        sigma = noise * SIGMA * size**-SIGMA_FALLS
        salt = f"{game} {cell} {contestant}"
        drift = drifts(problem, random.Random(f"drift {game} {contestant}"))
        made[cell, contestant] = Synthetic(problem.space, optimum, steps, pairs, sigma, 0.0, salt=salt, drift=drift)
    return made


def at_start(problems: Problems) -> Objectives:
    """Without noise, with every optimum where the search begins and learning rates that follow the law."""
    made = {}
    for place, problem in problems.items():
        optimum, axis = start(problem), problem.space.axes.get("lr")
        drift = {"lr": EXPONENT / math.log2(step_of(axis))} if axis is not None and axis.searched else {}
        made[place] = Synthetic(problem.space, optimum, dict.fromkeys(optimum, 0.01), drift=drift)
    return made


def drifts(problem: Problem, draw: random.Random) -> dict[str, float]:
    """Steps that the optimum of each hyperparameter moves when tokens double."""
    moved = {name: draw.gauss(0, DRIFT) for name in problem.space.searched if problem.space.axes[name].numeric}
    if "lr" in moved:
        moved["lr"] = draw.gauss(*RATE_FALLS) / math.log2(step_of(problem.space.axes["lr"]))
    return moved


def start(problem: Problem) -> dict[str, float]:
    """Where on the grids a search begins."""
    axes = problem.space.axes
    return {name: axes[name].position(problem.start[name]) for name in problem.space.searched}


class _Shape:
    """What the objectives of one contestant have in common in all cells; drawn when it is first asked for."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._known: dict[tuple[str, ...], float] = {}

    def _once(self, name: tuple[str, ...], value: Callable[[], float]) -> float:
        if name not in self._known:
            self._known[name] = value()
        return self._known[name]

    def step(self, name: str) -> float:
        low, high = map(math.log, LR_STEP if name == "lr" else STEP)
        return self._once(("step", name), lambda: math.exp(self._draw.uniform(low, high)))

    def interaction(self, a: str, b: str) -> float:
        return self._once(("pair", a, b), lambda: self._draw.uniform(-1, 1))

    def away(self, name: str) -> float:
        """Normal; part of it the cell's own."""
        common = self._once(("away", name), lambda: self._draw.gauss(0, 1))
        return math.sqrt(COMMON) * common + math.sqrt(1 - COMMON) * self._draw.gauss(0, 1)
