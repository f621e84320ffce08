"""Tests of a contest's contestants: at which number of paired seeds each is decided, and with which intervals.

At n pairs the difference baseline - contestant has mean d and deviation s. The contestant is decided when

    |d| > hypot( c s / sqrt(n),  z R ),

where c is the limit of |t| at n (``sequential``), R the root mean squared difference of the two choices' regrets
(``regret``, zero where no curvature is known) and z the normal quantile, both at the test's level.

**Several contestants.** The level is alpha / k while k of the m contestants beside the baseline are undecided (Holm
1979). The alpha of a decided contestant passes to the others, at the look where it was decided (Maurer and Bretz 2013).
The probability of any wrong verdict, over all looks and contestants, is then at most alpha.

A contestant that is decided gets no more seeds. A contest is a function of its losses: the looks taken do not matter,
because the limits pay for a look at every n.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fairstep.analysis.statistics import Estimate, mean_interval, pooled_deviation, t_quantile, unpaired_difference
from fairstep.analysis.verdict.regret import Neighbours, Regret
from fairstep.analysis.verdict.sequential import limits, open_limit
from fairstep.runs import Design

Decision = Literal["faster", "slower", "not separable"]

ALPHA = 0.05
"""Error probability of a contest that declared none."""

NO_SPREAD = 1e-9
"""Relative deviation of differences below which they count as equal."""


@dataclass(frozen=True)
class Contender:
    """What a contestant is judged by. ``losses``: final runs, seed -> nats per token. ``tried``: configurations of the
    search and their losses. ``chosen``: the configuration of the final runs. ``shorter``: the same on shorter
    schedules, by which the tokens of the final runs are so many ``doublings`` more."""

    losses: Mapping[Any, float]
    tried: Sequence[tuple[Mapping[str, Any], float]] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)
    shorter: Sequence[tuple[Mapping[str, Any], float]] = ()
    doublings: float = 0.0

    @cached_property
    def neighbours(self) -> Neighbours:
        return Neighbours.of(self.tried, self.chosen, self.shorter, self.doublings)


@dataclass(frozen=True)
class Tested:
    """One contestant at one look. ``choice_error``: R in nats, None where no curvature is known. ``limit``: of |t|.

    ``degrees``: of freedom of a comparison without pairs (``unpaired``); None: the difference is of pairs.
    """

    difference: Estimate
    choice_error: float | None
    level: float
    limit: float
    degrees: float | None = None

    @property
    def pairs(self) -> int:
        """0 without pairs."""
        return self.difference.count if self.degrees is None else 0

    @property
    def spread(self) -> bool:
        """Whether the differences are not all equal."""
        return self.difference.count > 1 and self.difference.deviation > NO_SPREAD * max(
            abs(self.difference.value), 1e-3
        )

    @property
    def t(self) -> float:
        """nan without a spread."""
        return self.difference.value / self.difference.standard_error if self.spread else math.nan

    @property
    def decision(self) -> Decision:
        interval = self.interval
        return "faster" if interval.low > 0 else "slower" if interval.high < 0 else "not separable"

    @property
    def interval(self) -> Estimate:
        """The difference with the interval of the test's limit and level."""
        half = self.half_width(self.limit, self.level) if self.spread else math.inf
        d = self.difference
        return Estimate(d.value, d.value - half, d.value + half, d.deviation, d.count)

    def half_width(self, limit: float, level: float) -> float:
        """Half of an interval: noise of seeds and error of the choice in quadrature, in nats."""
        from scipy.special import ndtri

        return math.hypot(limit * self.difference.standard_error, float(-ndtri(level / 2)) * (self.choice_error or 0.0))

    def probability(self, limit_at: Callable[[float], float]) -> float:
        """The smallest level at which this look decides; ``limit_at``: level -> limit of |t|. 1 without a spread."""
        if not self.spread:
            return 1.0
        low, high = math.log(SMALLEST), 0.0
        for _ in range(40):
            middle = (low + high) / 2
            half = self.half_width(limit_at(math.exp(middle)), math.exp(middle))
            low, high = (low, middle) if abs(self.difference.value) > half else (middle, high)
        return math.exp(high)


SMALLEST = 1e-6
"""Smallest probability that is told."""


def looks(design: Design, baseline: Contender, others: Mapping[str, Contender]) -> dict[str, list[Tested]]:
    """Contestant -> its looks in order of n, up to its decision or to the seeds at hand; empty below the first look.

    Pairs are the seeds that both have, in rising order. The family is the design's, and at least the contestants.
    """
    pairs = {name: paired(baseline, other) for name, other in others.items()}
    most = max((len(differences) for differences in pairs.values()), default=0)
    family = max(design.family, len(others), 1)
    taken: dict[str, list[Tested]] = {name: [] for name in others}
    open_ones = set(others)
    for n in range(max(design.first, 1), min(most, design.most or most) + 1):
        tests = {
            name: _test(design, n, baseline, others[name], pairs[name])
            for name in others
            if name in open_ones and len(pairs[name]) >= n
        }
        for name, test in step_down(tests, design, family - len(others) + len(open_ones)).items():
            taken[name].append(test)
            if test.decision != "not separable":
                open_ones.remove(name)
    return taken


def look_once(
    baseline: Contender, others: Mapping[str, Contender], family: int, unpaired: bool = False
) -> dict[str, Tested]:
    """The same for runs without a declared design: one look at all pairs of each contestant.

    ``unpaired``: contestants that share less than half of the smaller side's seeds are compared without pairs.
    """
    tests = {}
    for name, other in others.items():
        pairs = paired(baseline, other)
        if unpaired and len(pairs) < max(min(len(baseline.losses), len(other.losses)) / 2, 2):
            tests[name] = welch(baseline, other)
        elif pairs:
            tests[name] = _test(one_look(len(pairs)), len(pairs), baseline, other, pairs)
    return step_down(tests, None, max(family, len(tests), 1))


def look_alone(baseline: Contender, others: Mapping[str, Contender]) -> dict[str, Tested]:
    """The rule of before designs: the 95 % t-interval of two configurations, each contestant alone."""
    tests = look_once(baseline, others, 1)
    return {name: at_level(replace(test, choice_error=None), None, ALPHA) for name, test in tests.items()}


def step_down(tests: Mapping[str, Tested], design: Design | None, undecided: int) -> dict[str, Tested]:
    """The tests of one look, each at the level that Holm's procedure ends with. ``undecided``: contestants that share
    alpha before it. ``design`` None: one look at the pairs of each test."""
    alpha = ALPHA if design is None else design.alpha
    settled: dict[str, Tested] = {}
    while True:
        level = alpha / max(undecided - len(settled), 1)
        waiting = {name: at_level(test, design, level) for name, test in tests.items() if name not in settled}
        new = {name: test for name, test in waiting.items() if test.decision != "not separable"}
        settled |= new
        if not new or len(settled) == len(tests):
            return {name: settled.get(name) or waiting[name] for name in tests}


def at_level(test: Tested, design: Design | None, level: float) -> Tested:
    """The test at another error probability."""
    if test.degrees is not None:
        return replace(test, level=level, limit=t_limit(test.degrees, level))
    return replace(test, level=level, limit=limit_of(design or one_look(test.pairs), test.pairs, level))


def t_limit(degrees: float, level: float) -> float:
    """Of |t| in a single two-sided test; infinite without a degree of freedom."""
    return t_quantile(degrees, 1 - level / 2) if degrees > 0 else math.inf


def one_look(pairs: int) -> Design:
    """The design of a single look."""
    return Design(first=pairs, most=pairs)


def undecided(design: Design, taken: Mapping[str, list[Tested]], pairs: int) -> list[str]:
    """The contestants that get another seed after a look at ``pairs`` seeds; none at the end of the design."""
    if pairs == design.most:
        return []
    return [name for name, tests in taken.items() if tests and tests[-1].decision == "not separable"]


def limit_of(design: Design, pairs: int, level: float) -> float:
    """The limit of |t| at so many pairs; infinite where the design has no look."""
    if pairs < max(design.first, 2):
        return math.inf
    if design.most is None:
        return open_limit(pairs, level)
    return limits(design.first, design.most, level).get(pairs, math.inf)


def limits_at(design: Design, pairs: int) -> Callable[[float], float]:
    """level -> limit of |t| at so many pairs; of designs with several looks, interpolated between a few levels."""
    if design.most is None or design.most == design.first:
        return lambda level: limit_of(design, pairs, min(level, 1 - 1e-9))
    if not max(design.first, 2) <= pairs <= design.most:
        return lambda level: math.inf
    levels, rows = _table(design.first, design.most)
    logs = np.log([row[pairs] for row in rows])
    return lambda level: float(np.exp(np.interp(math.log(level), np.log(levels), logs)))


@functools.cache
def _table(first: int, most: int) -> tuple[np.ndarray, list[dict[int, float]]]:
    levels = np.geomspace(SMALLEST, 0.9, 12)
    return levels, [limits(first, most, float(level)) for level in levels]


def paired(baseline: Contender, other: Contender) -> dict[Any, float]:
    """Seed -> baseline - contestant in nats, in rising order of seeds."""
    shared = sorted(key for key in baseline.losses if key in other.losses)
    return {key: baseline.losses[key] - other.losses[key] for key in shared}


def welch(baseline: Contender, other: Contender) -> Tested:
    """All runs of both sides without pairs (``unpaired_difference``).

    The difference's ``deviation`` is its standard error times the root of its ``count``, the baseline's runs. 0 degrees
    of freedom where a side has one run: its spread is then not known.
    """
    own = mean_interval(baseline.losses.values())
    d, count = unpaired_difference(own, mean_interval(other.losses.values())), own.count
    estimate = Estimate(d.value, d.low, d.high, d.standard_error * math.sqrt(count), count)
    degrees = d.degrees if math.isfinite(d.degrees) else 0.0
    return Tested(estimate, _choice_error(baseline, other, baseline.losses, other.losses), ALPHA, math.inf, degrees)


def _choice_error(baseline: Contender, other: Contender, *keys: Iterable[Any]) -> float | None:
    """R of two contenders, by the noise of their runs at ``keys`` (the baseline's, the other's). A choice without a
    curvature counts as the best one; None where neither has any."""
    sides = zip((baseline, other), keys, strict=True)
    sigma, _ = pooled_deviation([[side.losses[key] for key in chosen] for side, chosen in sides])
    nothing = Regret(0.0, 0.0)
    regrets = [side.neighbours.regret(sigma) for side in (baseline, other)]
    return None if regrets == [None, None] else (regrets[0] or nothing).difference(regrets[1] or nothing)


def _test(design: Design, n: int, baseline: Contender, other: Contender, differences: Mapping[Any, float]) -> Tested:
    keys = list(differences)[:n]
    error = _choice_error(baseline, other, keys, keys)
    return Tested(mean_interval(differences[key] for key in keys), error, design.alpha, math.inf)
