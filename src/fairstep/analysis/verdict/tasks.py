"""Whether a lower loss transfers to tasks: the scores of final runs, paired over seeds as texts are (``held_out``)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.held_out import Seeds, Transfer, difference, signal_over_noise, transfer_of


@dataclass(frozen=True)
class TaskDifference:
    """A contestant's mean score on a task, and its score minus the baseline's. ``low`` and ``high``: 95 % t-interval
    of the pairs, nan for fewer than two; of the baseline all three are nan."""

    name: str
    mean: float
    difference: float
    low: float
    high: float
    transfer: Transfer


@dataclass(frozen=True)
class Task:
    """A task by one of its metrics, with every contestant that has scores."""

    name: str
    signal_over_noise: float
    contestants: tuple[TaskDifference, ...]


def tasks(
    trials: Trials,
    scores: Mapping[str, Mapping[str, float]],
    falling: Collection[str] = (),
    decided: Collection[str] = (),
) -> list[Task]:
    """The tasks by falling signal over noise. ``scores``: run -> task -> score; ``falling``: the tasks whose score
    falls with quality; ``decided``: the contestants that a verdict separates from the baseline."""
    found = []
    for task in dict.fromkeys(name for of in scores.values() for name in of):
        values = _by_seeds(trials, task, scores)
        rows = tuple(_row(trials, name, values, task not in falling, name in decided) for name in values)
        found.append(Task(task, signal_over_noise(values), rows))
    return sorted(
        found, key=lambda task: -task.signal_over_noise if math.isfinite(task.signal_over_noise) else math.inf
    )


def _by_seeds(trials: Trials, task: str, scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[Seeds, float]]:
    """Contestant -> seeds -> score, of the contestants that have scores."""
    values: dict[str, dict[Seeds, float]] = {}
    for name in trials.names:
        for row in trials[name].finals:
            score = scores.get(row["run"], {}).get(task)
            if score is not None:
                values.setdefault(name, {})[row["init_seed"], row["data_seed"]] = score
    return values


def _row(
    trials: Trials, name: str, values: Mapping[str, Mapping[Seeds, float]], rises: bool, decided: bool
) -> TaskDifference:
    mean = statistics.fmean(values[name].values())
    change = None if name == trials.baseline else difference(values.get(trials.baseline, {}), values[name])
    if change is None:
        return TaskDifference(name, mean, math.nan, math.nan, math.nan, "nothing to transfer")
    own = difference(trials[trials.baseline].losses, trials[name].losses)
    low, high = (change.low, change.high) if change.has_interval else (math.nan, math.nan)
    transfer = transfer_of(own, change, rises) if decided else "nothing to transfer"
    return TaskDifference(name, mean, change.value, low, high, transfer)
