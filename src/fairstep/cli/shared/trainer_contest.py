"""``fairstep compare NAME... --trainer FILE``: a contest of one cell around the trainer that a TOML file describes.

The file has ``[trainer]`` and ``[[cells]]``. A contestant that it describes in ``[[contestants]]`` is taken as it is
there; any other one is a value of the placeholder ``{optimizer}``, and is tuned by ``{lr}``.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairstep import optim
from fairstep.cli.shared import screen, space
from fairstep.cli.shared.contest_options import CompareOptions, check_names
from fairstep.cli.shared.options import WorkloadOptions, assignment, table
from fairstep.cli.shared.tournament import conclude, run_study, save
from fairstep.optim.catalogue.paths import alias_of
from fairstep.runs import Store
from fairstep.study import Axis
from fairstep.study.file.command_schema import CommandContestantTable, CommandStudyTable
from fairstep.study.file.command_study import CommandStudy, axis_of, trainer_of
from fairstep.study.file.launcher import launcher_of
from fairstep.study.file.line_numbers import NoLines
from fairstep.study.file.study import described


def compare_around(file: Path, options: CompareOptions, contest: Mapping[str, Any], arguments: list[str]) -> int:
    """Carry the contest out and print its verdict; the exit code. ``contest``: its keys of a study. Raises ValueError,
    OSError for a file that cannot be read."""
    study, cell = study_around(file, options, contest)
    store, launcher = Store(options.store).writable(), launcher_of(study)
    if options.save is not None:
        save(study, options.save)
    began = time.perf_counter()
    command = shlex.join(["fairstep", "compare", *arguments])
    names = ", ".join(one.name for one in study.table.contestants)
    words = f"{names} in {study.trainer.name}: {cell}, {launcher}"
    ledgers = run_study(study, {}, store, launcher, command, words)
    if ledgers is None:
        return 1
    page = options.report or store.path / "report.html"
    conclude(store, ledgers[cell], page, options.json, time.perf_counter() - began)
    return 0


def study_around(file: Path, options: CompareOptions, contest: Mapping[str, Any]) -> tuple[CommandStudy, str]:
    """The study and the name of its one cell. Raises ValueError, OSError for a file that cannot be read."""
    around, lines = described(file)
    if not isinstance(around, CommandStudyTable):
        raise ValueError(f"{file} has no [trainer]; --trainer takes a file that describes a trainer of your own")
    _check_options(file, options)
    contestants = _contestants(options, {one.name: one for one in around.contestants})
    text = table(
        CommandStudyTable,
        name="-".join(one.name for one in contestants),
        baseline=options.baseline,
        trainer=around.trainer,
        cells=around.cells,
        contestants=contestants,
        launcher=around.launcher.model_copy(update={"workers": options.workers} if options.workers else {}),
        **contest,
    )
    trainer = trainer_of(around.trainer, lines, file.absolute().parent)
    study = CommandStudy(text.name, text, NoLines(), trainer)
    cells = study.cells()
    if len(cells) != 1:
        raise ValueError(
            f"{file} describes {len(cells)} cells, and compare is of one; leave one [[cells]] table with one "
            "value of each key, or use fairstep study run"
        )
    study.contest()
    return study, cells[0].name


def _check_options(file: Path, options: CompareOptions) -> None:
    for one in dataclasses.fields(WorkloadOptions):
        if getattr(options.workload, one.name) != one.default:
            flag = f"--{one.name.replace('_', '-')}"
            raise ValueError(f"{flag} is of fairstep's own trainer; {file} says what its trainer trains")
    if options.save is not None and options.save.absolute().parent != file.absolute().parent:
        raise ValueError(f"--save must be beside {file}, in whose folder the command starts, not {options.save}")


def _contestants(options: CompareOptions, known: Mapping[str, CommandContestantTable]) -> list[CommandContestantTable]:
    words = [("", text) if text in known else alias_of(text) for text in options.contestants]
    named = [(alias or value, value) for alias, value in words]
    values, names = dict(named), [name for name, _ in named]
    check_names(names, "contestants")
    fixed = _settings(options.set, names)
    tried = space.lists(options.space, names)
    tables = []
    for name, value in named:
        one = known.get(name) or CommandContestantTable(name=name, set={"optimizer": value})
        tables.append(_with(one, fixed[name], tried[name]))
    return _evened(tables, values, known, options.points)


def _settings(texts: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What ``--set`` fixes. Raises ValueError."""
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in texts:
        target, value = assignment(text)
        owner, dot, name = target.rpartition(".")
        if not dot or owner not in given:
            raise ValueError(f"--set takes CONTESTANT.NAME=VALUE with one of {', '.join(names)}; got {text!r}")
        given[owner][name] = value
    return given


def _with(
    one: CommandContestantTable, fixed: Mapping[str, Any], tried: Mapping[str, list[Any]]
) -> CommandContestantTable:
    grid = {name: values for name, values in one.grid.items() if name not in fixed} | dict(tried)
    factor = {name: ratio for name, ratio in one.factor.items() if name in grid and name not in tried}
    settings = {name: value for name, value in one.set.items() if name not in tried} | dict(fixed)
    return table(CommandContestantTable, name=one.name, set=settings, grid=grid, factor=factor, arguments=one.arguments)


def _evened(
    tables: Sequence[CommandContestantTable],
    values: Mapping[str, str],
    known: Mapping[str, CommandContestantTable],
    points: int,
) -> list[CommandContestantTable]:
    """With as many learning rates for each. Raises ValueError where tuning would not cost the same."""
    rates: dict[str, Axis] = {}
    for one in tables:
        if "lr" in one.grid:
            if not all(isinstance(value, int | float) and 0 < value < math.inf for value in one.grid["lr"]):
                raise ValueError(f"the learning rates of {one.name} must be numbers above 0, not {one.grid['lr']}")
            rates[one.name] = axis_of(one.grid["lr"], one.factor.get("lr", 0.0))
        elif "lr" not in one.set and one.name not in known:
            rates[one.name] = _own(one.name, values[one.name])
    most = max([points, *(len(axis.values) for axis in rates.values())])
    evened = []
    for one in tables:
        axis = rates.get(one.name)
        if axis is not None and len(axis.values) < most:
            axis = space.longer(axis, most)
        grid = one.grid if axis is None else {**one.grid, "lr": list(axis.values)}
        if grid != one.grid and axis is not None:
            screen.say(f"{one.name}: its learning rates are {' '.join(f'{value:g}' for value in axis.values)}")
        evened.append(one.model_copy(update={"grid": grid}))
    space.check_sizes({one.name: math.prod(map(len, one.grid.values())) for one in evened})
    return evened


def _own(name: str, value: str) -> Axis:
    """The learning rates of fairstep's optimizer of this name, in its unit. Raises ValueError."""
    try:
        return space.own(optim.get(value))
    except optim.UnknownOptimizerError:
        raise ValueError(
            f"nothing says which learning rates of {name} are tried; write --space {name}.lr=log:1e-4:1e-2, or a "
            "[[contestants]] table with this name"
        ) from None
