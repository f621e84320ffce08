"""``fairstep study run``: carry a study out, or go on with it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fairstep.analysis.statistics import AnalysisError
from fairstep.cli import fail, screen
from fairstep.cli.options import parse
from fairstep.cli.status import rows_of, text_of
from fairstep.cli.verdict import print_verdict
from fairstep.cli.watch import watching
from fairstep.data import DataError, check_budget, prepare
from fairstep.runs import DataSpec, Ledger, Store
from fairstep.runs.store import StoreError
from fairstep.study import ContestError, Patience, carry_out
from fairstep.study.cells import Text
from fairstep.study.file import Study, read
from fairstep.study.launchers import launcher_of


@dataclass(frozen=True)
class StudyRunOptions:
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
    options = parse(StudyRunOptions, "study run", arguments)
    if options.workers < 0:
        raise ValueError(f"--workers must be at least 0, not {options.workers}")
    study = read(options.file)
    study.costs(study.contest())  # what does not fit is refused before the text is prepared
    store = checked(options.store or Path("runs") / study.name)
    launcher = launcher_of(study, options.launcher, options.workers)
    texts = prepared(study)
    contest = study.contest(texts, launcher.threads)
    bases = study.ledgers(contest, study.cells(texts), shlex.join(["fairstep", "study", "run", *arguments]))
    settings = study.table.launcher
    screen.say(
        f"{study.name}: {len(contest.contestants)} contestants in {len(contest.cells)} cells, "
        f"protocol {study.table.protocol.name}, {launcher}, store {store.path}"
    )
    began = time.perf_counter()
    patience = Patience(attempts=settings.attempts, silence=settings.silence)
    with launcher, watching(every_trial=True) as watch:
        try:
            ledgers = carry_out(contest, bases, store, launcher, watch, patience)
        except ContestError as error:
            return fail(f"{error}; finished runs are kept in {store.path}", 1)
    return conclude(store, ledgers, options.json, time.perf_counter() - began)


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


def prepared(study: Study) -> dict[str, Text]:
    """The study's texts from the cache, or made now. Raises StudyError with the line of the text."""
    found = {}
    longest = dict.fromkeys(study.texts, 0)
    assumed = study.contest()
    for workload in assumed.cells.values():
        most = max((1.0, *assumed.budgets))
        longest[workload.data.name] = max(longest[workload.data.name], round(workload.tokens * most))
    for name, table in study.texts.items():
        try:
            with screen.stages(f"preparing {name}") as report:
                corpus = prepare(
                    table.source or None,
                    vocabulary=table.vocabulary,
                    tokenizer=table.tokenizer,
                    validation=dict(table.validation),
                    progress=report,
                )
            context = max(w.model.context for w in assumed.cells.values() if w.data.name == name)
            tokens = (corpus.validation_tokens - 1) // context * context
            epochs = check_budget(corpus, longest[name], context, tokens, max_epochs=table.epochs)
        except (DataError, ValueError, OSError) as error:
            raise study.lines.error(["data", name], str(error)) from None
        if epochs > 1:
            screen.say(f"{longest[name]:,} tokens, the longest run, read {name} {epochs:.2f} times")
        identity = DataSpec(
            name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=corpus.vocabulary, source=tuple(table.source)
        )
        found[name] = Text(identity, corpus.validation_tokens)
    return found


def conclude(store: Store, ledgers: Mapping[str, Ledger], as_json: bool, seconds: float) -> int:
    """Verdicts and certificates of every cell, and its page."""
    from fairstep.analysis import Trials, contest_result
    from fairstep.report import write_report

    if as_json:
        print(json.dumps([row for ledger in ledgers.values() for row in rows_of(ledger)], indent=1))
        return 0
    for cell, ledger in ledgers.items():
        print(f"\n=== {cell}\n\n{text_of(ledger)}\n")
        if any(trial.phase == "final" for trial in ledger.trials):
            try:
                trials = Trials.read(ledger, store.runs())
                print_verdict(contest_result(trials))
                page = write_report(store, ledger, store.path / f"report-{ledger.name}.html", trials).absolute()
                print(f"\nreport: {page}")
            except AnalysisError as error:
                print(f"No verdict: {error}.")
    screen.say(f"{seconds:.0f} s; trials that were finished before were not repeated")
    return 0
