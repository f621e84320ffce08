"""The verdict table on the terminal: the strings that the page shows too."""

from __future__ import annotations

from typing import Any

from fairstep.analysis import COLUMNS, count_text, headline, seconds_text, verdict_rows
from fairstep.cli.shared import screen

DROP = ("memory", "tokens", "trials", "optimizer", "lr", "step time", "at equal time")
"""Columns that a narrow terminal does not show, the first of them left out first."""


def model_text(name: str, parameters_matrix: int) -> str:
    """A model in words. A rung of the ladder is called by its matrix parameters (0: not known)."""
    if parameters_matrix and {"/", "@"} & set(name):
        return f"{name} with {count_text(parameters_matrix)} matrix parameters"
    return f"{name} matrix parameters" if parameters_matrix else name


def print_verdict(result: dict[str, Any], seconds: float | None = None) -> None:
    """The sentence, the table and what a reader must know before believing it."""
    cell = result["cell"]
    counted = cell["parameters_matrix"] if cell["vocabulary"] else 0  # of somebody else's trainer it may not be known
    work = f"{count_text(cell['tokens'])} tokens in {cell['steps']} steps of {cell['batch_tokens']}"
    title = ", ".join(filter(None, (model_text(cell["model"], counted), work, cell["data"], cell["precision"])))
    screen.out(f"{headline(result)}.\n")
    rows = verdict_rows(result)
    screen.print_table(title, list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in rows], drop=DROP)
    reasons = [f"{row['name']}: {row['reason']}" for row in rows if row["reason"]]
    for note in [*reasons, *result["notes"]]:
        screen.out(f"* {note}")
    if seconds is not None:
        screen.out(f"* This call took {seconds_text(seconds)}.")
