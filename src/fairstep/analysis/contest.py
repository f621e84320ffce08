"""A whole contest as one JSON value: what ``compare --json`` prints and what the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fairstep.analysis.details import crossing_rows, details
from fairstep.analysis.statistics import AnalysisError, mean_interval
from fairstep.analysis.verdict import Verdict, baseline_curve, verdicts
from fairstep.analysis.wording import count_text, plural

if TYPE_CHECKING:
    import polars as pl

    from fairstep.runs import Ledger, Run


def contest_result(ledger: Ledger, runs: Iterable[Run]) -> dict[str, Any]:
    """``baseline``, ``cell``, ``contestants`` (rows of Verdict and of ``details``), ``curve`` (the baseline's budgets),
    ``crossings`` (changes of order on the way, which no verdict rests on) and ``notes``.

    ``runs`` may be all runs of a store; only those that the ledger names are read into the result. Raises
    AnalysisError when the runs cannot be compared.
    """
    from fairstep.runs.table import trial_table

    named = {trial.run for trial in ledger.trials}
    mine = {run.id: run for run in runs if run.id in named}
    trials = trial_table(ledger, mine.values())
    found = verdicts(trials, ledger.baseline, ledger.contestants)
    more = details(trials, found, ledger.baseline)
    return {
        "name": ledger.name,
        "baseline": ledger.baseline,
        "cell": ledger.cell.model_dump(mode="json"),
        "contestants": [row.row() | more[row.name] | {"at_edge": _at_edge(ledger, row.name)} for row in found],
        "curve": _curve_rows(trials, ledger.baseline),
        "crossings": crossing_rows(trials, mine),
        "notes": [*_notes(ledger, trials, found), *_more_evidence(found, more)],
    }


def _more_evidence(found: list[Verdict], more: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For what could not be separated: what these seeds could have shown, and what it would take."""
    notes = []
    for row in found:
        known = more[row.name]
        if row.verdict == "not separable" and known["smallest_effect"] is not None:
            text = f"{row.name}: these seeds would have shown a true difference of {known['smallest_effect']:.3f} nats"
            text += " with 80 % probability"
            if known["more_seeds"]:
                seeds, tokens = round(known["more_seeds"]), count_text(known["more_tokens"])
                text += f"; the one measured would take {plural(seeds, 'more paired seed')} ({tokens} tokens)"
            notes.append(f"{text}.")
    return notes


def _curve_rows(trials: pl.DataFrame, baseline: str) -> list[dict[str, Any]]:
    curve = baseline_curve(trials, baseline)
    if curve is None:
        return []
    rows = []
    for tokens, losses, fitted in zip(curve.tokens, curve.runs, curve.fitted, strict=True):
        mean = mean_interval(losses)
        low, high = (mean.low, mean.high) if mean.has_interval else (None, None)
        rows.append(
            {"tokens": tokens, "runs": len(losses), "loss": mean.value, "low": low, "high": high, "fitted": fitted}
        )
    return rows


def _at_edge(ledger: Ledger, name: str) -> bool:
    choice = ledger.choices.get(name)
    return bool(choice and choice.hyperparameters and choice.at_edge)


def _notes(ledger: Ledger, trials: pl.DataFrame, found: list[Verdict]) -> list[str]:
    """What a reader must know before believing the table, one sentence each."""
    notes = [
        f"The best value found for {row.name} is still the outermost one tried; a wider search may lower its loss."
        for row in found
        if _at_edge(ledger, row.name)
    ]
    spent = {row.name: row.tuning_trials for row in found if row.tuning_trials}
    if len(set(spent.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in spent.items())
        notes.append(f"The search took different numbers of trials: {each}.")
    searched = {(row["contestant"], row["run"]) for row in trials.to_dicts() if row["phase"] == "tune"}
    stale = [r for r in trials.to_dicts() if r["phase"] == "final" and (r["contestant"], r["run"]) in searched]
    if stale:
        notes.append(f"{plural(len(stale), 'final run')} not counted, because the search had already used them.")
    lost = [r for r in trials.to_dicts() if r["phase"] == "budget" and r["status"] != "done"]
    for row in lost:
        budget = count_text(row["budget_tokens"])
        notes.append(f"The baseline's run at {budget} tokens is {row['status']}, so that budget is not on its curve.")
    curve = _curve_rows(trials, ledger.baseline)
    if any(abs(row["fitted"] - row["loss"]) > 1e-6 for row in curve):
        notes.append("The baseline's loss does not fall from each budget to the next; its curve was made to.")
    if len(curve) == 1:
        notes.append("The baseline was trained at one budget only, so a loss cannot be turned into tokens.")
    return notes


__all__ = ["AnalysisError", "contest_result"]
