"""Claims of modded-nanogpt's optimization track (T) about its own instrument: sigma, slope, what its rule accepts."""

from __future__ import annotations

import math

from fairstep.analysis.claims.claim import Finding, Part, claim, every, inside
from fairstep.analysis.claims.evidence import Evidence
from fairstep.analysis.statistics import LEVEL, mean_interval, unpaired_difference
from fairstep.analysis.verdict.paired import deviation_estimate, deviation_interval
from fairstep.analysis.verdict.repeats import PooledNoise, pooled_noise
from fairstep.analysis.verdict.track import results
from fairstep.analysis.verdict.track3_rule import THRESHOLD, track3_counts
from fairstep.published import track3

SIGMA_AS_QUOTED = (0.00125, 0.00135)
SLOPE_AS_QUOTED = (0.00445, 0.00455)
"""What rounds to the quoted 0.0013 nats and 0.0045 nats per 100 steps."""

SHAMPOO = ("20260513_shampoo_1_4_power", 4150)
"""Result 21 at the end of its runs, a group of ``track3.repeats``."""


def noise_of_results() -> PooledNoise:
    """Of all groups of at least four runs, final losses."""
    return pooled_noise(track3.repeats().values())


@claim(
    "T8",
    "Every result that counts has a mean loss below 3.28, at p < 0.001 by a sigma of 0.0013.",
    "all results since the fourth",
    "rules, 3",
    needs="the runs of the track's results",
)
def below_the_threshold(_: Evidence) -> Finding:
    """By each result's own deviation: the t-interval of its mean lies below the threshold."""
    counted = [result for result in results().values() if result.counts]
    passing = sum(track3_counts(result.losses) for result in counted)
    by_rule = f"{passing} of {len(counted)} results pass the track's rule by their logs"
    parts = [Part("yes" if passing == len(counted) else "no", by_rule)]
    for result in counted:
        mean, text = result.mean, f"result {result.number} at {result.mean.value:.5f}"
        if mean.has_interval:
            state = inside(mean.low, mean.high, -math.inf, THRESHOLD)
            parts.append(Part(state, f"{text} [{mean.low:.5f}, {mean.high:.5f}] from {mean.count} runs"))
        else:
            parts.append(Part("missing", f"a second run of {text}"))
    return every(parts, "By 95 % t-intervals, each from its own runs. Steps were chosen as the first that passed.")


@claim(
    "T9",
    "A run's final loss has one deviation over seeds, 0.0013 nats, whatever the optimizer.",
    "all results",
    "rules, 3",
    needs="runs of many optimizers in the track's cell",
)
def one_sigma(_: Evidence) -> Finding:
    """Whether sigma, rounded as quoted, is the pooled one, AdamW's and Shampoo's; and whether the groups have one."""
    pooled, tuned = noise_of_results(), track3.TUNED_ADAMW
    shampoo = deviation_interval(track3.repeats()[SHAMPOO])
    adamw = deviation_estimate(tuned.deviation, tuned.runs)
    parts = [
        _is_the_quoted(f"pooled sigma of {pooled.groups} groups", pooled.sigma, pooled.low, pooled.high),
        Part(
            "yes" if pooled.probability > 1 - LEVEL else "no",
            f"Bartlett's test of one sigma gives {pooled.statistic:.1f} on {pooled.groups - 1}, "
            f"p = {pooled.probability:.2f}",
        ),
        _is_the_quoted(f"sigma of tuned AdamW ({tuned.runs} runs)", adamw.value, adamw.low, adamw.high),
        _is_the_quoted(f"sigma of Shampoo ({shampoo.count} runs)", shampoo.value, shampoo.low, shampoo.high),
    ]
    wrong = pooled.outside(tuned.deviation, tuned.runs)
    note = f"AdamW is outside the pooled groups (F test: p = {wrong:.1g}). For most results 0.0013 is cautious."
    return every(parts, note)


@claim(
    "T10",
    "Near 3.28, 100 steps are worth 0.0045 nats.",
    "result 12 planned with 3,350 and with 3,150 steps",
    "rules, pairwise statistical significance",
    needs="one configuration at two lengths near 3.28",
)
def slope(_: Evidence) -> Finding:
    groups = {key: mean_interval(losses) for key, losses in track3.repeats().items()}
    long, full = next((key[1], mean) for key, mean in groups.items() if track3.result_of().get(key) == 12)
    short, cut = next((key[1], mean) for key, mean in groups.items() if key[0] == track3.SHORTENED)
    per_100 = 100 / (long - short)
    gained = unpaired_difference(cut, full)
    low, high = gained.low * per_100, gained.high * per_100
    text = f"{gained.value * per_100:.4f} [{low:.4f}, {high:.4f}] between the ends of {short:,} and {long:,} steps"
    early = results()[12]
    note = (
        f"The track's number is of the same runs, so this is no independent check of it: {cut.value:.4f} at {short:,} "
        f"steps, the end, less {early.mean.value:.4f} at {early.steps:,}, {long - early.steps} steps before the end, "
        f"over {long - short} steps."
    )
    return every([Part(inside(low, high, *SLOPE_AS_QUOTED), text)], note)


def _is_the_quoted(what: str, value: float, low: float, high: float) -> Part:
    return Part(inside(low, high, *SIGMA_AS_QUOTED), f"{what}: {value:.5f} [{low:.5f}, {high:.5f}]")
