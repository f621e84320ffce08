"""A study on the terminal: it runs under a progress bar, and its verdict is printed and written as a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from fairstep.analysis.verdict.design_notes import family_words
from fairstep.analysis.verdict.looks import ALPHA
from fairstep.cli.shared import screen
from fairstep.cli.shared.dispatch import fail
from fairstep.cli.shared.verdict import print_verdict
from fairstep.cli.shared.watch import Expected, watching
from fairstep.runs import Ledger, Store
from fairstep.runs.baseline_source import BaselineSource
from fairstep.study import Contest, ContestError, Launcher, Patience, carry_out, with_designs
from fairstep.study.file.cells import Text
from fairstep.study.file.study import AnyStudy, CommandStudy
from fairstep.study.file.toml import toml_of


def run_study(
    study: AnyStudy,
    texts: Mapping[str, Text],
    store: Store,
    launcher: Launcher,
    command: str,
    announcement: str,
    every_trial: bool = False,
    prepared: Callable[[Contest], Contest] = lambda contest: contest,
    baseline_from: BaselineSource | None = None,
) -> dict[str, Ledger] | None:
    """The complete ledgers by cell; None if a trial failed in all its attempts, which is then said.

    ``command`` is kept in the ledgers. ``every_trial``: see ``watching``. ``prepared`` makes the contest that is
    carried out from the study's; ``baseline_from``: where its baseline's runs are from. Raises StudyError.
    """
    contest = prepared(study.contest(texts, launcher.threads))
    if isinstance(study, CommandStudy) and not study.trainer.code:
        screen.say(f"no code of {study.trainer.name} is known, so a change of it goes unnoticed; name code = [...]")
    bases = {
        cell: base.model_copy(update={"baseline_from": baseline_from})
        for cell, base in study.ledgers(contest, command).items()
    }
    if changed := study.changed_since(store.ledgers()):
        screen.say(changed)
    declared = with_designs(bases, store, contest.design)
    designs = (base.design for base in declared.values())
    told = (family_words(design, contest.baseline) for design in designs if design and design.alpha < ALPHA)
    for words in dict.fromkeys(told):
        screen.say(words)
    for warning in contest.warnings():
        screen.say(warning)
    screen.say(announcement)
    settings = study.table.launcher
    patience = Patience(attempts=settings.attempts, silence=settings.silence)
    costs = {} if isinstance(study, CommandStudy) else study.costs(contest)
    expected = Expected.of(contest, costs)
    with launcher, watching(expected, every_trial) as watch:
        try:
            return carry_out(contest, bases, store, launcher, watch, patience)
        except ContestError as error:
            fail(f"{error}; finished runs are kept in {store.path}", 1)
            return None


def conclude(store: Store, ledger: Ledger, page: Path, as_json: bool = False, seconds: float | None = None) -> None:
    """Print the verdict of a ledger and write its page. Raises AnalysisError where there is no verdict yet."""
    from fairstep.report import contest_page, load, write_page

    loaded = load(store, ledger)
    result = loaded.result
    if not as_json:
        print_verdict(result, seconds)  # before the page, which may not find room
    try:
        path = str(write_page(contest_page(loaded), page).absolute())
    except OSError as error:
        if as_json:
            print(json.dumps(result | {"report": None}))
        raise OSError(
            error.errno, f"the verdict stands, and its page cannot be written: {error.strerror}", str(page)
        ) from None
    print(json.dumps(result | {"report": path}) if as_json else f"\nreport: {path}")


def save(study: AnyStudy, path: Path) -> None:
    """Write the study file. Raises ValueError for a path that is no study file's, or that holds another study."""
    if path.suffix != ".toml":
        raise ValueError(f"--save takes a file whose name ends in .toml, not {path}")
    text = toml_of(study.table)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"--save would write over {path}, which holds something else; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
