"""The contests of stores as evidence for the papers' claims: one cell for each contest, in however many ledgers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from fairstep.analysis.claims.evidence import Cell, Evidence, Measured
from fairstep.analysis.claims.united import united
from fairstep.analysis.claims.variants import is_variant, model_of, spelling, swept, variants_of
from fairstep.analysis.statistics import AnalysisError, pooled_deviation, t_quantile
from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.crossings import Curve
from fairstep.analysis.verdict.judge import Verdict, verdicts
from fairstep.analysis.verdict.wording import count_text
from fairstep.runs import Ledger, Store
from fairstep.runs.frozen import is_number


def store_evidence(*stores: Store) -> Evidence:
    """Cells of all contests, each run once. Raises AnalysisError when a store has none, or a contest's runs cannot be
    compared."""
    contests: list[Trials] = []
    for store in stores:
        ledgers, runs = store.ledgers(), store.runs()
        if not ledgers:
            raise AnalysisError(f"{store.path} holds no contest; `fairstep compare` or `fairstep demo` makes one")
        contests += [Trials.read(ledger, runs) for ledger in ledgers]
    cells = tuple(contest_cell(trials.ledger, trials) for trials in united(contests) if trials.ledger is not None)
    return Evidence(", ".join(str(store.path) for store in stores), cells, from_store=True)


def contest_cell(ledger: Ledger, trials: Trials) -> Cell:
    """A contest as a cell: its ledger has the workload, its trials the losses. Raises AnalysisError when its runs
    cannot be compared."""
    judged, variants = verdicts(trials), variants_of(trials)
    names = [name for name in trials.names if not is_variant(trials, name)]
    losses = {spelling(verdict.name): _final(trials, verdict) for verdict in judged if verdict.name in names}
    speedups = {
        spelling(verdict.name): (verdict.speedup, verdict.speedup_low, verdict.speedup_high)
        for verdict in judged
        if verdict.name != trials.baseline and math.isfinite(verdict.speedup)
    }
    cell = ledger.cell
    return Cell(
        f"{ledger.name} ({cell.model}, {count_text(cell.tokens)} tokens)",
        cell.model,
        cell.parameters_matrix,
        cell.batch_tokens,
        cell.tokens,
        {name: measured for name, measured in losses.items() if measured is not None},
        _sweeps(trials, names, _error(losses)) | swept(variants),
        speedups,
        lambda: _curves(trials),
        key=ledger.name,
        steps=cell.steps,
        data=cell.fingerprint,
        transfer=ledger.transfer,
        pairs=min((one.pairs for one in judged if spelling(one.name) in speedups), default=0),
        variants=variants,
        model=model_of(trials),
    )


def _curves(trials: Trials) -> dict[str, list[Curve]]:
    """Evaluation curves of the final runs that are done."""
    curves: dict[str, list[Curve]] = {
        spelling(name): [curve.points for curve in members if curve.status == "done"]
        for name, members in trials.evaluations.items()
    }
    return {name: members for name, members in curves.items() if members}


def _final(trials: Trials, verdict: Verdict) -> Measured | None:
    if verdict.verdict == "diverged":
        return Measured(math.nan)
    losses = trials[verdict.name].losses
    return Measured.of(losses) if losses else None


def _error(losses: Mapping[str, Measured | None]) -> float:
    """Half the 95 % interval of one trial's loss, from the seeds of all contestants' finals; inf without any."""
    sigma, degrees = pooled_deviation([list(m.runs.values()) for m in losses.values() if m is not None])
    return t_quantile(degrees) * sigma if degrees else math.inf


def _sweeps(trials: Trials, names: Sequence[str], error: float) -> dict[tuple[str, str], dict[float, Measured]]:
    """Around each contestant's best trial, the trials that differ from it in one hyperparameter."""
    sweeps: dict[tuple[str, str], dict[float, Measured]] = {}
    for contestant in names:
        ended = [row for row in trials[contestant].tuning if row["status"] in ("done", "diverged")]
        points = [row | {"values": json.loads(row["hyperparameters"] or "{}")} for row in ended]
        done = [row for row in points if row["final_loss"] is not None]
        if not done:
            continue
        best = min(done, key=lambda row: row["final_loss"])["values"]
        for row in points:
            changed = [key for key in best if row["values"].get(key) != best[key]]
            names = changed or list(best)
            if len(changed) <= 1 and (row["final_loss"] is not None or changed):
                loss = Measured(math.nan if row["final_loss"] is None else row["final_loss"], error)
                for name in names:
                    value = row["values"].get(name)
                    if is_number(value):
                        sweeps.setdefault((spelling(contestant), name), {})[float(value)] = loss
    return {key: table for key, table in sweeps.items() if len(table) > 1}
