"""``fairstep study run``: carry a study out, or continue it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fairstep.analysis import AnalysisError, plural, seconds_text
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import at_least, parse
from fairstep.cli.shared.texts import texts_of
from fairstep.cli.shared.tournament import conclude, run_study
from fairstep.cli.study.status import rows_of, text_of
from fairstep.runs import Ledger, Store
from fairstep.runs.store import StoreError
from fairstep.study.file.launcher import launcher_of
from fairstep.study.file.study import Study, read


@dataclass(frozen=True)
class RunOptions:
    """Carry out a study file: tune every contestant in every cell, repeat the winners on fresh seeds, print verdicts
    and certificates, and write a page for each cell.

    Stop it at any moment, or lose the machine: the same command goes on, and no finished trial is repeated. Several
    of them, on several machines over one store, share its results.

    Example: fairstep study run studies/demo.toml

    Example: fairstep study run studies/wen-phase1.toml --launcher slurm --store /shared/wen
    """

    file: tyro.conf.Positional[Path]
    """A study file."""
    launcher: Literal["local", "ray", "slurm"] | None = None
    """Who runs the trials. Default: what the file says."""
    workers: int = 0
    """Trials at the same time. Default: what the file says, else as many as there is room for."""
    store: Path | None = None
    """Folder of runs and ledgers; on a cluster one that all machines see. Default: runs/ and the file's name."""
    json: bool = False
    """At the end print a JSON list with one row for each contestant in each cell."""


def main(arguments: list[str]) -> int:
    options = parse(RunOptions, "study run", arguments)
    at_least(options, 0, "workers")
    study = read(options.file)
    began = time.perf_counter()
    contest = study.contest()
    if isinstance(study, Study):
        study.costs(contest)  # what does not fit is refused before the text is prepared
    store = checked(options.store or Path("runs") / study.name)
    launcher = launcher_of(study, options.launcher, options.workers)
    ledgers = run_study(
        study,
        texts_of(study),
        store,
        launcher,
        shlex.join(["fairstep", "study", "run", *arguments]),
        f"{study.name}: {plural(len(contest.contestants), 'contestant')} in {plural(len(contest.cells), 'cell')}, "
        f"protocol {study.table.protocol.name}, {launcher}, store {store.path}",
        every_trial=True,
    )
    if ledgers is None:
        return 1
    print_all(store, ledgers, options.json)
    screen.say(f"This call took {seconds_text(time.perf_counter() - began)}.")
    return 0


def checked(path: Path) -> Store:
    """The store, writable, and readable by this version. Raises StoreError."""
    store = Store(path).writable()
    remedy = "upgrade fairstep, or name another folder with --store"
    store.ledgers()
    for run in store.runs():
        try:
            run.spec  # noqa: B018  (reading is the check)
        except ValueError as error:
            if "newer fairstep" in str(error):
                raise StoreError(f"{run.directory / 'spec.json'}, line 1: {error}; {remedy}") from None
    return store


def print_all(store: Store, ledgers: Mapping[str, Ledger], as_json: bool) -> None:
    """Certificates and verdicts of every cell, and a page for each."""
    if as_json:
        print(json.dumps([row for ledger in ledgers.values() for row in rows_of(ledger)], indent=1))
        return
    for cell, ledger in ledgers.items():
        screen.out(f"\n=== {cell}\n\n{text_of(ledger)}\n")
        if any(trial.phase == "final" for trial in ledger.trials):
            try:
                conclude(store, ledger, store.path / f"report-{ledger.name}.html")
            except AnalysisError as error:
                screen.out(f"No verdict: {error}.")
