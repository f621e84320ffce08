"""``fairstep store verify``: whether stores are evidence that others may build on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.cli.shared.store_problems import wrong_with
from fairstep.runs import Store


@dataclass(frozen=True)
class VerifyOptions:
    """Verify stores, packed or not: all that `fairstep store check` checks, and that nothing is missing. Exit code 1 if
    anything fails, with a sentence that names the file and the field.

    A packed store has its sums. Every run has the identity of its spec, losses in their domain and a digest. Every
    ledger has a digest and names runs that are there, ended, of its contestants and of its text, with the tokens that
    it counts. Certificates are made again from the trials. Nothing is trained: `fairstep store check --again 2` does
    that.

    Example: fairstep store verify results/*
    """

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of stores."""
    json: bool = False
    """Print as JSON, a list with a row for each store."""


def main(arguments: list[str]) -> int:
    options = parse(VerifyOptions, "store verify", arguments)
    if not options.stores:
        raise ValueError("store verify takes one or more stores, for example results/*")
    if missing := [path for path in options.stores if not path.is_dir()]:
        raise ValueError(f"{missing[0]} is no folder; name a store that `fairstep store pack` or another verb wrote")
    found = {path: list(wrong_with(Store(path))) for path in options.stores}
    if options.json:
        print(json.dumps([{"store": str(path), "problems": lines} for path, lines in found.items()], indent=1))
    else:
        for path, lines in found.items():
            for line in lines:
                screen.out(f"* {path}: {line}")
            screen.out(f"{path}: {f'{len(lines)} problem(s)' if lines else 'verified'}")
    return 1 if any(found.values()) else 0
