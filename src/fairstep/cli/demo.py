"""``fairstep demo``: the contest that ``make demo`` runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fairstep.cli import compare
from fairstep.cli.shared import screen
from fairstep.cli.shared.contest_options import CompareOptions
from fairstep.cli.shared.options import WorkloadOptions, parse


@dataclass(frozen=True)
class DemoOptions(CompareOptions):
    """A contest of four optimizers on this machine, in minutes: `fairstep compare` with other defaults. Every option
    of compare may follow.

    Example: fairstep demo
    Example: fairstep demo --store runs/second --seeds 5
    """

    contestants: tyro.conf.Positional[tuple[str, ...]] = ("adamw", "lion", "muon", "soap")
    """These compete in any case."""
    seeds: str = "4..8"
    """Fresh paired seeds of the final runs, as in compare. Three contestants share an error of 5 %, for which 3 seeds
    seldom suffice."""
    store: Path = Path("runs/demo")
    """Folder of the runs, the ledger and the report."""
    workload: Annotated[WorkloadOptions, tyro.conf.arg(name="")] = field(
        default_factory=lambda: WorkloadOptions(chinchilla=0.2)
    )


ARGUMENTS = ["adamw", "lion", "muon", "soap", "--chinchilla", "0.2", "--seeds", "4..8"]
"""A fraction of a Chinchilla, so that it ends in minutes."""

NEXT = """
next, on your own text and with your own optimizer:
  fairstep doctor mypackage.optim:Mine
  fairstep compare adamw mypackage.optim:Mine --data 'texts/*.txt' --store runs/mine
`make demo` keeps fairstep in .venv: `source .venv/bin/activate` puts it on the PATH."""


def main(arguments: list[str]) -> int:
    """``fairstep compare`` with these arguments; every option of compare may follow and overrides them."""
    if {"-h", "--help"} & set(arguments):
        parse(DemoOptions, "demo", arguments)
    store = [] if any(argument.startswith("--store") for argument in arguments) else ["--store", "runs/demo"]
    code = compare.main([*ARGUMENTS, *store, *arguments])
    if code == 0 and "--json" not in arguments:
        screen.say(NEXT)
    return code
