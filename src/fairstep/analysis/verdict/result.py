"""A whole contest as one JSON value: what ``compare --json`` prints and what the page shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairstep.analysis.statistics import mean_interval
from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.design_notes import design_notes
from fairstep.analysis.verdict.extra_statistics import crossing_rows, extra_statistics
from fairstep.analysis.verdict.judge import Verdict, verdicts
from fairstep.analysis.verdict.step_time import load_note, load_of
from fairstep.analysis.verdict.wording import count_text, plural
from fairstep.runs import Ledger, Run


def contest_result(
    contest: Trials | Ledger, runs: Iterable[Run] = (), judged: Sequence[Verdict] | None = None
) -> dict[str, Any]:
    """The verdicts of a contest with everything beside them, as plain JSON.

    Keys: ``name``, ``baseline``, ``cell`` (null without a ledger), ``contestants`` (rows of Verdict and of
    ``extra_statistics``), ``curve`` (the baseline's budgets), ``crossings`` (changes of order on the way, which no
    verdict rests on), ``design`` (with its looks; null if none was declared), ``load`` (of the machine, while the final
    runs were timed), ``baseline_from`` (the store that the baseline's runs were taken from, with the check; null if
    they were trained here) and ``notes``. A ledger is read with ``runs``, which may be all runs of a store.
    ``judged``: its verdicts, if they are known already. Raises
    AnalysisError when the runs cannot be compared.
    """
    trials = contest if isinstance(contest, Trials) else Trials.read(contest, runs)
    judged = verdicts(trials) if judged is None else judged
    extra = extra_statistics(trials, judged)
    curve, load = _curve_rows(trials), load_of(trials)
    told = [load_note(load)] if load and any(row.time_verdict for row in judged) else []
    source = trials.ledger.baseline_from if trials.ledger else None
    return {
        "name": trials.ledger.name if trials.ledger else "",
        "baseline": trials.baseline,
        "cell": trials.ledger.cell.model_dump(mode="json") if trials.ledger else None,
        "contestants": [row.row() | extra[row.name] | {"at_edge": _at_edge(trials, row.name)} for row in judged],
        "curve": curve,
        "crossings": crossing_rows(trials),
        "design": _design(trials),
        "load": load,
        "baseline_from": source.model_dump(mode="json") if source else None,
        "notes": [*_notes(trials, judged, curve), *design_notes(trials, judged), *told, *trials.unchecked],
    }


def _curve_rows(trials: Trials) -> list[dict[str, Any]]:
    if trials.curve is None:
        return []
    rows = []
    for tokens, losses, fitted in zip(trials.curve.tokens, trials.curve.runs, trials.curve.fitted, strict=True):
        mean = mean_interval(losses)
        low, high = (mean.low, mean.high) if mean.has_interval else (None, None)
        rows.append(
            {"tokens": tokens, "runs": len(losses), "loss": mean.value, "low": low, "high": high, "fitted": fitted}
        )
    return rows


def _at_edge(trials: Trials, name: str) -> bool:
    choice = trials.ledger.choices.get(name) if trials.ledger else None
    return bool(choice and choice.hyperparameters and choice.at_edge)


def _notes(trials: Trials, judged: Sequence[Verdict], curve: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know before believing the table, one sentence each."""
    source = trials.ledger.baseline_from if trials.ledger else None
    notes = [source.sentence(trials.baseline)] if source else []
    notes += [
        f"The best value found for {row.name} is still the outermost one tried; a wider search may lower its loss."
        for row in judged
        if _at_edge(trials, row.name)
    ]
    spent = {row.name: row.tuning_trials for row in judged if row.tuning_trials}
    if len(set(spent.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in spent.items())
        notes.append(f"The search took different numbers of trials: {each}.")
    fresh = sum(len(trials[name].finals) for name in trials.names)
    stale = sum(row["phase"] == "final" for row in trials.rows) - fresh
    if stale:
        notes.append(f"{plural(stale, 'final run')} not counted, because the search had already used them.")
    for row in trials.rows:
        if row["phase"] == "budget" and row["status"] != "done":
            at = f"{count_text(row['budget_tokens'])} tokens is {row['status']}"
            notes.append(f"The baseline's run at {at}, so that budget is not on its curve.")
    if trials.curve is not None and trials.curve.rises:
        notes.append(
            "The baseline's loss rises with tokens beyond noise, so a loss cannot be turned into tokens; its "
            "hyperparameters do not suit the other budgets."
        )
    elif any(before["loss"] <= after["loss"] for before, after in itertools.pairwise(curve)):
        notes.append("The baseline's loss does not fall from each budget to the next; its curve was made to.")
    if trials.slope is not None:
        notes.append(
            f"Losses at different lengths, and speedups, rest on a stated slope of {trials.slope}; its own error is "
            "in no interval."
        )
    elif len(curve) == 1:
        notes.append("The baseline was trained at one budget only, so a loss cannot be turned into tokens.")
    return notes


def _design(trials: Trials) -> dict[str, Any] | None:
    """The declared design with its looks; null without one."""
    ledger = trials.ledger
    if ledger is None or ledger.design is None:
        return trials.design.model_dump(mode="json") | {"earlier": [], "looks": []} if trials.design else None
    looks = [look.model_dump(mode="json") for look in ledger.looks]
    earlier = [str(design) for design in ledger.earlier_designs]
    return ledger.design.model_dump(mode="json") | {"earlier": earlier, "looks": looks}
