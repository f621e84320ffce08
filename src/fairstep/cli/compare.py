"""``fairstep compare``: from names to a verdict.

A contest is a study of one cell that options describe instead of a file. It goes the way of ``fairstep study run``.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairstep import optim
from fairstep.analysis.verdict.wording import plural
from fairstep.cli.shared import screen, space
from fairstep.cli.shared.baseline_store import check_options, sound, take_baseline
from fairstep.cli.shared.baseline_workload import workload_from
from fairstep.cli.shared.contest_options import CompareOptions, check_names
from fairstep.cli.shared.fitness import check_fitness
from fairstep.cli.shared.options import (
    WorkloadOptions,
    assignment,
    at_least,
    cells_table,
    check_written,
    data_table,
    parse,
    table,
)
from fairstep.cli.shared.owners import owner_of
from fairstep.cli.shared.texts import corpus_of, text_of
from fairstep.cli.shared.tournament import conclude, run_study, save
from fairstep.cli.shared.trainer_contest import compare_around
from fairstep.cli.shared.verdict import model_text
from fairstep.model import named
from fairstep.optim.catalogue.paths import alias_of
from fairstep.runs import Design, Store
from fairstep.study import LocalLauncher, Space
from fairstep.study.file.cells import Text
from fairstep.study.file.launcher import launcher_of
from fairstep.study.file.line_numbers import NoLines
from fairstep.study.file.schema import ContestantTable, LauncherTable, StudyTable
from fairstep.study.file.study import Study


def main(arguments: list[str]) -> int:
    options = parse(CompareOptions, "compare", arguments)
    check_effort(options)
    check_written("--report", options.report)
    check_written("--save", options.save)
    if options.baseline_from is not None:
        check_options(options)
    if options.trainer is not None:
        return compare_around(options.trainer, options, contest_of(options), arguments)
    contestants = contestant_tables(options)
    names = [contestant.name or str(contestant.optimizer) for contestant in contestants]
    baseline = baseline_of(options, names)
    kept = sound(options.baseline_from) if options.baseline_from is not None else None
    if kept is not None:  # and refused before a text is prepared, if it is damaged
        check_settings(options, baseline)
        options = on_its_workload(options, kept.path, baseline, arguments)
    check_fitness(contestants, options.unchecked)
    store = Store(options.store).writable()
    study, texts = study_of(options, contestants, baseline)
    (cell,) = study.cells(texts)
    study.costs(study.contest(texts))  # what cannot be run, or does not fit, is refused before anything is written
    if options.save is not None:
        save(study, options.save)
    launcher = launcher_of(study)
    assert isinstance(launcher, LocalLauncher)
    division, workload = launcher.layout, cell.workload
    at_once = f"{plural(division.workers, 'run')} at a time with {plural(division.threads, 'thread')}"
    began = time.perf_counter()
    command = shlex.join(["fairstep", "compare", *arguments])
    taken: dict[str, Any] = {}
    if kept is not None:
        again = options.baseline_seeds, options.baseline_margin
        source = take_baseline(kept, *again, study, texts, store, command)
        if source is None:
            return 1
        taken = {"prepared": source[0].contest, "baseline_from": source[1]}
    ledgers = run_study(
        study,
        texts,
        store,
        launcher,
        command,
        f"{', '.join(names)} on {workload.data.name}: {model_text(workload.model.preset, workload.parameters_matrix)}, "
        f"{workload.tokens:,} tokens a run, {at_once}, {workload.precision}",
        **taken,
    )
    if ledgers is None:
        return 1
    page = options.report or store.path / "report.html"
    conclude(store, ledgers[cell.name], page, options.json, time.perf_counter() - began)
    return 0


def on_its_workload(options: CompareOptions, path: Path, baseline: str, arguments: list[str]) -> CompareOptions:
    """With the store's workload where the options leave it open, which is said."""

    def over(workload: WorkloadOptions) -> WorkloadOptions:
        return parse(CompareOptions, "compare", arguments, default=replace(options, workload=workload)).workload

    workload, count = workload_from(path, baseline, options.workload, over)
    if count > 1:
        screen.say(
            f"{path} has {baseline} on {count} workloads that fit; this contest is on the longest, {workload.model} "
            f"with {int(workload.tokens):,} tokens a run; --tokens or --chinchilla names another"
        )
    return replace(options, workload=workload)


def study_of(
    options: CompareOptions, contestants: list[ContestantTable], baseline: str
) -> tuple[Study, dict[str, Text]]:
    """The study that the options describe, of one cell, and its text, prepared now. Raises ValueError.

    The study is named by its contestants. It holds the text by content, so that its ledger has one name on every
    machine. A baseline from elsewhere is in its name. What no text can make right is refused before it is prepared.
    """
    cells, data = cells_table(options.workload), data_table(options.workload)
    elsewhere = "" if options.baseline_from is None else f"-from-{options.baseline_from.resolve().name}"
    unprepared = table(
        StudyTable,
        name="-".join(contestant.name or str(contestant.optimizer) for contestant in contestants) + elsewhere,
        baseline=baseline,
        **contest_of(options),
        data={"text": data},
        cells=[cells],
        contestants=contestants,
        launcher=LauncherTable(
            workers=options.workers,
            threads=options.workload.threads,
            compile=options.workload.compile,
            micro_batch_sequences=options.workload.micro_batch_sequences,
            attempts=2,
        ),
    )
    Study(unprepared.name, unprepared, NoLines()).contest()
    corpus = corpus_of(data)
    assert isinstance(cells.tokens, int)
    longest = round(cells.tokens * max((1.0, *options.budgets)))
    text = text_of(corpus, data, longest, named(options.workload.model, options.workload.context).context)
    kept = {corpus.name: data.model_copy(update={"fingerprint": corpus.fingerprint})}
    described = unprepared.model_copy(update={"data": kept})
    return Study(described.name, described, NoLines()), {corpus.name: text}


def contest_of(options: CompareOptions) -> dict[str, Any]:
    """The keys of a study's contest, whoever trains."""
    plain = {name: getattr(options, name) for name in ("title", "refine", "companions", "budget_seeds", "extensions")}
    seeds = int(options.seeds) if options.seeds.isdigit() else options.seeds
    return plain | {"seeds": seeds, "budgets": list(options.budgets)}


def contestant_tables(options: CompareOptions) -> list[ContestantTable]:
    """The contestants as tables of a study, with checked hyperparameters. Raises ValueError."""
    specs = [called(text) for text in options.contestants]
    names = [spec.name for spec in specs]
    paths = [optim.get(text).name for text in options.contestants]
    check_names(names, "optimizers")
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in options.set:
        target, value = assignment(text)
        owner, name = owner_of(target, names)
        if owner not in given or name == "lr":
            listed = ", ".join(names)
            raise ValueError(f"--set takes CONTESTANT.NAME=VALUE with one of {listed}, and not lr; got {text!r}")
        given[owner][name] = value
    spaces = spaces_of(options, specs)
    return [
        contestant_table(spec, path, given[spec.name], spaces[spec.name])
        for spec, path in zip(specs, paths, strict=True)
    ]


def check_settings(options: CompareOptions, baseline: str) -> None:
    """Raises ValueError for a hyperparameter of a baseline whose runs are a store's: it would decide nothing."""
    specs = [called(text) for text in options.contestants]
    names = [spec.name for spec in specs]
    said = [f"--set {text}" for text in options.set if owner_of(assignment(text)[0], names)[0] == baseline]
    said += [f"--space of {baseline}.{name}" for name in space.read(options.space, specs)[baseline]]
    if said:
        raise ValueError(
            f"{said[0]} is of the baseline, whose hyperparameters --baseline-from takes from {options.baseline_from}; "
            "leave it out, or tune the baseline here"
        )


def called(text: str) -> optim.OptimizerSpec:
    """The optimizer, under its alias if it has one. Raises ValueError."""
    alias, name = alias_of(text)
    if alias in optim.names():
        raise ValueError(f"{alias} is the name of an optimizer of fairstep's; choose another alias for {name}")
    return replace(optim.get(name), name=alias) if alias else optim.get(name)


def contestant_table(spec: optim.OptimizerSpec, path: str, given: dict[str, Any], space: Space) -> ContestantTable:
    """An optimizer with what ``--set`` fixes and ``--space`` tries. Raises ValueError."""
    values = spec.complete(given, {name: axis.values for name, axis in space.axes.items()})
    defaults = {**{name: known.default for name, known in spec.hyperparameters.items()}, **spec.retired}
    fixed = {
        name: value
        for name, value in values.items()
        if name not in space.axes and (name not in defaults or value != defaults[name])
    }
    usual = {name: grid.factor for name, grid in spec.search_space.items()}
    return table(
        ContestantTable,
        optimizer=path,
        name="" if spec.name == path else spec.name,
        space="none",
        set=fixed,
        grid={name: list(axis.values) for name, axis in space.axes.items()},
        factor={name: axis.factor for name, axis in space.axes.items() if axis.factor != usual.get(name, 0.0)},
    )


def spaces_of(options: CompareOptions, specs: list[optim.OptimizerSpec]) -> dict[str, Space]:
    """What is tried of each contestant: what --space says, else its own grid; the same number of trials for each."""
    given = space.read(options.space, specs)
    rates = {spec.name: given[spec.name].get("lr") or space.own(spec) for spec in specs}
    points = max(options.points, *(len(axis.values) for axis in rates.values()))
    if points > options.points:
        screen.say(f"every contestant gets {points} learning rates to begin with, as many as the longest --space")
    spaces = {name: Space({**given[name], "lr": space.longer(axis, points)}) for name, axis in rates.items()}
    for spec in specs:
        if spec.version and "lr" not in given[spec.name]:
            tried = " ".join(f"{value:g}" for value in spaces[spec.name].axes["lr"].values)
            screen.say(f"{spec.name}: without --space its learning rates are {tried}, around its default")
    space.check_sizes({name: one.size() for name, one in spaces.items()})
    return spaces


def baseline_of(options: CompareOptions, names: list[str]) -> str:
    if not options.baseline:
        return "adamw" if "adamw" in names else names[0]
    baseline = options.baseline if options.baseline in names else optim.get(options.baseline).name
    if baseline not in names:
        raise ValueError(f"the baseline {baseline} does not compete; choose one of {', '.join(names)}")
    return baseline


def check_effort(options: CompareOptions) -> None:
    """Raises ValueError for effort that makes no contest."""
    if Design.parse(options.seeds).first < 2:
        raise ValueError(f"--seeds must be at least 2 for an interval, not {options.seeds}")
    at_least(options, 3, "points")
    at_least(options, 1, "budget_seeds")
    at_least(options, 0, "extensions", "companions", "workers")
    if options.points > space.MOST:
        raise ValueError(f"--points must be at most {space.MOST}, not {options.points}")
    for budget in options.budgets:
        if not 0.05 <= budget <= 20 or budget == 1:
            raise ValueError(
                f"--budgets takes multiples of the token budget from 0.05 to 20 other than 1, not {budget}"
            )
