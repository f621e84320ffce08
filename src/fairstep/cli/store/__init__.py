"""``fairstep store ACTION``: a module for each action."""

from __future__ import annotations

from fairstep.cli.shared.dispatch import Menu, Verb

MENU = Menu(
    name="store",
    title="fairstep store: folders of runs and ledgers",
    groups={
        "": {
            "check": Verb("hold every file of a store against the others, and train runs again"),
            "list": Verb("the contests of a store, and what differs between them"),
            "pack": Verb("a store in a few small files, for a repository"),
            "verify": Verb("whether stores are evidence that others may build on"),
        }
    },
    more="""\
examples:
  fairstep store check runs/demo
  fairstep store check runs/demo --again 2
  fairstep store list runs/demo
  fairstep store pack runs/demo --out results/demo
  fairstep store verify results/*
""",
)
