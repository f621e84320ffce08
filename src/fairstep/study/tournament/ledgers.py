"""Ledgers and certificates of a plan, and whether the contestants had the same effort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from fairstep.runs import Certificate, Ledger, Trial
from fairstep.study.protocols.search import Problem, Tuning
from fairstep.study.protocols.space import Space
from fairstep.study.tournament.certify import Effort, Fresh, certify
from fairstep.study.tournament.trials import Plan

Place = tuple[str, str]
"""A cell and a contestant."""


def ledgers(plan: Plan, bases: Mapping[str, Ledger]) -> dict[str, Ledger]:
    """The ledger of every cell: all trials with their cost, the choices and the certificates so far."""
    trials: dict[str, list[Trial]] = defaultdict(list)
    for entry in plan.trials.values():
        trials[entry.cell].append(entry.trial)
    choices, proofs = plan.choices, certificates(plan)
    return {
        cell: base.model_copy(
            update={
                "trials": tuple(trials[cell]),
                "choices": {name: choice for (place, name), choice in choices.items() if place == cell},
                "certificates": {name: proof for (place, name), proof in proofs.items() if place == cell},
            }
        )
        for cell, base in bases.items()
    }


def certificates(plan: Plan) -> dict[Place, Certificate]:
    """The proof of tuning of every contestant in every cell, or what it lacks."""
    trials: dict[Place, list[Trial]] = defaultdict(list)
    for entry in plan.trials.values():
        trials[entry.cell, entry.trial.contestant].append(entry.trial)
    return {
        (cell, contestant.name): _certificate(plan, (cell, contestant.name), trials[cell, contestant.name])
        for cell in plan.contest.cells
        for contestant in plan.contest.contestants
    }


def _certificate(plan: Plan, place: Place, trials: list[Trial]) -> Certificate:
    cell, contestant = place
    tolerance, effort = plan.contest.tolerance, effort_of(trials)
    standing = plan.standings.get(place)
    if standing is None:
        listed = sum(trial.phase == "tune" for trial in trials)
        lacks = [f"Tuning goes on: {effort.trials} of {listed} trials known so far have results."]
        return certify(contestant, cell, Tuning(Problem(Space(), {})), None, Fresh(), tolerance, effort, lacks)
    lacks = [] if standing.complete else ["Runs on fresh seeds go on."]
    fresh = Fresh(standing.finalists, standing.finals)
    return certify(contestant, cell, standing.tuning, standing.chosen, fresh, tolerance, effort, lacks)


def effort_of(trials: list[Trial]) -> Effort:
    """Sums over tuning and final trials with results; failed attempts of all. The baseline's runs at other budgets,
    which do not help it, are left out."""
    trials = [trial for trial in trials if trial.phase != "budget"]
    spent = [trial for trial in trials if trial.status != "unfinished"]
    return Effort(
        trials=sum(trial.phase == "tune" for trial in spent),
        fresh=sum(trial.phase == "final" for trial in spent),
        failures=sum(trial.failures for trial in trials),
        tokens=sum(trial.tokens for trial in spent),
        seconds=sum(trial.seconds for trial in spent),
    )


def differences(ledger: Ledger) -> list[str]:
    """Sentences on where contestants had unequal effort in a cell, empty if nowhere: tuning trials and tuning
    tokens."""
    trials: dict[str, list[Trial]] = {name: [] for name in ledger.contestants}
    for trial in ledger.trials:
        if trial.phase == "tune":
            trials[trial.contestant].append(trial)
    spent = {name: effort_of(mine) for name, mine in trials.items()}
    sentences = []
    for what in ("trials", "tokens"):
        counts = {name: getattr(effort, what) for name, effort in spent.items()}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            most, least = max(counts.values()), min(counts.values())
            sentences.append(f"Tuning {what} differ by {most - least:,}: {each}.")
    return sentences
