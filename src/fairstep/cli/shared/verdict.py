"""The verdict table on the terminal: the strings that the page shows too."""

from __future__ import annotations

from typing import Any

from fairstep.analysis import COLUMNS, count_text, headline, seconds_text, verdict_rows
from fairstep.cli.shared import screen


def print_verdict(result: dict[str, Any], seconds: float | None = None) -> None:
    """The sentence, the table and what a reader must know before believing it."""
    cell = result["cell"]
    title = (
        f"{cell['model']} matrix parameters, {count_text(cell['tokens'])} tokens in {cell['steps']} steps of "
        f"{cell['batch_tokens']}, {cell['data']}, {cell['precision']}"
    )
    print(f"{headline(result)}.\n")
    rows = verdict_rows(result)
    screen.print_table(title, list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in rows])
    reasons = [f"{row['name']}: {row['reason']}" for row in rows if row["reason"]]
    for note in [*reasons, *result["notes"]]:
        print(f"* {note}")
    if seconds is not None:
        print(f"* This call took {seconds_text(seconds)}; trials that were finished before were not repeated.")
