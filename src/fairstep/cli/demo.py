"""``fairstep demo``: the contest that ``make demo`` runs."""

from __future__ import annotations

from fairstep.cli import compare

DemoOptions = compare.CompareOptions

ARGUMENTS = ["adamw", "lion", "muon", "soap", "--chinchilla", "0.35", "--budgets", "0.5", "1.4", "2"]
"""A fraction of a Chinchilla, so that it ends in minutes; a budget at 1.4, where speedups are claimed to lie."""


def main(arguments: list[str]) -> int:
    """``fairstep compare`` with these arguments; every option of compare may follow and overrides them."""
    store = [] if any(argument.startswith("--store") for argument in arguments) else ["--store", "runs/demo"]
    return compare.main([*ARGUMENTS, *store, *arguments])
