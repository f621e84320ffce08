"""Seconds of a step that do not depend on what else the machine did.

Forward and backward pass are the same work for every contestant, and trials run beside one another and beside other
programs. So the model's part of a step is pooled: the median over the final runs of all contestants. A contestant adds
its optimizer's part as a ratio to the model's part *of the same run*, because load slows both. The optimizer's part has
its signals (Sophia's Hessian, the second gradient of exact MARS) in it. The interval of a ratio is Student's t over the
final runs, and the interval of a speedup in time joins the least favourable ends of both intervals. The load of the
machine meanwhile is told beside them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from fairstep.analysis.statistics import Estimate, mean_interval
from fairstep.analysis.trials import Row, Trials
from fairstep.analysis.verdict.wording import plural

UNKNOWN = Estimate(math.nan, -math.inf, math.inf, math.nan, 0)


@dataclass(frozen=True)
class StepTimes:
    """``model_seconds``: of forward and backward pass, nan where nothing is known. ``shares``: contestant -> its
    optimizer's seconds over the model's."""

    model_seconds: float
    shares: Mapping[str, Estimate]

    @classmethod
    def of(cls, trials: Trials) -> StepTimes:
        parts = {name: [_parts(trials, row) for row in trials[name].finals] for name in trials.names}
        known = {name: [pair for pair in pairs if pair is not None] for name, pairs in parts.items()}
        models = [model for pairs in known.values() for model, _ in pairs]
        shares = {name: mean_interval(own / model for model, own in pairs) for name, pairs in known.items() if pairs}
        return cls(statistics.median(models) if models else math.nan, shares)

    def optimizer_seconds(self, name: str) -> float:
        return self.model_seconds * self.shares.get(name, UNKNOWN).value

    def step_seconds(self, name: str) -> float:
        return self.model_seconds + self.optimizer_seconds(name)

    def ratio(self, baseline: str, name: str) -> tuple[float, float, float]:
        """Seconds of the baseline's step over the contestant's, with the ends of its interval."""
        base, own = (self.shares.get(one, UNKNOWN) for one in (baseline, name))
        if not (base.has_interval and own.has_interval):
            return (1 + base.value) / (1 + own.value), -math.inf, math.inf
        low = (1 + max(base.low, 0.0)) / (1 + own.high)
        return (1 + base.value) / (1 + own.value), low, (1 + base.high) / (1 + max(own.low, 0.0))


Load = dict[str, float | int | None]
"""``median`` and ``most`` of a machine's load, and its ``cores`` (None: not known)."""


def load_of(trials: Trials) -> Load | None:
    """The machine's load while the final runs were timed; None where no run says."""
    runs = [run for name in trials.names for row in trials[name].finals if (run := trials.runs.get(row["run"]))]
    loads = [load for run in runs for row in run.timings() if isinstance(load := row.get("load"), int | float)]
    cores = [count for run in runs if isinstance(count := run.environment.get("cores"), int)]
    if not loads:
        return None
    return {"median": statistics.median(loads), "most": max(loads), "cores": max(cores, default=0) or None}


def load_note(load: Load) -> str:
    """The load in a sentence."""
    cores = load["cores"]
    where = f" of {plural(int(cores), 'core')}" if cores else ""
    text = (
        f"Step times are of a machine{where} whose load was {load['median']:.1f} meanwhile, at most {load['most']:.1f}"
    )
    if cores and (load["median"] or 0) > cores + 0.5:
        text += "; more ran than it has cores, so steps took longer than on a quiet machine"
    return text + ". Verdicts at equal time rest on ratios within runs, which load changes little."


def _parts(trials: Trials, row: Row) -> tuple[float, float] | None:
    """Seconds of a step of a final run: the model's, and the optimizer's with its signals. None for a run that was
    taken from a store of another machine."""
    step, optimizer = row["step_seconds"], row["optimizer_seconds"]
    if row["status"] != "done" or not step or optimizer is None:
        return None
    run = trials.runs.get(row["run"])
    if run is not None and trials.ledger and trials.ledger.baseline_from and "taken_from" in run.environment:
        return None
    signals = [timing.get("signals_seconds", 0.0) for timing in run.timings()] if run else []
    own = optimizer + statistics.fmean(signals or [0.0])
    return (step - own, own) if step > own else None
