"""From trials to verdicts: faster, slower or not separable, and the words for what could not be judged.

A contestant is judged by its *final* runs alone: the chosen hyperparameters on seeds that the search has not seen.
The best of many noisy tuning losses is too good by selection and is never a result. The test is the t-interval of
the paired difference of final losses, baseline - contestant, at 95 % for each contestant by itself: where two equal
optimizers are compared often, 1 comparison in 20 is wrongly separated (half of them "faster").

A diverged final run is a result, but not a number: the mean of the seeds that survived would flatter, so no loss is
given and the verdict is "diverged". A missing or failed final run makes the verdict "incomplete".
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fairstep.analysis.speedup import BaselineCurve, Bound, token_speedup
from fairstep.analysis.statistics import AnalysisError, Estimate, mean_interval, paired_difference
from fairstep.analysis.wording import gap_text, plural

if TYPE_CHECKING:
    import polars as pl

Outcome = Literal["faster", "slower", "not separable", "baseline", "diverged", "incomplete"]
Row = dict[str, Any]
NAN = math.nan


@dataclass(frozen=True)
class Verdict:
    """What is known about one contestant. Numbers that cannot be given are nan; intervals that cannot, infinite.

    Losses, ``difference`` (baseline - contestant: above 0 is better) and ``sigma`` (deviation over seeds) are nats per
    token. ``speedup`` is in tokens; ``time_speedup`` is the same times the ratio of seconds per step. Seconds are
    medians over the final runs. ``trials`` and ``tokens_spent`` are search and finals, finished runs only; what the
    baseline's other budgets cost is in ``budget_trials`` and ``budget_tokens``, since it does not help the baseline.
    """

    name: str
    verdict: Outcome
    reason: str
    loss: float = NAN
    loss_low: float = NAN
    loss_high: float = NAN
    speedup: float = NAN
    speedup_low: float = NAN
    speedup_high: float = NAN
    speedup_bound: Bound | None = None
    speedup_limits: tuple[float, float] | None = None
    time_speedup: float = NAN
    difference: float = NAN
    difference_low: float = NAN
    difference_high: float = NAN
    sigma: float = NAN
    seeds: int = 0
    final_losses: tuple[float | None, ...] = ()
    step_seconds: float = NAN
    optimizer_seconds: float = NAN
    state_bytes: int | None = None
    trials: int = 0
    tuning_trials: int = 0
    tokens_spent: int = 0
    budget_trials: int = 0
    budget_tokens: int = 0
    lr: float | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)

    def row(self) -> Row:
        """A flat JSON row; what is not finite becomes null."""
        return {key: _json(value) for key, value in asdict(self).items()}


def verdicts(trials: pl.DataFrame, baseline: str, contestants: Sequence[str] | None = None) -> list[Verdict]:
    """One verdict for each contestant, lowest loss first, then those without a loss.

    ``trials`` is ``runs.table.trial_table``; ``contestants`` adds those without trials yet. Raises AnalysisError when
    the baseline has no trials, or when final and budget runs do not share one workload.
    """
    rows = trials.to_dicts()
    names = list(dict.fromkeys([*(contestants or ()), *(row["contestant"] for row in rows)]))
    if not any(row["contestant"] == baseline for row in rows):
        known = ", ".join(name for name in names if name != baseline) or "no contestant"
        raise AnalysisError(f"the baseline {baseline!r} has no trials in this contest, which has those of {known}")
    _check_comparable(rows)
    base = _Evidence(baseline, rows)
    curve = _curve(base, rows)
    found = [_judge(_Evidence(name, rows), base, curve) for name in names]
    return sorted(found, key=lambda v: (math.isnan(v.loss), v.loss))


def baseline_curve(trials: pl.DataFrame, baseline: str) -> BaselineCurve | None:
    """The baseline's losses against tokens, or None while it has no final loss."""
    rows = trials.to_dicts()
    return _curve(_Evidence(baseline, rows), rows)


def final_losses(rows: Iterable[Row], contestant: str) -> dict[tuple[int, int], float]:
    """(init_seed, data_seed) -> loss of the final runs that count: finished, and not used by the search."""
    return _Evidence(contestant, rows).losses


class _Evidence:
    """The trials of one contestant, sorted by what they were for."""

    def __init__(self, name: str, rows: Iterable[Row]) -> None:
        self.name = name
        self.trials = [row for row in rows if row["contestant"] == name]
        self.tuning = [row for row in self.trials if row["phase"] == "tune"]
        searched = {row["run"] for row in self.tuning}
        # The search chose by these very runs, so they are not fresh evidence.
        self.finals = [row for row in self.trials if row["phase"] == "final" and row["run"] not in searched]
        if len({row["hyperparameters"] for row in self.finals if row["hyperparameters"] is not None}) > 1:
            raise AnalysisError(
                f"the final runs of {name!r} have different hyperparameters; all seeds of a final must share them"
            )
        self.losses = {
            (row["init_seed"], row["data_seed"]): float(row["final_loss"])
            for row in self.finals
            if row["status"] == "done" and row["final_loss"] is not None
        }

    def count(self, status: str) -> int:
        return sum(row["status"] == status for row in self.finals)

    def problem(self) -> tuple[Outcome, str] | None:
        """Why the finals give no loss, if they do not."""
        if not self.finals:
            ended = [row for row in self.tuning if row["status"] in ("done", "diverged")]
            if ended and all(row["status"] == "diverged" for row in self.tuning):
                return "diverged", f"all {plural(len(ended), 'tuning run')} diverged, so there was nothing to repeat"
            return "incomplete", "no final run on fresh seeds yet"
        total = len(self.finals)
        if diverged := self.count("diverged"):
            return "diverged", f"{diverged} of {plural(total, 'final run')} diverged, so no mean loss is given"
        if failed := self.count("failed"):
            message = next(row["message"] for row in self.finals if row["status"] == "failed")
            return "incomplete", f"{failed} of {plural(total, 'final run')} failed" + (
                f": {message}" if message else ""
            )
        if len(self.losses) < total:
            return "incomplete", f"{total - len(self.losses)} of {plural(total, 'final run')} still to finish"
        return None

    def facts(self) -> Row:
        """Costs and choices, which need no verdict."""
        spent = {row["run"]: row for row in self.trials if row["status"] in ("done", "diverged")}
        tuning = {row["run"] for row in self.tuning} & spent.keys()
        budget = {row["run"] for row in self.trials if row["phase"] == "budget"} & spent.keys()
        done = [row for row in self.finals if row["status"] == "done"]
        chosen = next((row for row in self.finals if row["hyperparameters"] is not None), None)
        return {
            "seeds": len(self.losses),
            "final_losses": tuple(row["final_loss"] for row in self.finals),
            "step_seconds": _median(row["step_seconds"] for row in done),
            "optimizer_seconds": _median(row["optimizer_seconds"] for row in done),
            "state_bytes": done[0]["state_bytes"] if done else None,
            "trials": len(spent) - len(budget),
            "tuning_trials": len(tuning),
            "tokens_spent": sum(row["tokens"] or 0 for run, row in spent.items() if run not in budget),
            "budget_trials": len(budget),
            "budget_tokens": sum(row["tokens"] or 0 for run, row in spent.items() if run in budget),
            "lr": chosen["lr"] if chosen else None,
            "hyperparameters": json.loads(chosen["varied"]) if chosen else {},
        }


def _judge(contestant: _Evidence, base: _Evidence, curve: BaselineCurve | None) -> Verdict:
    facts = contestant.facts()
    problem = contestant.problem()
    if contestant.losses and not (problem and problem[0] == "diverged"):
        loss = mean_interval(contestant.losses.values())
        facts |= {"loss": loss.value, "loss_low": loss.low, "loss_high": loss.high, "sigma": loss.deviation}
    if problem:
        return Verdict(contestant.name, *problem, **facts)
    if contestant.name == base.name:
        reason = f"the measuring stick, trained at {plural(len(curve.tokens) if curve else 0, 'budget')}"
        own = dict.fromkeys(("speedup", "speedup_low", "speedup_high", "time_speedup"), 1.0)
        own |= dict.fromkeys(("difference", "difference_low", "difference_high"), 0.0)
        return Verdict(base.name, "baseline", reason, **own, **facts)  # type: ignore[arg-type]
    if base.problem() or curve is None:
        why = base.problem()
        return Verdict(
            contestant.name, "incomplete", f"the baseline cannot be compared with: {why and why[1]}", **facts
        )
    try:
        difference = paired_difference(base.losses, contestant.losses)
    except AnalysisError:
        reason = f"shares no final seed with {base.name}, so a paired test is impossible"
        return Verdict(contestant.name, "not separable", reason, **facts)
    judged = Verdict(
        contestant.name,
        _outcome(difference),
        _reason(difference, base.name),
        difference=difference.value,
        difference_low=difference.low,
        difference_high=difference.high,
        **facts,
    )
    if len(curve.tokens) == 1:
        return judged
    speedup = token_speedup(curve, difference, _tokens(base), tuple(contestant.losses.values()))
    return replace(
        judged,
        speedup=speedup.value,
        speedup_low=speedup.low if difference.has_interval else -math.inf,
        speedup_high=speedup.high if difference.has_interval else math.inf,
        speedup_bound=speedup.bound,
        speedup_limits=speedup.limits,
        time_speedup=speedup.value * base.facts()["step_seconds"] / (judged.step_seconds or NAN),
    )


def _outcome(difference: Estimate) -> Outcome:
    return "faster" if difference.low > 0 else "slower" if difference.high < 0 else "not separable"


def _reason(difference: Estimate, baseline: str) -> str:
    if not difference.has_interval:
        return f"only one seed is shared with {baseline}, which gives no interval; two or more would"
    return gap_text(difference.value, difference.low, difference.high, baseline, difference.count)


def _curve(base: _Evidence, rows: Iterable[Row]) -> BaselineCurve | None:
    """Final runs at the contest's budget and the baseline's budget runs at the others, by tokens trained."""
    if not base.losses:
        return None
    at: dict[int, list[float]] = {_tokens(base): list(base.losses.values())}
    for row in rows:
        if row["contestant"] == base.name and row["phase"] == "budget" and row["status"] == "done":
            at.setdefault(int(row["tokens"]), []).append(float(row["final_loss"]))
    return BaselineCurve.of(at)


def _tokens(base: _Evidence) -> int:
    return int(next(row["tokens"] for row in base.finals if row["status"] == "done"))


def _check_comparable(rows: Iterable[Row]) -> None:
    """Refuse final and budget runs of different workloads, and final runs of different budgets."""
    seen: dict[str, tuple[str, Any]] = {}
    for row in rows:
        if row["phase"] == "tune" or row["workload"] is None:
            continue
        values = _flat(json.loads(row["workload"]))
        if row["phase"] == "final":
            values["tokens"] = row["budget_tokens"]
        differing = [
            f"{key} ({seen[key][1]} in {seen[key][0]}, {value} in {row['run']})"
            for key, value in values.items()
            if seen.setdefault(key, (row["run"], value))[1] != value
        ]
        if differing:
            raise AnalysisError(
                f"runs of different workloads cannot be compared; they differ in {', '.join(differing)}"
            )


def _flat(value: Row, prefix: str = "") -> Row:
    flat: Row = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else NAN


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value
