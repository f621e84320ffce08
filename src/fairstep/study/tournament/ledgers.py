"""Ledgers and certificates of a plan, and whether the contestants had the same effort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

from fairstep.runs import SEARCHES, Certificate, Design, Ledger, Look, Trial
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
                "looks": _looks(plan, cell, base),
            }
        )
        for cell, base in bases.items()
    }


def declared(base: Ledger, earlier: Ledger | None, design: Design) -> Ledger:
    """The base with its design and the looks of the ledger that it goes on from.

    A design may change until the first look, and be followed by another one at its end, with the same alpha once more.
    Raises ValueError else.
    """
    if earlier is None or not earlier.looks or earlier.design is None:
        return base.model_copy(update={"design": design})
    kept = {"looks": earlier.looks, "earlier_designs": earlier.earlier_designs, "design": earlier.design}
    if earlier.design.same_seeds(design):
        return base.model_copy(update=kept)
    last = {look.contestant: look for look in earlier.looks if look.design == str(earlier.design)}
    ended = all(look.verdict != "not separable" or look.pairs == earlier.design.most for look in last.values())
    if not ended:
        pairs = max(look.pairs for look in last.values())
        raise ValueError(
            f"the contest {base.name} has the design {earlier.design} and was looked at with {pairs} seeds, so it "
            f"cannot become {design}; go on with --seeds {earlier.design}"
        )
    if design.most is not None and design.most <= max(look.pairs for look in last.values()):
        raise ValueError(
            f"the contest {base.name} has already used its design {earlier.design}; {design} has no further seed"
        )
    design = design.model_copy(update={"alpha": earlier.design.alpha, "before": earlier.design.before})
    return base.model_copy(
        update=kept | {"design": design, "earlier_designs": (*earlier.earlier_designs, earlier.design)}
    )


def _looks(plan: Plan, cell: str, base: Ledger) -> tuple[Look, ...]:
    """The looks that the ledger had, and new ones, which are taken now."""
    known = {(look.design, look.contestant, look.pairs): look for look in base.looks}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for (place, _), standing in plan.standings.items():
        for look in standing.looks if place == cell else ():
            known.setdefault((look.design, look.contestant, look.pairs), look.model_copy(update={"time": now}))
    return tuple(known.values())


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
        listed = sum(trial.phase in SEARCHES for trial in trials)
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
        trials=sum(trial.phase in SEARCHES for trial in spent),
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
        if trial.phase in SEARCHES:
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
