"""``fairstep store list``: the contests of a store, and what differs between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.runs import Store
from fairstep.runs.differences import distinct, facts, siblings


@dataclass(frozen=True)
class ListOptions:
    """List the contests of a store, oldest first. A column stands for each thing in which they differ.

    Example: fairstep store list runs/demo
    """

    store: tyro.conf.Positional[Path] = Path("runs/demo")
    """Folder that `fairstep compare`, `study` or `demo` wrote."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(ListOptions, "store list", arguments)
    ledgers = Store(options.store).ledgers()
    if not ledgers:
        raise ValueError(f"the store {options.store} has no contests; `fairstep compare` makes one")
    if options.json:
        print(json.dumps([{"contest": ledger.name, **facts(ledger)} for ledger in ledgers], indent=1))
        return 0
    different = distinct(ledgers)
    header = ["contest", *different, "trials"]
    rows = [[ledger.name, *(facts(ledger)[name] for name in different), str(len(ledger.trials))] for ledger in ledgers]
    screen.print_table("", header, rows, left=len(header) - 1)
    for sentence in dict.fromkeys(siblings(ledger, ledgers) for ledger in ledgers):
        if sentence:
            screen.out(f"* {sentence}")
    return 0
