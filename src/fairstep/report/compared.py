"""Two or more stores beside one another: runs that both have, and contestants that competed in the same cell."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairstep.analysis import AnalysisError, paired_difference
from fairstep.analysis.verdict import final_losses, verdicts
from fairstep.report.section import Section, paragraph
from fairstep.report.table import Column, Table
from fairstep.runs import Ledger, Run, Store

if TYPE_CHECKING:
    from fairstep.report.stores import Entry

Row = dict[str, Any]

RUNS = (
    Column("run", "run"),
    Column("first", "store"),
    Column("second", "other store"),
    Column("loss", "final loss", number=True, show=lambda value: f"{value:.6f}"),
    Column("other", "other's", number=True, show=lambda value: f"{value:.6f}"),
    Column("difference", "difference", number=True, show=lambda value: f"{value:+.2e}"),
)
CONTESTANTS = (
    Column("contestant", "contestant"),
    Column("cell", "cell"),
    Column("first", "store: contest", long=True),
    Column("second", "other store: contest", long=True),
    Column("loss", "final loss", number=True, show=lambda value: f"{value:.4f}"),
    Column("other", "other's", number=True, show=lambda value: f"{value:.4f}"),
    Column("difference", "difference", number=True, show=lambda value: f"{value:+.4f}"),
    Column("low", "low", number=True, show=lambda value: f"{value:+.4f}"),
    Column("high", "high", number=True, show=lambda value: f"{value:+.4f}"),
    Column("seeds", "shared seeds", number=True),
    Column("verdict", "verdict"),
    Column("other_verdict", "other's verdict"),
    Column("agree", "agree"),
)


def compared_section(stores: Sequence[Store], entries: Sequence[Entry]) -> Section:
    """Both comparisons, with a sentence where there is nothing to compare."""
    wanted = {entry.ledger.name for entry in entries}
    judged = [
        (store, ledger, _finals(store, ledger))
        for store in stores
        for ledger in store.ledgers()
        if ledger.name in wanted
    ]
    same = shared_runs(stores, judged)
    body, tables = paragraph(_same_words(same)), []
    if same:
        tables.append(Table("shared-runs", "Runs that ended in both stores", RUNS, same))
        body += tables[-1].html()
    beside = contestant_rows(judged)
    if beside:
        body += paragraph(
            "The same contestant in the same cell (model, text, budget, batch, precision): difference of final losses, "
            "store minus other store, paired where they share seeds, with its 95 % interval."
        )
        tables.append(Table("same-cells", "Contestants of the same cell", CONTESTANTS, beside, ("contestant", "agree")))
        body += tables[-1].html()
    else:
        body += paragraph("No contestant competed in the same cell in both stores, so no losses are compared.")
    return Section("compared", "The stores compared", body, tables=tuple(tables))


def shared_runs(stores: Sequence[Store], judged: Sequence[tuple[Store, Ledger, Any]]) -> list[Row]:
    """Runs of one identity with a final loss in two stores; they are the same experiment."""
    named: dict[str, set[str]] = {str(store.path): set() for store in stores}
    for store, ledger, _ in judged:
        named[str(store.path)] |= {trial.run for trial in ledger.trials}
    found = []
    for first, second in itertools.combinations(stores, 2):
        for identity in sorted(named[str(first.path)] & named[str(second.path)]):
            losses = [_loss(store.run(identity)) for store in (first, second)]
            if losses[0] is not None and losses[1] is not None:
                row: Row = {"run": identity, "first": str(first.path), "second": str(second.path)}
                row |= {"loss": losses[0], "other": losses[1], "difference": losses[0] - losses[1]}
                found.append(row)
    return found


def contestant_rows(judged: Sequence[tuple[Store, Ledger, Mapping[str, Any]]]) -> list[Row]:
    """One row for each contestant of two contests in different stores and the same cell."""
    rows = []
    for (store, ledger, mine), (other_store, other, theirs) in itertools.combinations(judged, 2):
        if store.path == other_store.path or _cell(ledger) != _cell(other):
            continue
        for name in (name for name in mine if name in theirs):
            (losses, verdict), (other_losses, other_verdict) = mine[name], theirs[name]
            row: Row = {"contestant": name, "cell": f"{ledger.cell.model}, {ledger.cell.tokens} tokens"}
            row |= {"first": f"{store.path}: {ledger.name}", "second": f"{other_store.path}: {other.name}"}
            row |= {"loss": _mean(losses), "other": _mean(other_losses)}
            row |= {"verdict": verdict, "other_verdict": other_verdict}
            row["agree"] = "yes" if verdict == other_verdict else "no"
            rows.append(row | _difference(losses, other_losses))
    return rows


def _difference(losses: Mapping[Any, float], other: Mapping[Any, float]) -> Row:
    try:
        found = paired_difference(losses, other)
    except AnalysisError:  # no shared seed
        return {"difference": None, "low": None, "high": None, "seeds": 0}
    ends = {"low": found.low, "high": found.high} if found.has_interval else {"low": None, "high": None}
    return {"difference": found.value, "seeds": found.count, **ends}


def _finals(store: Store, ledger: Ledger) -> dict[str, tuple[dict[Any, float], str]]:
    """Contestant -> its final losses by seed, and its verdict."""
    from fairstep.runs.table import trial_table

    runs = [store.run(identity) for identity in dict.fromkeys(trial.run for trial in ledger.trials)]
    trials = trial_table(ledger, runs)
    rows = trials.to_dicts()
    judged = verdicts(trials, ledger.baseline, ledger.contestants)
    return {found.name: (final_losses(rows, found.name), found.verdict) for found in judged}


def _cell(ledger: Ledger) -> tuple[Any, ...]:
    cell = ledger.cell
    return (cell.model, cell.parameters, cell.fingerprint, cell.tokens, cell.batch_tokens, cell.precision)


def _loss(run: Run) -> float | None:
    summary = run.summary
    return summary.final_loss if summary is not None else None


def _mean(losses: Mapping[Any, float]) -> float | None:
    return sum(losses.values()) / len(losses) if losses else None


def _same_words(rows: Sequence[Row]) -> str:
    if not rows:
        return "No run ended in two of the stores."
    differ = [row for row in rows if row["difference"] != 0]
    if not differ:
        return f"{len(rows)} runs ended in two stores, with the same losses to the last bit."
    largest = max(abs(row["difference"]) for row in differ)
    return (
        f"{len(rows)} runs ended in two stores; {len(differ)} of them with different losses, by at most {largest:.2e} "
        "nats. A run gives the same losses on one machine and software, and only there."
    )
