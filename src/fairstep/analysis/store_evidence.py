"""The contests of a store as evidence for the papers' claims: one cell for each contest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fairstep.analysis.details import evaluation_curves
from fairstep.analysis.evidence import SPELLINGS, Cell, Evidence, Measured
from fairstep.analysis.statistics import LEVEL, AnalysisError, mean_interval, pooled_deviation, t_quantile
from fairstep.analysis.verdict import final_losses, verdicts
from fairstep.analysis.wording import count_text

if TYPE_CHECKING:
    from fairstep.runs import Ledger, Run, Store

Row = dict[str, Any]


def store_evidence(store: Store) -> Evidence:
    """Cells of all contests. Raises AnalysisError when there is none, or a contest's runs cannot be compared."""
    ledgers = store.ledgers()
    if not ledgers:
        raise AnalysisError(f"{store.path} holds no contest; `fairstep compare` or `fairstep demo` makes one")
    runs = {run.id: run for run in store.runs()}
    return Evidence(str(store.path), tuple(contest_cell(ledger, runs) for ledger in ledgers), own=True)


def spelling(contestant: str) -> str:
    """A contestant's name as the papers write it."""
    return SPELLINGS.get(contestant.lower(), contestant.lower())


def contest_cell(ledger: Ledger, runs: Mapping[str, Run]) -> Cell:
    """A contest as a cell; ``runs`` by identity. Raises AnalysisError when its runs cannot be compared."""
    """A contest as a cell. Raises AnalysisError when its runs cannot be compared."""
    from fairstep.runs.table import trial_table

    mine = [runs[name] for name in dict.fromkeys(trial.run for trial in ledger.trials) if name in runs]
    trials = trial_table(ledger, mine)
    found = verdicts(trials, ledger.baseline, ledger.contestants)
    rows = trials.to_dicts()
    losses = {spelling(v.name): _final(rows, v.name, v.verdict) for v in found}
    speedups = {
        spelling(v.name): (v.speedup, v.speedup_low, v.speedup_high)
        for v in found
        if v.name != ledger.baseline and math.isfinite(v.speedup)
    }
    cell = ledger.cell
    return Cell(
        f"{ledger.name} ({cell.model}, {count_text(cell.tokens)} tokens)",
        cell.model,
        cell.parameters_matrix,
        cell.batch_tokens,
        cell.tokens,
        {name: measured for name, measured in losses.items() if measured is not None},
        _sweeps(rows, _error(losses)),
        speedups,
        lambda: {spelling(name): found for name, found in evaluation_curves(rows, runs).items()},
        key=ledger.name,
        steps=cell.steps,
        data=cell.fingerprint,
    )


def _final(rows: Iterable[Row], contestant: str, verdict: str) -> Measured | None:
    if verdict == "diverged":
        return Measured(math.nan)
    losses = final_losses(rows, contestant)
    if not losses:
        return None
    mean = mean_interval(losses.values())
    return Measured(mean.value, mean.high - mean.value, runs=losses)


def _error(losses: Mapping[str, Measured | None]) -> float:
    """Half the 95 % interval of one trial's loss, from the seeds of all contestants' finals; inf without any."""
    sigma, degrees = pooled_deviation([list(m.runs.values()) for m in losses.values() if m is not None])
    return t_quantile(degrees, (1 + LEVEL) / 2) * sigma if degrees else math.inf


def _sweeps(rows: Iterable[Row], error: float) -> dict[tuple[str, str], dict[float, Measured]]:
    """Around each contestant's best trial, the trials that differ from it in one hyperparameter."""
    found: dict[tuple[str, str], dict[float, Measured]] = {}
    tuned = [row for row in rows if row["phase"] == "tune" and row["status"] in ("done", "diverged")]
    for contestant in {row["contestant"] for row in tuned}:
        mine = [r | {"values": json.loads(r["hyperparameters"])} for r in tuned if r["contestant"] == contestant]
        done = [row for row in mine if row["final_loss"] is not None]
        if not done:
            continue
        best = min(done, key=lambda row: row["final_loss"])["values"]
        for row in mine:
            changed = [key for key in best if row["values"].get(key) != best[key]]
            names = changed or list(best)
            if len(changed) <= 1 and (row["final_loss"] is not None or changed):
                loss = Measured(math.nan if row["final_loss"] is None else row["final_loss"], error)
                for name in names:
                    value = row["values"].get(name)
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        found.setdefault((spelling(contestant), name), {})[float(value)] = loss
    return {key: table for key, table in found.items() if len(table) > 1}
