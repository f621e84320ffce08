"""Results of modded-nanogpt's optimization track by our rule: each against the record before it.

A result is a number of steps to a loss, with the losses of its runs at that step. The record before it is the last
record above it in the track's table, which is in the order of acceptance. Two results are compared by Welch's interval
of their mean losses, since nothing pairs their runs. What their steps differ by is added at ``SLOPE``, which the track
measured near its threshold:

    difference = mean(against) - mean(result) + SLOPE (steps(against) - steps(result)) / 100

At equal steps nothing is added. ``lead`` is the same in steps: what the result would need fewer for the other's loss.
The verdict is *faster* or *slower* where the p-value, corrected by Holm's rule, is at most 5 %. The records are one
family, the other results another: the question whether the record fell is asked of the records only.

What this cannot say: how hard a result was tuned, that its runs share hardware with the other's, and that runs which
were stopped at the first step that passed are as good on other seeds. ``SLOPE`` is taken as known.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fairstep.analysis.statistics import LEVEL, Estimate, Unpaired, mean_interval, plain, unpaired_difference
from fairstep.analysis.verdict.ranking import holm
from fairstep.analysis.verdict.track3_rule import SLOPE, track3, track3_accepts, track3_below
from fairstep.published import track3 as published

Decision = Literal["faster", "slower", "not separable", "one run", "first"]


@dataclass(frozen=True)
class Result:
    """One accepted result. ``mean`` is of ``losses``, at ``steps``; ``printed`` is the mean in the track's table."""

    number: int
    name: str
    steps: int
    record: bool
    losses: tuple[float, ...]
    printed: float
    counts: bool

    @property
    def mean(self) -> Estimate:
        return mean_interval(self.losses)


@dataclass(frozen=True)
class Lead:
    """How far a result is ahead of another: ``difference`` in nats (above 0 is better), and in steps."""

    difference: Unpaired
    steps: float
    low: float
    high: float


@dataclass(frozen=True)
class Step:
    """A result against the record before it. ``probability`` is of the pair alone, ``holm_probability`` of its family;
    both nan where a side has one run. ``track3_probability``, ``track3_better``: what the track's own rule says."""

    result: Result
    against: Result | None
    lead: Lead | None
    verdict: Decision
    probability: float
    holm_probability: float
    track3_probability: float
    track3_better: bool | None


@functools.cache
def results() -> dict[int, Result]:
    """Number -> result, in the order of acceptance."""
    losses = published.losses()
    return {
        row["number"]: Result(
            number=row["number"],
            name=row["name"],
            steps=row["steps"],
            record=row["record"],
            losses=losses[row["number"]],
            printed=float(row["printed_mean"]),
            counts=row["counts"],
        )
        for row in published.results().iter_rows(named=True)
    }


def lead(result: Result, against: Result, slope: float = SLOPE) -> Lead:
    """``result`` ahead of ``against``; ``slope``: nats per 100 steps."""
    return lead_of(result.mean, result.steps, against.mean, against.steps, slope)


def lead_of(mean: Estimate, steps: int, against: Estimate, against_steps: int, slope: float = SLOPE) -> Lead:
    """``lead`` of two means with their steps."""
    difference = unpaired_difference(against, mean, slope * (against_steps - steps) / 100)
    return Lead(difference, *(100 * value / slope for value in (difference.value, difference.low, difference.high)))


def predecessors(all_results: Sequence[Result]) -> dict[int, Result]:
    """Result -> the last record before it in the list; the first result has none."""
    found: dict[int, Result] = {}
    standing: Result | None = None
    for result in all_results:
        if standing is not None:
            found[result.number] = standing
        if result.record:
            standing = result
    return found


def judged(slope: float = SLOPE) -> list[Step]:
    """All results in the order of acceptance."""
    listed = list(results().values())
    before = predecessors(listed)
    leads = {number: lead(results()[number], against, slope) for number, against in before.items()}
    corrected: dict[int, float] = {}
    for record in (True, False):
        family = [
            number
            for number, found in leads.items()
            if results()[number].record == record and math.isfinite(found.difference.degrees)
        ]
        corrected |= zip(family, holm([leads[number].difference.probability for number in family]), strict=True)
    return [
        _step(result, before.get(result.number), leads.get(result.number), corrected.get(result.number, math.nan))
        for result in listed
    ]


def _step(result: Result, against: Result | None, found: Lead | None, corrected: float) -> Step:
    if against is None or found is None:
        return Step(result, None, None, "first", math.nan, math.nan, math.nan, None)
    fewer = against.steps - result.steps
    verdict: Decision = "one run" if math.isnan(corrected) else "not separable"
    if corrected <= 1 - LEVEL:
        verdict = "faster" if found.difference.value > 0 else "slower"
    return Step(
        result,
        against,
        found,
        verdict,
        found.difference.probability,
        corrected,
        track3(result.losses, against.losses, steps=fewer),
        track3_accepts(result.losses, against.losses, steps=fewer),
    )


def result_rows(slope: float = SLOPE) -> list[dict[str, Any]]:
    """Flat JSON of ``judged``: losses in nats per token, null where nothing is known.

    ``loss_low`` and ``loss_high`` are the t-interval of the mean, ``sigma`` the deviation over runs, ``note`` says why
    ``printed_loss`` is not the mean of the logs, ``below_probability`` is the track's one-sided p-value that the mean
    is not below 3.28. ``against`` is the number of the record before; ``difference`` and ``lead_steps`` have their 95 %
    intervals, of this pair alone.
    """
    rows = []
    for step in judged(slope):
        result, mean, found = step.result, step.result.mean, step.lead
        row: dict[str, Any] = {
            "number": result.number,
            "name": result.name,
            "steps": result.steps,
            "record": result.record,
            "runs": len(result.losses),
            "loss": mean.value,
            "loss_low": mean.low,
            "loss_high": mean.high,
            "sigma": mean.deviation,
            "printed_loss": result.printed,
            "note": published.PRINTED_OTHERWISE.get(result.number, ""),
            "below_probability": track3_below(result.losses),
            "against": step.against.number if step.against else None,
            "difference": found.difference.value if found else math.nan,
            "difference_low": found.difference.low if found else math.nan,
            "difference_high": found.difference.high if found else math.nan,
            "lead_steps": found.steps if found else math.nan,
            "lead_low": found.low if found else math.nan,
            "lead_high": found.high if found else math.nan,
            "probability": step.probability,
            "holm_probability": step.holm_probability,
            "verdict": step.verdict,
            "track3_probability": step.track3_probability,
            "track3_better": step.track3_better,
        }
        rows.append({key: plain(value) for key, value in row.items()})
    return rows
