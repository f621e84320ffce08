"""Tables of runs, which analysis and report read. A row is one run or one trial; units stand in the columns' names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from fairstep.runs.checks import checked_runs, trial_problems
from fairstep.runs.ledger import Ledger
from fairstep.runs.run import Checked, Run, Summary
from fairstep.runs.spec import RunSpec

OUTCOME_COLUMNS: dict[str, Any] = {
    "final_loss": pl.Float64,
    "tokens": pl.Int64,
    "train_seconds": pl.Float64,
    "step_seconds": pl.Float64,
    "optimizer_seconds": pl.Float64,
    "tokens_per_second": pl.Float64,
    "state_bytes": pl.Int64,
    "peak_memory_bytes": pl.Int64,
    "message": pl.String,
}
"""Fields of a run's summary."""

RUN_COLUMNS: dict[str, Any] = {
    "run": pl.String,
    "status": pl.String,
    "optimizer": pl.String,
    "hyperparameters": pl.String,
    "lr": pl.Float64,
    "model": pl.String,
    "data": pl.String,
    "batch_tokens": pl.Int64,
    "budget_tokens": pl.Int64,
    "steps": pl.Int64,
    "precision": pl.String,
    "workload": pl.String,
    "init_seed": pl.Int64,
    "data_seed": pl.Int64,
} | OUTCOME_COLUMNS
"""One row per run. ``hyperparameters`` is JSON with sorted keys; ``data`` is the corpus fingerprint.

``workload`` is the JSON of what two runs must share, beside the budget, for their losses to be comparable.
"""

TRIAL_COLUMNS: dict[str, Any] = {
    "contestant": pl.String,
    "phase": pl.String,
    "varied": pl.String,
} | RUN_COLUMNS
"""One row per trial of a ledger: its role in the contest, then the run's columns. ``varied`` is JSON."""


def run_row(identity: str, checked: Checked) -> dict[str, Any] | None:
    """A run as a row, or None when it has no spec that can be read. A run whose files contradict one another is
    failed, with the reason as its message."""
    spec, outcome, problem = checked
    if spec is None:
        return None
    if problem:
        outcome = Summary(status="failed", message=problem)
    status = "unfinished" if outcome is None else outcome.status
    summary = outcome or Summary(status="failed")
    lr = spec.optimizer.hyperparameters.get("lr")
    return {
        "run": identity,
        "status": status,
        "optimizer": spec.optimizer.name,
        "hyperparameters": json.dumps(spec.optimizer.hyperparameters, sort_keys=True),
        "lr": lr if isinstance(lr, float) else float(lr) if isinstance(lr, int) and abs(lr) < 2**63 else None,
        "model": spec.model.preset,
        "data": spec.data.fingerprint,
        "batch_tokens": spec.batch_tokens,
        "budget_tokens": spec.tokens,
        "steps": spec.steps,
        "precision": spec.precision,
        "workload": _workload(spec),
        "init_seed": spec.init_seed,
        "data_seed": spec.data_seed,
        **{name: getattr(summary, name) for name in OUTCOME_COLUMNS},
    }


def _workload(spec: RunSpec) -> str:
    value = {
        "model": spec.model.model_dump(mode="json", exclude={"preset"}),
        "data": {"fingerprint": spec.data.fingerprint, "vocabulary": spec.data.vocabulary},
        "evaluation": {"final_tokens": spec.evaluation.final_tokens},
        "batch_sequences": spec.batch_sequences,
        "precision": spec.precision,
    }
    return json.dumps(value, sort_keys=True)


def run_table(runs: Iterable[Run]) -> pl.DataFrame:
    rows = [row for run in runs if (row := run_row(run.id, run.checked)) is not None]
    return pl.DataFrame(rows, schema=RUN_COLUMNS)


def trial_rows(ledger: Ledger, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The ledger's trials joined with their runs' results, in the ledger's order: keys of ``TRIAL_COLUMNS``.

    A trial whose run is not among ``runs``, or has no spec, is unfinished. One that contradicts its run is failed.
    """
    checked = checked_runs(ledger, runs)
    return rows_of(ledger, checked, trial_problems(ledger, checked))


def rows_of(ledger: Ledger, checked: Mapping[str, Checked], problems: Iterable[str]) -> list[dict[str, Any]]:
    """``trial_rows`` of runs that have been read, with the problem of each trial."""
    rows = []
    for trial, problem in zip(ledger.trials, problems, strict=True):
        one = checked.get(trial.run)
        head = {"contestant": trial.contestant, "phase": trial.phase}
        head["varied"] = json.dumps(trial.hyperparameters, sort_keys=True)
        row = None if one is None or problem else run_row(trial.run, one)
        if row is None:
            row = dict.fromkeys(RUN_COLUMNS) | {"run": trial.run, "status": "unfinished"}
        if problem:
            tokens = one.spec.tokens if one and one.spec else trial.tokens
            row |= {"status": "failed", "message": problem, "budget_tokens": tokens}
        rows.append(head | row)
    return rows


def trial_table(ledger: Ledger, runs: Iterable[Run]) -> pl.DataFrame:
    """``trial_rows`` as a table."""
    return pl.DataFrame(trial_rows(ledger, runs), schema=TRIAL_COLUMNS)
