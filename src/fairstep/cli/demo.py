"""``fairstep demo``: the contest that ``make demo`` runs."""

from __future__ import annotations

from fairstep.cli import compare

DemoOptions = compare.CompareOptions

ARGUMENTS = ["adamw", "lion", "muon", "soap", "--chinchilla", "0.35", "--seeds", "4..8"]
"""A fraction of a Chinchilla, so that it ends in minutes. Three contestants share an error of 5 %, for which 3 seeds
seldom suffice."""


def main(arguments: list[str]) -> int:
    """``fairstep compare`` with these arguments; every option of compare may follow and overrides them."""
    store = [] if any(argument.startswith("--store") for argument in arguments) else ["--store", "runs/demo"]
    return compare.main([*ARGUMENTS, *store, *arguments])
