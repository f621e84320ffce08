"""Second intervals for the contests of a store: each contestant's variance borrowed from its other cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairstep.analysis import AnalysisError
from fairstep.analysis.claims.united import united
from fairstep.analysis.statistics import paired_values
from fairstep.analysis.verdict.borrowed import LEAST_CELLS, borrowed_intervals
from fairstep.report.loaded import LoadedContest
from fairstep.report.section import Section, paragraph
from fairstep.report.table import Column, Table

COLUMNS = (
    Column("name", "contestant"),
    Column("contest", "contest"),
    Column("pairs", "pairs", number=True),
    Column("difference", "nats below baseline", number=True, show="+.4f"),
    Column("paired", "95 %, its own seeds"),
    Column("borrowed", "95 %, borrowed variance"),
    Column("degrees", "degrees of freedom", number=True, show=".3g"),
)


def borrowed_section(loaded: Sequence[LoadedContest]) -> Section:
    """Empty unless a contestant was compared with one baseline in enough cells."""
    differences: dict[tuple[str, str], dict[str, list[float]]] = {}
    for trials in united(item.trials for item in loaded):
        base = trials[trials.baseline].losses
        for name in trials.names:
            pairs = paired_values(base, trials[name].losses)
            if name != trials.baseline and pairs and trials.ledger is not None:
                cells = differences.setdefault((name, trials.baseline), {})
                cells[trials.ledger.name if trials.ledger.name not in cells else f"{trials.ledger.name}, again"] = pairs
    rows: list[dict[str, Any]] = []
    for (name, _), cells in differences.items():
        try:
            found = borrowed_intervals(cells)
        except AnalysisError:
            continue
        rows += [
            {
                "name": name,
                "contest": contest,
                "pairs": interval.paired.count,
                "difference": interval.value,
                "paired": _ends(interval.paired.low, interval.paired.high),
                "borrowed": "its own: noisier than others" if interval.gated else _ends(interval.low, interval.high),
                "degrees": interval.degrees,
            }
            for contest, interval in found.items()
        ]
    if not rows:
        return Section("borrowed", "")
    table = Table("borrowed-table", "Differences with borrowed variance", COLUMNS, rows, ("name", "contest"))
    words = (
        f"A contestant with {LEAST_CELLS} or more cells here has a second interval in each. Its variance is the cell's "
        "moderated by the others (Smyth 2004). A cell that looks noisier than the others keeps its "
        "own interval. Verdicts rest on the first interval."
    )
    return Section("borrowed", "Borrowed variance", [paragraph(words), table])


def _ends(low: float, high: float) -> str:
    return f"[{low:+.4f}, {high:+.4f}]"
