"""Put the results of studies/other-architectures.toml into docs/results/architectures.md, between its two marks.

    fairstep study run studies/other-architectures.toml --store runs/other-architectures
    python tools/architectures_page.py runs/other-architectures

A verdict table for each cell, the ranks side by side, and how much two rankings agree (Kendall's tau of mean losses).
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from fairstep.analysis import COLUMNS, contest_result, count_text, headline, verdict_rows
from fairstep.runs import Store

PAGE = Path(__file__).parents[1] / "docs" / "results" / "architectures.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
SHOWN = [key for key in COLUMNS if key not in ("step", "optimizer", "state")]


def markdown(store: Store) -> str:
    """All cells of a store, which holds one study."""
    runs = store.runs()
    parts, cells = [], {}
    for ledger in store.ledgers():
        result = contest_result(ledger, runs)
        cell = ledger.cell
        rows = [[row[key] for key in SHOWN] for row in verdict_rows(result)]
        parts.append(
            f"### {cell.model}\n\n{headline(result)}. {count_text(cell.parameters_matrix)} matrix parameters, "
            f"{count_text(cell.tokens)} tokens in {cell.steps} steps, {len(ledger.trials)} trials.\n\n"
            + table([COLUMNS[key] for key in SHOWN], rows)
        )
        cells[cell.model] = {row["name"]: row for row in result["contestants"]}
    return "\n\n".join([*parts, "### Rankings side by side", *rankings(cells)])


def rankings(cells: dict[str, dict[str, Any]]) -> list[str]:
    """The ranges of ranks, and Kendall's tau of the mean losses of every two cells."""
    models, names = list(cells), list(next(iter(cells.values())))
    ranks = [
        [name, *(f"{cells[m][name]['rank_best']} to {cells[m][name]['rank_worst']}" for m in models)] for name in names
    ]
    agree = []
    for one, other in itertools.combinations(models, 2):
        tau = kendalltau([cells[one][name]["loss"] for name in names], [cells[other][name]["loss"] for name in names])
        agree.append([one, other, f"{tau.statistic:.2f}", f"{tau.pvalue:.3f}"])
    return [
        "Ranks by final loss. A range holds all ranks that the seeds cannot exclude (Holm, 5 % for a cell's pairs).",
        table(["contestant", *models], ranks),
        "Kendall's tau of the mean losses: 1 is the same order, -1 the reverse, 0 none. *p* is the probability of so "
        "large a tau if the orders had nothing in common.",
        table(["cell", "cell", "Kendall's tau", "p"], agree),
    ]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def main() -> None:
    if len(sys.argv) != 2 or not Store(sys.argv[1]).ledgers():
        raise SystemExit("usage: python tools/architectures_page.py STORE, a folder that the study was run in")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{markdown(Store(sys.argv[1]))}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
