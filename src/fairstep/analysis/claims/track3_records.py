"""Claims of modded-nanogpt's optimization track (T) about its results: who needs fewer steps to 3.28, and by how many.

Results are compared by ``verdict.track.lead``: Welch's interval, steps at the track's slope. A quoted number of steps
is known to ``GRID``, the distance of validations among which the track lets a result choose its step. The quote is
supported if the interval lies within ``GRID`` of it, and contradicted if the interval lies wholly outside. A result of
one run has no interval of its own; it gets the pooled sigma of all results (AdamW's own for AdamW), and the text says
so.
"""

from __future__ import annotations

import functools
import itertools
import math

from fairstep.analysis.claims.claim import Finding, Part, State, claim, every, inside, sign
from fairstep.analysis.claims.evidence import Evidence, Gap, Measured, gap
from fairstep.analysis.claims.track3_noise import noise_of_results
from fairstep.analysis.statistics import Estimate, t_quantile
from fairstep.analysis.verdict.track import Result, judged, lead_of, results
from fairstep.analysis.verdict.track3_rule import SLOPE, THRESHOLD, track3, track3_of_means
from fairstep.published import track3 as published

GRID = 25
"""Steps between the validations among which a result may choose, by the track's rule 5."""

ROUNDED = 0.50001e-4
"""Nats: what four decimals round away, and what binary arithmetic adds."""

_claim = functools.partial(claim, needs="the track's results by their numbers")
EFFORT = "How hard either side was tuned is not recorded."


@_claim(
    "T1",
    "After both were re-tuned, Muon reaches 3.28 in 3,250 steps and AdamW needs 1,700 more.",
    "124M, results 36 and pull request 353",
    "pull requests 323 and 353",
)
def muon_over_adamw(_: Evidence) -> Finding:
    muon, tuned = results()[36], published.TUNED_ADAMW
    adamw = _summary(tuned)
    steps, low, high = _lead((muon.mean, muon.steps), (adamw, tuned.steps))
    parts = [
        _reaches(f"Muon ({muon.mean.count} runs) at {muon.steps:,}", muon.mean),
        _reaches(f"AdamW ({tuned.runs} runs) at {tuned.steps:,}", adamw),
        _saved("Muon over AdamW", steps, low, high, 1_700),
    ]
    ratio = (f"{1 + value / muon.steps:.2f}" for value in (steps, low, high))
    note = "AdamW needs {} [{}, {}] times the steps for Muon's loss. ".format(*ratio)
    return every(parts, f"{note}The slope was measured on Muon. {EFFORT}")


@_claim(
    "T2",
    "Tuning alone took Muon from 3,600 to 3,250 steps.",
    "results 1, 3, 6, 12, 36: Muon with other learning rates, decays and auxiliary AdamW",
    "results history; pull request 323",
)
def tuning_alone(_: Evidence) -> Finding:
    chain = [results()[number] for number in (1, 3, 6, 12, 36)]
    parts = [_ahead(after, before) for before, after in itertools.pairwise(chain)]
    parts.append(_saved("36 over 1", *_lead_of(chain[-1], chain[0]), 350))
    return every(parts, "Results 1 and 3 have one run: the pooled sigma of all results stands for theirs.")


T3 = _claim(
    "T3",
    "Result 11, a record, is not separable from result 9 (p = 0.69).",
    "Contra-Muon, 25 steps fewer",
    "results history, 11",
)(lambda _: _not_separable((11, 9)))

T4 = _claim(
    "T4",
    "Result 13, a record, is not separable from result 11 (p = 0.099), nor from result 8 (p = 0.029).",
    "MuLoCo around NorMuonH, 15 and 40 steps fewer",
    "results history, 13",
)(lambda _: _not_separable((13, 11), (13, 8)))

T5 = _claim(
    "T5",
    "Result 16, a record, is not separable from result 14 (p = 0.34).",
    "SOAP for attention, 25 steps fewer",
    "results history, 16",
)(lambda _: _not_separable((16, 14)))

T6 = _claim(
    "T6",
    "Result 34, a record, is not separable from result 30 (p = 0.168).",
    "extrapolation of late weights, 5 steps fewer",
    "results history, 34",
)(lambda _: _not_separable((34, 30)))

T7 = _claim(
    "T7",
    "The hyperparameters of result 12 are better than those of result 6.",
    "Muon, n = 20 each",
    "rules, pairwise statistical significance",
)(lambda _: every([_ahead(results()[12], results()[6])]))


@_claim("T11", "Each record needs fewer steps than the record before it.", "20 records", "results history")
def every_record(_: Evidence) -> Finding:
    """The verdicts of ``verdict.track.judged``, corrected for the number of records."""
    states: dict[str, State] = {"faster": "yes", "slower": "no", "not separable": "open", "one run": "missing"}
    parts = []
    for step in judged():
        if step.result.record and step.against is not None and step.lead is not None:
            text = f"{step.result.number} over {step.against.number}: {step.lead.steps:.0f} steps"
            interval = f" [{step.lead.low:.0f}, {step.lead.high:.0f}], corrected p = {step.holm_probability:.2g}"
            known = step.verdict != "one run"
            parts.append(Part(states[step.verdict], text + interval if known else f"a second run for {text}"))
    return every(parts)


@_claim(
    "T12",
    "The record of 2,690 steps is a 20.8 % speedup over the tuned baseline.",
    "result 46 against result 36",
    "figure 1 of the track",
)
def speedup_of_the_record(_: Evidence) -> Finding:
    """The ratio of steps at the baseline's loss, to what rounds to 20.8 %."""
    record, base = results()[46], results()[36]
    steps, low, high = _lead_of(record, base)
    value, least, most = (100 * (base.steps / (base.steps - ahead) - 1) for ahead in (steps, low, high))
    text = f"{value:.1f} % [{least:.1f}, {most:.1f}] at the baseline's loss"
    note = "The record's runs were on other hardware than the baseline's and are read with averaged weights."
    return every([_ahead(record, base), Part(inside(least, most, 20.75, 20.85), text)], note)


@_claim(
    "T13",
    "The hyperball constraint saves AdamW 750 steps.",
    "result 4 (AdamH) against result 2, an AdamW that the track calls probably undertuned",
    "pull request 272",
)
def hyperball_adam(_: Evidence) -> Finding:
    """Against the AdamW of the claim, and against the AdamW that was tuned later."""
    adamh, adam, tuned = results()[4], results()[2], published.TUNED_ADAMW
    parts = [
        _saved("over the AdamW of result 2", *_lead_of(adamh, adam), 750),
        _saved("over a tuned AdamW", *_lead((adamh.mean, adamh.steps), (_summary(tuned), tuned.steps)), 750),
    ]
    return every(parts, f"Result 2 has one run: the tuned AdamW's sigma stands for its own. {EFFORT}")


T14 = _claim(
    "T14", "MuonH and Muon, both tuned, need the same steps.", "results 37 and 36, 3,250 steps each", "pull request 324"
)(lambda _: every([_saved("37 over 36", *_lead_of(results()[37], results()[36]), 0)], EFFORT))

T15 = _claim("T15", "A power-law cooldown saves KL-SOAP-H 85 steps.", "results 25 and 19", "results history, 25")(
    lambda _: every([_saved("25 over 19", *_lead_of(results()[25], results()[19]), 85)])
)

T16 = _claim("T16", "EMA-Nesterov saves Muon 200 steps.", "results 39 and 12, n = 20 each", "results history, 39")(
    lambda _: every([_saved("39 over 12", *_lead_of(results()[39], results()[12]), 200)])
)


def _not_separable(*pairs: tuple[int, int]) -> Finding:
    """Welch's interval contains no difference; the track's own p-value stands beside, of logs and of printed means."""
    parts, notes = [], []
    for first, second in pairs:
        a, b = results()[first], results()[second]
        steps, low, high = _lead_of(a, b)
        fewer = b.steps - a.steps
        of_logs = track3(a.losses, b.losses, steps=fewer)
        printed = track3_of_means((a.printed, len(a.losses)), (b.printed, len(b.losses)), steps=fewer)
        text = f"{first} over {second}: {steps:.0f} steps [{low:.0f}, {high:.0f}]"
        text += f" (the track's rule: p = {of_logs:.3f} by the logs, {printed:.3f} by the printed means)"
        parts.append(Part("yes" if low <= 0 <= high else "no", text))
        notes += [
            f"The table prints {of.printed:.4f} for result {of.number}, its logs give {of.mean.value:.4f}."
            for of in (a, b)
            if abs(of.printed - of.mean.value) > ROUNDED
        ]
    return every(parts, " ".join(notes))


def _ahead(first: Result, second: Result) -> Part:
    steps, low, high = _lead_of(first, second)
    text = f"{first.number} over {second.number}: {steps:.0f} steps [{low:.0f}, {high:.0f}]"
    return Part(sign(Gap(steps, low, high)), text)


def _saved(what: str, steps: float, low: float, high: float, quoted: float) -> Part:
    """Whether a quoted number of steps, known to ``GRID``, is what the runs give."""
    return Part(inside(low, high, quoted - GRID, quoted + GRID), f"{what}: {steps:.0f} steps [{low:.0f}, {high:.0f}]")


def _reaches(what: str, mean: Estimate) -> Part:
    state = inside(mean.low, mean.high, -math.inf, THRESHOLD)
    return Part(state, f"{what} is at {mean.value:.5f} [{mean.low:.5f}, {mean.high:.5f}]")


def _lead_of(first: Result, second: Result) -> tuple[float, float, float]:
    """Steps with their interval. One run alone has a sigma that is not its own, and the two errors add in squares."""
    if min(len(first.losses), len(second.losses)) > 1:
        return _lead((first.mean, first.steps), (second.mean, second.steps))
    distance = gap(_measured(first), _measured(second))
    ahead = second.steps - first.steps
    value, low, high = (100 * loss / SLOPE + ahead for loss in (distance.value, distance.low, distance.high))
    return value, low, high


def _lead(first: tuple[Estimate, int], second: tuple[Estimate, int]) -> tuple[float, float, float]:
    ahead = lead_of(*first, *second)
    return ahead.steps, ahead.low, ahead.high


def _measured(result: Result) -> Measured:
    mean = result.mean
    if mean.has_interval:
        return Measured(mean.value, mean.high - mean.value)
    pooled, tuned = noise_of_results(), published.TUNED_ADAMW
    sigma, degrees = (tuned.deviation, tuned.runs - 1) if result.number == 2 else (pooled.sigma, pooled.degrees)
    return Measured(mean.value, t_quantile(degrees) * sigma)


def _summary(summary: published.Summary) -> Estimate:
    """A mean with its interval from what is published of it."""
    return Estimate.of(summary.mean, summary.deviation, summary.runs)
