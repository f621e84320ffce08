"""From trials to verdicts: faster, slower or not separable, and why a contestant could not be judged.

A contestant is judged by its *final* runs alone: the chosen hyperparameters on seeds that the search has not seen. The
best of many noisy tuning losses is too low by selection and is never a result. ``looks`` has the test: the paired
difference of final losses, baseline - contestant, at the seeds of the ledger's design, corrected for the number of
contestants, with an interval that covers the choice of the hyperparameters that were searched.

A ledger from before designs is judged as it was declared: each contestant alone, by the 95 % t-interval of two
configurations. Trials that come from no ledger are judged by one look at the seeds that they have.

A diverged final run is a result without a number. The mean of the surviving seeds would flatter, so no loss is given
and the verdict is "diverged". A missing or failed final run makes the verdict "incomplete".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fairstep.analysis.laws.slope import REACH, Slope
from fairstep.analysis.statistics import (
    Z95,
    AnalysisError,
    Estimate,
    mean_interval,
    paired_difference,
    plain,
    pooled_deviation,
    share_interval,
)
from fairstep.analysis.trials import ContestantTrials, Row, Trials
from fairstep.analysis.verdict.comparable import check_comparable
from fairstep.analysis.verdict.looks import (
    ALPHA,
    Contender,
    Tested,
    at_level,
    limits_at,
    look_alone,
    look_once,
    looks,
    one_look,
    t_limit,
)
from fairstep.analysis.verdict.ranking import holm
from fairstep.analysis.verdict.speedup import Bound, token_speedup
from fairstep.analysis.verdict.step_time import StepTimes
from fairstep.analysis.verdict.wording import gap_text, limit_text, plural, runs_text
from fairstep.runs import SEARCHES, Design

if TYPE_CHECKING:
    import polars as pl

Outcome = Literal["faster", "slower", "not separable", "baseline", "diverged", "incomplete"]
NAN = math.nan

LEAST_SPEEDUP = 0.005
"""A speedup nearer to 1 would be printed as 1.00x, which is neither faster nor slower."""


@dataclass(frozen=True)
class Verdict:
    """What is known about one contestant. Numbers that cannot be given are nan; intervals that cannot, infinite.

    Losses, ``difference`` (baseline - contestant: above 0 is better) and ``sigma`` (deviation over seeds) are nats per
    token. ``speedup`` is in tokens; ``time_speedup`` is the same times the ratio of seconds per step
    (``step_time``), and ``time_verdict`` its word (empty where no interval is known). Seconds are the model's part
    pooled over all contestants plus the optimizer's own. ``trials`` and ``tokens_spent`` are search and finals,
    finished runs only; what the baseline's other budgets cost is in ``budget_trials`` and ``budget_tokens``, since it
    does not help the baseline.
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
    time_speedup_low: float = NAN
    time_speedup_high: float = NAN
    time_verdict: str = ""
    difference: float = NAN
    difference_low: float = NAN
    difference_high: float = NAN
    simultaneous_low: float = NAN
    simultaneous_high: float = NAN
    speedup_simultaneous_low: float = NAN
    speedup_simultaneous_high: float = NAN
    pairs: int = 0
    t: float = NAN
    limit: float = NAN
    level: float = NAN
    choice_error: float | None = None
    probability: float = NAN
    holm_probability: float = NAN
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
        """A flat JSON row; what is not finite becomes null. ``rate_error`` is the former name of ``choice_error``."""
        return {key: plain(value) for key, value in asdict(self).items()} | {"rate_error": plain(self.choice_error)}


def verdicts(
    trials: Trials | pl.DataFrame | Iterable[Mapping[str, Any]],
    baseline: str = "",
    contestants: Sequence[str] | None = None,
) -> list[Verdict]:
    """One verdict for each contestant, lowest loss first, then those without a loss.

    ``trials`` are Trials, or the rows that ``Trials.from_rows`` takes; with rows, ``baseline`` names the measuring
    stick and ``contestants`` adds contestants without trials. Raises AnalysisError when the baseline has no trials,
    or when final and budget runs do not share one workload.
    """
    if not isinstance(trials, Trials):
        trials = Trials.from_rows(trials, baseline, contestants or ())
    base = trials[trials.baseline]
    if not base.rows:
        others = ", ".join(name for name in trials.names if name != base.name) or "no contestant"
        raise AnalysisError(f"the baseline {base.name!r} has no trials in this contest, which has only {others}")
    check_comparable(trials.rows, lengths=trials.slope is None)
    rule = Rule.of(trials)
    tests = rule.tests(trials)
    corrected = rule.holm(tests)
    times = StepTimes.of(trials)
    judged = []
    for name in trials.names:
        verdict = _timed(_judge(rule, trials, trials[name], base, tests.get(name)), times, base.name)
        judged.append(replace(verdict, holm_probability=corrected.get(name, NAN)))
    return sorted(judged, key=lambda verdict: (math.isnan(verdict.loss), verdict.loss))


def _problem(rule: Rule, contestant: ContestantTrials) -> tuple[Outcome, str] | None:
    """Why the finals give no loss, if they do not."""
    finals, tuning = contestant.finals, contestant.tuning
    if not finals:
        ended = [row for row in tuning if row["status"] in ("done", "diverged")]
        if ended and all(row["status"] == "diverged" for row in tuning):
            return "diverged", f"all {plural(len(ended), 'tuning run')} diverged, so there was nothing to repeat"
        return "incomplete", "no final run on fresh seeds yet"
    total = len(finals)
    if diverged := contestant.count("diverged"):
        low, high = (f"{100 * end:.2g}" if end < 0.995 else "100" for end in share_interval(diverged, total))
        share = f"{diverged} of {plural(total, 'final run')} diverged ({low} to {high} % at 95 %)"
        return "diverged", f"{share}, so no mean loss is given"
    if failed := contestant.count("failed"):
        message = next(row["message"] for row in finals if row["status"] == "failed")
        return "incomplete", f"{failed} of {plural(total, 'final run')} failed" + (f": {message}" if message else "")
    if len(contestant.losses) < min(total, rule.design.first if rule.design else total):
        return "incomplete", f"{total - len(contestant.losses)} of {plural(total, 'final run')} still to finish"
    return None


def _facts(contestant: ContestantTrials) -> Row:
    """Costs and choices, which need no verdict."""
    ended = {row["run"]: row for row in contestant.rows if row["status"] in ("done", "diverged")}
    tuning = {row["run"] for row in contestant.rows if row["phase"] in SEARCHES} & ended.keys()
    budget = {row["run"] for row in contestant.rows if row["phase"] == "budget"} & ended.keys()
    done = [row for row in contestant.finals if row["status"] == "done"]
    chosen = next((row for row in contestant.finals if row["hyperparameters"] is not None), None)
    return {
        "seeds": len(contestant.losses),
        "final_losses": tuple(row["final_loss"] for row in contestant.finals),
        "state_bytes": done[0]["state_bytes"] if done else None,
        "trials": len(ended) - len(budget),
        "tuning_trials": len(tuning),
        "tokens_spent": sum(row["tokens"] or 0 for run, row in ended.items() if run not in budget),
        "budget_trials": len(budget),
        "budget_tokens": sum(row["tokens"] or 0 for run, row in ended.items() if run in budget),
        "lr": chosen["lr"] if chosen else None,
        "hyperparameters": json.loads(chosen["varied"]) if chosen else {},
    }


@dataclass(frozen=True)
class Rule:
    """How the contestants of a contest are tested: the ledger's design, one look, or as before designs."""

    design: Design | None
    family: int
    """Contestants beside the baseline that alpha is shared among."""
    legacy: bool = False

    @classmethod
    def of(cls, trials: Trials) -> Rule:
        design = trials.ledger.design if trials.ledger else trials.design
        others = sum(bool(trials[name].finals) for name in trials.names if name != trials.baseline)
        family = max(others, design.family if design else 0, 1)
        design = design and design.model_copy(update={"family": family})
        return cls(design, family, (trials.ledger is not None or trials.before_designs) and design is None)

    def tests(self, trials: Trials) -> dict[str, Tested]:
        """Contestant -> its last look, of the contestants that can be compared with the baseline."""
        base = trials[trials.baseline]
        if _problem(self, base):
            return {}
        members = [trials[name] for name in trials.names if name != base.name]
        others = {
            member.name: contender(member, trials.shift(member.name))
            for member in members
            if not _problem(self, member)
        }
        if self.design is not None:
            taken = looks(self.design, contender(base), others)
            return {name: tests[-1] for name, tests in taken.items() if tests}
        if self.legacy:
            return look_alone(contender(base), others)
        return look_once(contender(base), others, self.family, trials.unpaired)

    def probability(self, test: Tested) -> float:
        """p-value of a contestant alone, over all looks of the design."""
        degrees = test.degrees
        if degrees is not None:
            return test.probability(lambda level: t_limit(degrees, min(level, 1 - 1e-9)))
        return test.probability(limits_at(self.design or one_look(test.pairs), test.pairs))

    def holm(self, tests: Mapping[str, Tested]) -> dict[str, float]:
        """p-values corrected for the family."""
        alone = [self.probability(test) for test in tests.values()]
        absent = max(self.family - len(alone), 0)
        return dict(zip(tests, holm([*alone, *[1.0] * absent]), strict=False))

    def intervals(self, test: Tested) -> tuple[Estimate, Estimate]:
        """The difference with the 95 % interval of this contestant alone, and of all contestants together."""
        alone, together = (at_level(test, self.design, level) for level in (ALPHA, ALPHA / self.family))
        return alone.interval, together.interval


def contender(contestant: ContestantTrials, shift: float = 0.0) -> Contender:
    """What it is judged by. ``shift``: nats that are added to its losses, for another length."""
    losses = {seeds: loss + shift for seeds, loss in contestant.losses.items()} if shift else contestant.losses
    return Contender(losses, contestant.tried, contestant.chosen or {}, *contestant.shorter)


def _judge(
    rule: Rule, trials: Trials, contestant: ContestantTrials, base: ContestantTrials, test: Tested | None
) -> Verdict:
    name, facts, problem = contestant.name, _facts(contestant), _problem(rule, contestant)
    curve = trials.curve
    if contestant.losses and not (problem and problem[0] == "diverged"):
        loss = mean_interval(contestant.losses.values())
        facts |= {"loss": loss.value, "loss_low": loss.low, "loss_high": loss.high, "sigma": loss.deviation}
    if problem:
        outcome, reason = problem
        if outcome == "diverged" and not _problem(rule, base):
            reason += _given_no_divergence(contestant, base)
        return Verdict(name, outcome, reason, **facts)
    if name == base.name:
        reason = f"the measuring stick, trained at {plural(len(curve.tokens) if curve else 0, 'budget')}"
        facts |= dict.fromkeys(("speedup", "speedup_low", "speedup_high", "time_speedup"), 1.0)
        facts |= dict.fromkeys(("difference", "difference_low", "difference_high"), 0.0)
        return Verdict(name, "baseline", reason, **facts)
    why = _problem(rule, base)
    if why or curve is None or trials.tokens is None:
        said = f"of {base.name}, {why[1]}" if why and why[0] == "diverged" else why and why[1]
        return Verdict(name, "incomplete", f"the baseline cannot be compared with: {said}", **facts)
    if test is None:
        reason = f"shares no final seed with {base.name}, so a paired test is impossible"
        return Verdict(name, "not separable", reason, **facts)
    alone, together = rule.intervals(test)
    judged = Verdict(
        name,
        test.decision,
        _reason(rule, trials, contestant, test, alone),
        difference=alone.value,
        difference_low=alone.low,
        difference_high=alone.high,
        simultaneous_low=together.low,
        simultaneous_high=together.high,
        pairs=test.pairs,
        t=test.t,
        limit=test.limit,
        level=test.level,
        choice_error=test.choice_error,
        probability=rule.probability(test),
        **facts,
    )
    if trials.slope is not None:
        return _least(_by_slope(judged, trials.slope, alone, together, trials.length(name) or trials.tokens))
    if len(curve.tokens) == 1 or curve.rises:
        return judged
    losses = tuple(contestant.losses.values())
    speedup = token_speedup(curve, alone, trials.tokens, losses)
    joint = token_speedup(curve, together, trials.tokens, losses)
    judged = replace(
        judged,
        speedup=speedup.value,
        speedup_low=speedup.low if alone.has_interval else -math.inf,
        speedup_high=speedup.high if alone.has_interval else math.inf,
        speedup_simultaneous_low=joint.low if together.has_interval else -math.inf,
        speedup_simultaneous_high=joint.high if together.has_interval else math.inf,
        speedup_bound=speedup.bound,
        speedup_limits=speedup.limits,
    )
    return _least(judged)


def _least(judged: Verdict) -> Verdict:
    """No verdict on a speedup that would be printed as 1.00x."""
    if judged.verdict == "not separable" or judged.speedup_bound or not abs(judged.speedup - 1) < LEAST_SPEEDUP:
        return judged
    small = f"the speedup is {judged.speedup:.4f}x; below {100 * LEAST_SPEEDUP:g} % of the tokens there is no verdict"
    return replace(judged, verdict="not separable", reason=f"{judged.reason}; {small}")


def _by_slope(judged: Verdict, slope: Slope, alone: Estimate, together: Estimate, length: int) -> Verdict:
    """With the speedup by a stated slope, within the reach of a straight line."""
    value, low, high = slope.ratios(alone, length)
    _, joint_low, joint_high = slope.ratios(together, length)
    least, most = REACH

    def within(ratio: float) -> float:
        return min(max(ratio, least), most) if math.isfinite(ratio) else ratio

    return replace(
        judged,
        reason=f"{judged.reason}; by a slope of {slope}",
        speedup=within(value),
        speedup_low=within(low),
        speedup_high=within(high),
        speedup_simultaneous_low=within(joint_low),
        speedup_simultaneous_high=within(joint_high),
        speedup_bound="at least" if value > most else "at most" if value < least else None,
        speedup_limits=REACH,
    )


def _given_no_divergence(contestant: ContestantTrials, base: ContestantTrials) -> str:
    """The paired difference of the runs that did not diverge, in words; empty below two pairs."""
    try:
        difference = paired_difference(base.losses, contestant.losses)
    except AnalysisError:
        return ""
    if not difference.has_interval or not difference.deviation:
        return ""
    gap = gap_text(difference.value, difference.low, difference.high, base.name, difference.count)
    return f"; given no divergence it is {gap}"


def _timed(verdict: Verdict, times: StepTimes, baseline: str) -> Verdict:
    """With seconds of a step, and the speedup in time."""
    name = verdict.name
    verdict = replace(verdict, step_seconds=times.step_seconds(name), optimizer_seconds=times.optimizer_seconds(name))
    if name == baseline or math.isnan(verdict.speedup):
        return verdict
    ratio, low, high = times.ratio(baseline, name)
    low, high = verdict.speedup_low * low, verdict.speedup_high * high
    verdict = replace(verdict, time_speedup=verdict.speedup * ratio, time_speedup_low=low, time_speedup_high=high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return verdict
    word = "faster" if low > 1 else "slower" if high < 1 else "not separable"
    return replace(verdict, time_verdict=word)


def _reason(rule: Rule, trials: Trials, contestant: ContestantTrials, test: Tested, alone: Estimate) -> str:
    baseline = trials.baseline
    counts = (len(trials[baseline].losses), len(contestant.losses))
    if test.degrees is not None and not test.spread:
        return runs_text(test.difference.value, counts, _sigma(trials), baseline)
    if test.degrees is None and test.pairs < 2:
        return f"only one seed is shared with {baseline}, which gives no interval; two or more would"
    if not test.spread:
        seeds = f"all {test.pairs} seeds" + (", but for rounding" if test.difference.deviation else "")
        return f"the difference from {baseline} is the same on {seeds}, so nothing says how far it varies"
    sides = test.pairs if test.degrees is None else f"{counts[1]} against {counts[0]} runs, unpaired"
    text = gap_text(alone.value, alone.low, alone.high, baseline, sides)
    if rule.legacy:
        return text
    searched = {*trials[baseline].searched, *contestant.searched}
    what = "hyperparameters" if searched - {"lr"} else "learning rates"
    if test.choice_error is None:
        text += f", at the {what} chosen"
    else:
        text += f", of which the choice of {what} makes ± {Z95 * test.choice_error:.3f}"
    design = rule.design
    if design is not None and design.most != design.first:
        end = "with no end" if design.most is None else f"of at most {design.most} seeds"
        text += f"; look at {test.pairs} {end}: {limit_text(abs(test.t), test.limit)}"
    return text


def _sigma(trials: Trials) -> float:
    """Deviation over seeds, pooled over all contestants; nan where nothing was repeated."""
    return pooled_deviation([list(trials[name].losses.values()) for name in trials.names])[0]
