"""What a reader must know about a contest's design of seeds, one sentence each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from fairstep.analysis.statistics import paired_values
from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.judge import LEAST_SPEEDUP, Rule, Verdict, contender
from fairstep.analysis.verdict.looks import ALPHA
from fairstep.analysis.verdict.wording import listing
from fairstep.runs import Design

FAR = 6.0
"""Median absolute deviations of the other differences beyond which one is called far off."""


def design_notes(trials: Trials, judged: Sequence[Verdict]) -> list[str]:
    """On the family, the looks, what would decide more, old ledgers, and differences with a heavy tail."""
    rule = Rule.of(trials)
    compared = [verdict for verdict in judged if verdict.pairs > 1 or math.isfinite(verdict.t)]
    notes = [
        *_family(rule, trials.baseline, compared),
        *_uncovered(trials, rule, compared),
        *_looks(trials, rule, compared),
        *_before(trials, rule, compared),
    ]
    if far := [verdict.name for verdict in compared if _one_far(trials, verdict.name)]:
        notes.append(
            f"{listing(far)}: one difference from {trials.baseline} lies far from the others of its contestant; a "
            "t-test errs more often than it says where a loss spike is that rare and that large."
        )
    return notes


def _family(rule: Rule, baseline: str, compared: Sequence[Verdict]) -> Iterator[str]:
    if rule.legacy:
        return
    if rule.design is not None and rule.design.before and rule.design.alpha < ALPHA:
        yield family_words(rule.design, baseline)
    alpha = rule.design.alpha if rule.design else ALPHA
    shared = f"corrected for {rule.family} contestants" if rule.family > 1 else ""
    if shared:
        yield (
            f"Verdicts are {shared} (Holm): any equal one is called faster or slower with a "
            f"probability of at most {100 * alpha:.3g} %. Each interval is for its contestant alone."
        )
    open_ones = [row for row in compared if row.verdict == "not separable"]
    apart = [row.name for row in open_ones if row.difference_low > 0 or row.difference_high < 0]
    if apart and (shared or alpha < ALPHA):
        reached = " and ".join(filter(None, (shared, f"at {100 * alpha:.3g} %" if alpha < ALPHA else "")))
        yield f"{listing(apart)}: the interval alone excludes 0; {reached} it does not."


def _uncovered(trials: Trials, rule: Rule, compared: Sequence[Verdict]) -> Iterator[str]:
    """What was searched, and whose choice is in no interval."""
    names: dict[str, list[str]] = {}
    for name in (trials.baseline, *(row.name for row in compared)):
        covered = contender(trials[name]).neighbours.covered
        for missing in trials[name].searched:
            if missing not in covered:
                names.setdefault(missing, []).append(name)
    if names and compared and not rule.legacy:
        choices = listing([f"{missing} ({listing(of)})" for missing, of in names.items()])
        yield (
            f"In no interval is the choice of {choices}: the search has no loss on both sides of the chosen value at "
            "the length of the final runs. In simulations equal optimizers are then called faster or slower more often "
            "than the level says (docs/results/thrift.md)."
        )


def family_words(design: Design, baseline: str) -> str:
    """How much alpha the contests before this one left, and why."""
    asked = (
        "One other contest of this store has" if design.before == 1 else f"{design.before} others of this store have"
    )
    return (
        f"{asked} asked about {baseline} in this cell before, so this one has an error probability of "
        f"{100 * design.alpha:.3g} %: a contest hands its own on where all contestants were decided, and half of it "
        "where not. All contests together, of one design each, are then wrong in at most 10 %."
    )


def _looks(trials: Trials, rule: Rule, compared: Sequence[Verdict]) -> Iterator[str]:
    ledger, design = trials.ledger, rule.design
    if ledger is None or design is None:
        return
    if ledger.earlier_designs:
        designs = [*ledger.earlier_designs, design]
        total = 100 * sum(one.alpha for one in designs)
        yield (
            f"The seeds were declared as {listing([str(one) for one in designs])}, the later ones after a look: the "
            f"error of all looks together is up to {total:.3g} %."
        )
    open_ones = [row for row in compared if row.verdict == "not separable"]
    names = listing([row.name for row in open_ones]) if open_ones else ""
    if open_ones and design.most is not None and all(row.pairs == design.most for row in open_ones):
        yield (
            f"{names}: not decided when the design of {design} seeds ended. `fairstep design` tells what another one "
            "would find."
        )
    elif open_ones and design.most != design.first:
        yield f"{names}: not decided yet; the design {design} allows more seeds, and the same command goes on."


def _before(trials: Trials, rule: Rule, compared: Sequence[Verdict]) -> Iterator[str]:
    """For a ledger without a design: what the rules of today would say."""
    if not rule.legacy:
        return
    today = {name: test.decision for name, test in Rule(None, rule.family).tests(trials).items()}
    changed = [
        f"{row.name} {today[row.name]}"
        for row in compared
        if today.get(row.name, row.verdict) != row.verdict and not abs(row.speedup - 1) < LEAST_SPEEDUP
    ]
    if changed:
        yield (
            "This contest is from before designs of seeds, and is judged as it was declared: each contestant alone, at "
            f"the learning rates chosen. By today's rules it would say: {', '.join(changed)}."
        )


def _one_far(trials: Trials, name: str) -> bool:
    """Whether one of at least five differences is far from the rest, on one side."""
    values = sorted(paired_values(trials[trials.baseline].losses, trials[name].losses))
    if len(values) < 5:
        return False
    middle = statistics.median(values)
    distances = sorted(abs(value - middle) for value in values)
    return distances[-1] > FAR * max(statistics.median(distances[:-1]), 1e-12) and distances[-1] > 3 * distances[-2]
