"""``fairstep study status``: how far a study is, and the certificate of every contestant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.runs import Ledger, Store
from fairstep.study import differences


@dataclass(frozen=True)
class StatusOptions:
    """Print, for every ledger of a store, its trials and each contestant's certificate.

    A certificate says which configuration was chosen, what was tried around it, the largest gain of any single move
    with its interval, sigma and effort; or what is missing.

    Read from the ledgers, which a running study brings up to date every few seconds.

    Example: fairstep study status runs/demo

    Example: fairstep study status studies/demo.toml
    """

    of: tyro.conf.Positional[Path] = Path("runs/demo")
    """Folder of runs and ledgers, or a study file."""
    store: Path | None = None
    """Folder in which a study file was run. Default: runs/ and the file's name."""
    study: str = ""
    """Only ledgers whose name, or whose study's, begins so."""
    json: bool = False
    """Print a JSON list with one row for each contestant in each cell."""


def main(arguments: list[str]) -> int:
    options = parse(StatusOptions, "study status", arguments)
    ledgers = found(options)
    if options.json:
        rows: list[dict[str, Any]] = [row for ledger in ledgers for row in rows_of(ledger)]
        print(json.dumps(rows, indent=1))
        return 0
    screen.out("\n\n".join(text_of(ledger) for ledger in ledgers))
    return 0


def found(options: StatusOptions) -> list[Ledger]:
    """Raises ValueError if there are none."""
    if options.of.suffix != ".toml":
        store, said = options.store or options.of, "; name the folder that a contest was run in"
        wanted = f" that begins with {options.study!r}" if options.study else ""
        ledgers = Store(store).ledgers()
        ledgers = [one for one in ledgers if one.name.startswith(options.study) or one.study.startswith(options.study)]
    else:
        from fairstep.study.file.study import read

        study = read(options.of, described_only=True)
        store = options.store or Path("runs") / study.name
        wanted, said = f" of {options.of}", f"; it has not been run there: fairstep study run {options.of}"
        mine = [ledger for ledger in Store(store).ledgers() if ledger.study == study.name]
        ledgers = [ledger for ledger in mine if ledger.name.endswith(study.digest)]
        if mine and not ledgers:
            said = f" as it is now; it has changed since it was run, and {store} shows what was run then"
    if not ledgers:
        raise ValueError(f"the store {store} has no ledger{wanted}{said}")
    return ledgers


ALTERED = "This ledger was changed after it was written: its trials, choices and certificates may be anyone's."


def text_of(ledger: Ledger) -> str:
    """A ledger for a terminal."""
    done = sum(trial.status != "unfinished" for trial in ledger.trials)
    cell = ", ".join(filter(None, (ledger.cell.model, f"{ledger.cell.tokens:,} tokens", ledger.cell.data)))
    parts = [f"{ledger.name}: {cell}\n{done} of {len(ledger.trials)} trials known so far have results"]
    if ledger.altered:
        parts.append(f"{ALTERED} `fairstep store check` tells what its runs say.")
    parts += [proof.text() for proof in ledger.certificates.values()]
    if not ledger.certificates:
        parts.append("No certificates: written by an earlier version; running the same command again adds them.")
    return "\n\n".join([*parts, *differences(ledger)])


def rows_of(ledger: Ledger) -> list[dict[str, Any]]:
    """A row for each contestant, as JSON values."""
    done = sum(trial.status != "unfinished" for trial in ledger.trials)
    common = {
        "altered": ledger.altered,
        "ledger": ledger.name,
        "study": ledger.study,
        "trials_done": done,
        "trials_known": len(ledger.trials),
    }
    return [
        common | {"statement": proof.statement, "certified": proof.certified} | proof.model_dump(mode="json")
        for proof in ledger.certificates.values()
    ]
