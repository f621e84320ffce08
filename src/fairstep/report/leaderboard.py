"""The leaderboard of a store, as Markdown: optimizers x cells, who is separable from whom, and what it took.

A store has a part of its own, because losses and speedups of different texts, models and budgets are not compared.
Variants of an optimizer (``analysis/claims/variants.py``) are no rivals, and are left out.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.analysis import AnalysisError, Trials, contest_result, count_text, plural, speedup_text, verdicts
from fairstep.analysis.claims.variants import is_variant
from fairstep.analysis.verdict.extra_statistics import separable
from fairstep.analysis.verdict.wording import DASH
from fairstep.report import doublings
from fairstep.report.other_texts import MEANING, TITLE, other_texts
from fairstep.report.table import Column, Table, numbers
from fairstep.report.tables import BADGES
from fairstep.runs import Ledger, Store
from fairstep.runs.ledger import chinchilla_ratio

LEGEND = (
    "▲ faster, ▼ slower, ≈ not separable from the baseline ●, × diverged, … not finished. A number is the speedup in "
    "tokens with its 95 % interval. Verdicts are corrected for the contestants of a cell, and not for the number of "
    "cells."
)


@dataclass(frozen=True)
class Standing:
    """A contest, judged. ``rows``: contestant -> its row of ``contest_result``; ``apart``: the pairs (lower, higher) of
    contestants whose losses are separated; ``texts``: on further validation sets."""

    label: str
    ledger: Ledger
    rows: Mapping[str, dict[str, Any]]
    apart: frozenset[tuple[str, str]]
    texts: Table | None

    @classmethod
    def of(cls, label: str, trials: Trials) -> Standing:
        """Raises AnalysisError when the runs cannot be compared."""
        assert trials.ledger is not None
        judged = verdicts(trials)
        rows = {row["name"]: row for row in contest_result(trials, judged=judged)["contestants"]}
        rivals = {name: row for name, row in rows.items() if not is_variant(trials, name)}
        apart = frozenset(pair for pair in separable(trials, judged) if set(pair) <= rivals.keys())
        return cls(label, trials.ledger, rivals, apart, other_texts("other-texts", trials, label))


def standings(store: Store) -> tuple[list[Standing], list[str]]:
    """The contests of a store, smallest cell first, and why others are left out. Raises StoreError."""
    ledgers, runs = store.ledgers(), store.runs()
    found, left_out = [], []
    for ledger, label in zip(ledgers, labels(ledgers), strict=True):
        try:
            found.append(Standing.of(label, Trials.read(ledger, runs)))
        except AnalysisError as error:
            left_out.append(f"{ledger.name}: {error}")
    found = [one for one in found if len(one.rows) > 1]
    return sorted(found, key=lambda one: (one.ledger.cell.parameters_matrix, one.ledger.cell.tokens)), left_out


def labels(ledgers: Sequence[Ledger]) -> list[str]:
    """Model and Chinchilla ratio of each contest; its own name where that does not tell contests apart."""
    cells = [ledger.cell for ledger in ledgers]
    short = [f"{cell.model} {chinchilla_ratio(cell.tokens, cell.parameters_matrix):g}x" for cell in cells]
    return [
        label if short.count(label) == 1 else ledger.name.removeprefix(f"{ledger.study}-").rpartition("-")[0]
        for label, ledger in zip(short, ledgers, strict=True)
    ]


def board(store: Store) -> str:
    """The part of the leaderboard that a store has. Raises StoreError."""
    found, left_out = standings(store)
    parts = [f"## {store.path.name}", _facts(store, found)]
    if found:
        names = ranked(found)
        parts += [LEGEND, _speedups(found, names), "### Who is separable from whom", _separations(found, names)]
        if sizes := doublings.doubling_table(row | _cell(one.ledger) for one in found for row in one.rows.values()):
            parts += [f"### {doublings.TITLE}", doublings.WORDS, sizes.markdown()]
        if texts := [one.texts.markdown() for one in found if one.texts]:
            parts += [f"### {TITLE}", MEANING, *texts]
        parts += ["### What it took", _effort(found, names)]
    parts += [f"Left out: {line}" for line in left_out]
    return "\n\n".join(part.strip() for part in parts)


def _cell(ledger: Ledger) -> dict[str, Any]:
    cell = ledger.cell
    return {"tokens": cell.tokens, "parameters_matrix": cell.parameters_matrix, "transfer": ledger.transfer}


def ranked(found: Sequence[Standing]) -> list[str]:
    """Contestants by their place among all of a cell, on average over the cells."""
    places: dict[str, list[float]] = {}
    for one in found:
        for name, row in one.rows.items():
            best = 1 + sum(higher == name for _, higher in one.apart)
            worst = len(one.rows) - sum(lower == name for lower, _ in one.apart)
            ranks = (best, worst) if row["rank_best"] is not None else (len(one.rows),)
            places.setdefault(name, []).append(statistics.fmean(ranks) / len(one.rows))
    return sorted(places, key=lambda name: (statistics.fmean(places[name]), name))


def _facts(store: Store, found: Sequence[Standing]) -> str:
    """What was compared, on what, and the commands that say more."""
    ledgers = [one.ledger for one in found]
    runs = {trial.run: trial.tokens for ledger in ledgers for trial in ledger.trials}
    titles = dict.fromkeys(ledger.title for ledger in ledgers if ledger.title)
    texts = dict.fromkeys(f"{ledger.cell.data} ({ledger.cell.fingerprint[:16]})" for ledger in ledgers)
    precisions = dict.fromkeys(ledger.cell.precision for ledger in ledgers)
    processors = dict.fromkeys(str(run.environment.get("processor", "not known")) for run in store.runs())
    path = store.path.as_posix()
    lines = [f"{'; '.join(titles)}." if titles else ""]
    lines += [
        f"{plural(len(found), 'cell')}, {plural(len(runs), 'run')}, {count_text(sum(runs.values()))} tokens. "
        f"Text: {', '.join(texts)}. Precision: {', '.join(precisions)}. Processor: {', '.join(processors)}.",
        f"Curves, searches and certificates: `fairstep report {path}`. A contest that starts from a baseline of this "
        f"store: `fairstep compare ... --baseline-from {path}`.",
    ]
    return "\n\n".join(filter(None, lines))


def _speedups(found: Sequence[Standing], names: Sequence[str]) -> str:
    columns = [Column("name", "optimizer"), *(Column(one.ledger.name, one.label) for one in found)]
    rows = [
        {"name": name} | {one.ledger.name: _standing(one.rows[name]) for one in found if name in one.rows}
        for name in names
    ]
    return Table("board", "Speedups", tuple(columns), rows).markdown()


def _standing(row: Mapping[str, Any]) -> str:
    badge = BADGES[row["verdict"]]
    return badge if row["verdict"] == "baseline" or row["speedup"] is None else f"{badge} {speedup_text(row)}"


def _separations(found: Sequence[Standing], names: Sequence[str]) -> str:
    """For each pair, in how many of the cells that both are in the row's loss is surely lower than the column's."""
    shared = {pair: sum(set(pair) <= one.rows.keys() for one in found) for pair in itertools.permutations(names, 2)}
    apart = {pair: sum(pair in one.apart for one in found) for pair in shared}
    rows = [
        {"name": lower}
        | {
            higher: f"{apart[lower, higher]} of {shared[lower, higher]}"
            for higher in names
            if higher != lower and shared[lower, higher]
        }
        for lower in names
    ]
    columns = (Column("name", "lower loss"), *(Column(name, f"than {name}", number=True) for name in names))
    words = (
        "Cells in which the final loss of the row is lower than the column's, and the two are separated (Holm, 5 % for "
        "a cell's pairs)."
    )
    return f"{words}\n\n{Table('separable', 'Separable pairs', columns, rows).markdown()}"


def _effort(found: Sequence[Standing], names: Sequence[str]) -> str:
    """Trials and tokens of every contestant over all cells, and how well its tuning is shown."""
    rows = []
    for name in names:
        mine = [one for one in found if name in one.rows]
        proofs = [one.ledger.certificates[name] for one in mine if name in one.ledger.certificates]
        rows.append(
            {
                "name": name,
                "cells": len(mine),
                "trials": sum(proof.trials for proof in proofs),
                "seeds": _range([one.rows[name]["seeds"] for one in mine]),
                "tokens": count_text(sum(one.rows[name]["tokens_spent"] or 0 for one in mine)),
                "certified": sum(proof.certified for proof in proofs),
                "edge": sum(bool(proof.edges) for proof in proofs),
            }
        )
    columns = (
        Column("name", "optimizer"),
        *numbers(cells="cells", trials="trials of searches", seeds="fresh seeds", tokens="tokens"),
        *numbers(certified="certified", edge="chosen at an edge"),
    )
    words = (
        "Over all cells. Certified: cells in which no single-coordinate move gains more than the tolerance. At an "
        "edge: cells in which a chosen value is the outermost one tried. Tokens are of searches and fresh seeds, "
        "without the baseline's other budgets."
    )
    return f"{words}\n\n{Table('effort', 'Effort', columns, rows).markdown()}"


def _range(counts: Sequence[int | None]) -> str:
    known = sorted({count for count in counts if count is not None})
    return DASH if not known else f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"
