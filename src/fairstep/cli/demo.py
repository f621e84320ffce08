"""``fairstep demo``: the contest that ``make demo`` runs."""

from __future__ import annotations

from fairstep.cli import compare
from fairstep.cli.shared import screen

DemoOptions = compare.CompareOptions

ARGUMENTS = ["adamw", "lion", "muon", "soap", "--chinchilla", "0.35", "--seeds", "4..8"]
"""A fraction of a Chinchilla, so that it ends in minutes. Three contestants share an error of 5 %, for which 3 seeds
seldom suffice."""

NEXT = """
next, on your own text and with your own optimizer:
  fairstep doctor mypackage.optim:Mine
  fairstep compare adamw mypackage.optim:Mine --data 'texts/*.txt' --store runs/mine
`make demo` keeps fairstep in .venv: `source .venv/bin/activate` puts it on the PATH."""


def main(arguments: list[str]) -> int:
    """``fairstep compare`` with these arguments; every option of compare may follow and overrides them."""
    store = [] if any(argument.startswith("--store") for argument in arguments) else ["--store", "runs/demo"]
    code = compare.main([*ARGUMENTS, *store, *arguments])
    if code == 0 and "--json" not in arguments:
        screen.say(NEXT)
    return code
