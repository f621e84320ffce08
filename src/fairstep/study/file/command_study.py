"""Studies around somebody else's trainer: a contest in TOML with a ``[trainer]`` table, checked before any trial.

``CommandStudy`` is what ``Study`` is for our own trainer. Every error is a StudyError with its line.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairstep.runs import Ledger, Trainer, Value
from fairstep.runs.command_spec import FREE, LENGTHS, code_hash, placeholders
from fairstep.study.command_workload import CommandWorkload
from fairstep.study.file.cells import filled_name
from fairstep.study.file.command_schema import (
    CommandCellsTable,
    CommandContestantTable,
    CommandStudyTable,
    TrainerTable,
)
from fairstep.study.file.described import contest_of, digest_of, ledgers_of
from fairstep.study.file.line_numbers import LineNumbers, StudyError
from fairstep.study.file.schema import listed, token_count
from fairstep.study.protocols.space import Axis, Space
from fairstep.study.tournament.contest import Contest, Contestant
from fairstep.study.workload import check_steps


@dataclass(frozen=True)
class CommandCell:
    """A workload with its name and the number of its ``[[cells]]`` table."""

    name: str
    table: int
    workload: CommandWorkload


@dataclass(frozen=True)
class CommandStudy:
    """A study around ``trainer``: what its file says, and where. ``accepts`` and
    ``required``: arguments of a callable that is at hand, None for any."""

    name: str
    table: CommandStudyTable
    lines: LineNumbers = field(repr=False)
    trainer: Trainer
    accepts: frozenset[str] | None = None
    required: frozenset[str] = frozenset()

    @classmethod
    def of(cls, name: str, table: CommandStudyTable, lines: LineNumbers, directory: Path) -> CommandStudy:
        """With the trainer's code as it is now in ``directory``. Raises StudyError."""
        return cls(name, table, lines, trainer_of(table.trainer, lines, directory))

    @property
    def digest(self) -> str:
        """A hash of all that decides the study, the trainer's code with it: changed code is another study."""
        return digest_of(self.table.identity() | {"code": self.trainer.code})

    def cells(self) -> list[CommandCell]:
        """All cells. Raises StudyError."""
        arguments = {one.name: tuple(one.arguments) for one in self.table.contestants if one.arguments}
        cells: dict[str, CommandCell] = {}
        for number, table in enumerate(self.table.cells):
            for cell in self._cells_of(number, table):
                if cell.name in cells:
                    sentence = f"two cells are called {cell.name!r}; tell them apart with name = ..."
                    raise self.lines.error(["cells", number, "name"], sentence)
                cells[cell.name] = replace(cell, workload=replace(cell.workload, arguments=arguments))
        return list(cells.values())

    def contest(self, texts: Mapping[str, Any] | None = None, threads: int = 0) -> Contest:
        """The contest. Raises StudyError. A trainer has its own texts, and its threads are the launcher's."""
        cells = self.cells()
        contestants: dict[str, Contestant] = {}
        for number, described in enumerate(self.table.contestants):
            contestant = self._contestant(number, described, cells)
            if contestant.name in contestants:
                sentence = f"two contestants are called {contestant.name!r}; give one another name"
                raise self.lines.error(["contestants", number, "name"], sentence)
            contestants[contestant.name] = contestant
        workloads = {cell.name: cell.workload for cell in cells}
        return contest_of(self.table, self.lines, workloads, list(contestants.values()))

    def ledgers(self, contest: Contest, command: str) -> dict[str, Ledger]:
        """The ledgers to begin with, by cell."""
        return ledgers_of(self.name, self.table.title, self.digest, command, contest)

    def changed_since(self, ledgers: Sequence[Ledger]) -> str:
        """What to say of earlier ledgers of this study that other code of the trainer has left; empty if none."""
        old = [one for one in ledgers if one.study == self.name and one.cell.fingerprint != self.trainer.code]
        if not old or any(one.name.endswith(self.digest) for one in ledgers):
            return ""
        files = ", ".join(self.trainer.files) or self.trainer.name
        return (
            f"the code of the trainer ({files}) is not what {old[-1].name} was run with; this is another workload, "
            "whose runs begin anew, and the earlier ones stay as they are"
        )

    # Cells.

    def _cells_of(self, number: int, table: CommandCellsTable) -> Iterator[CommandCell]:
        at: list[str | int] = ["cells", number]
        given = [key for key in LENGTHS if listed(getattr(table, key))]
        if len(given) != 1:
            sentence = (
                f"the length is given by {' and by '.join(given)}; keep one"
                if given
                else ("the length of its runs is missing; give steps or tokens")
            )
            raise self.lines.error([*at, *given[1:]], sentence)
        (length,) = given
        varied = {length: listed(getattr(table, length)), "batch_tokens": listed(table.batch_tokens) or [None]}
        for key, values in (table.model_extra or {}).items():
            if not re.fullmatch(r"[A-Za-z_]\w*", key) or key in (*FREE, *LENGTHS, *self.trainer.seeds):
                raise self.lines.error([*at, key], f"{key!r} cannot be a placeholder of a cell; choose another name")
            for value in listed(values):
                if not isinstance(value, bool | int | float | str):
                    raise self.lines.error([*at, key], f"{key} must be a value or a list of values, not {value!r}")
            varied[key] = listed(values)
        if empty := [key for key, values in varied.items() if not values]:
            raise self.lines.error([*at, empty[0]], f"the list of {empty[0]} is empty; give it at least one value")
        for values in itertools.product(*varied.values()):
            chosen = dict(zip(varied, values, strict=True))
            workload = self._workload(at, table, dict(chosen), length)
            yield CommandCell(self._cell_name(at, table, chosen, varied, length), number, workload)

    def _workload(
        self, at: list[str | int], table: CommandCellsTable, chosen: dict[str, Any], length: str
    ) -> CommandWorkload:
        own = chosen.pop("batch_tokens")
        batch = self._tokens([*at, "batch_tokens"] if own else ["trainer", "batch_tokens"], own or self._batch)
        amount = self._tokens([*at, length], chosen.pop(length))
        if length == "tokens" and batch == 1:
            raise self.lines.error(
                [*at, "tokens"], "a length in tokens needs the trainer's batch_tokens; declare it, or give steps"
            )
        steps = amount if length == "steps" else amount // batch
        if steps < 1:
            raise self.lines.error([*at, length], f"a run must be at least one batch of {batch:,} tokens, not {amount}")
        with self.lines.at(*at, length):
            check_steps(steps)
        parameters = self._tokens([*at, "parameters"], table.parameters) if table.parameters else 0
        return CommandWorkload(self.trainer, steps, batch, values=chosen, parameters=parameters)

    @property
    def _batch(self) -> str | int:
        return self.table.trainer.batch_tokens

    def _tokens(self, path: Sequence[str | int], value: str | int) -> int:
        with self.lines.at(*path):
            return token_count(value, str(path[-1]))

    def _cell_name(
        self,
        at: list[str | int],
        table: CommandCellsTable,
        chosen: Mapping[str, Any],
        varied: Mapping[str, Any],
        length: str,
    ) -> str:
        words = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in chosen.items()}
        if table.name:
            with self.lines.at(*at):
                return filled_name(table.name, words)
        more = [f"{key}={words[key]}" for key in varied if key != length and len(varied[key]) > 1]
        return "-".join([f"{words[length]}-{length}", *more])

    # Contestants.

    def _contestant(self, number: int, table: CommandContestantTable, cells: Sequence[CommandCell]) -> Contestant:
        at: list[str | int] = ["contestants", number]
        if not table.name.strip():
            raise self.lines.error([*at, "name"], "a contestant needs a name that is not empty")
        axes = {}
        for name, values in table.grid.items():
            with self.lines.at(*at, "grid", name, before=f"grid.{name}: "):
                axes[name] = axis_of(values, table.factor.get(name, 0.0))
        for name in table.factor:
            if name not in axes:
                raise self.lines.error([*at, "factor", name], f"factor names {name!r}, which has no grid here")
        for part in ("set", "grid"):
            for name in getattr(table, part):
                self._check_value(at, part, name, table, cells)
        starts = {name: axis.values[len(axis.values) // 2] for name, axis in axes.items()}
        settings: dict[str, Value] = {**starts, **table.set}
        for cell in cells:
            self._check_command(number, table, cell, settings)
        return Contestant(name=table.name, hyperparameters=settings, space=Space(axes))

    def _check_value(
        self, at: list[str | int], part: str, name: str, table: CommandContestantTable, cells: Sequence[CommandCell]
    ) -> None:
        """A contestant's value is its own, and is used."""
        path = [*at, part, name]
        if name in self.trainer.seeds or name in (*FREE, *LENGTHS):
            what = "a seed, which the contest gives" if name in self.trainer.seeds else "given by the contest"
            raise self.lines.error(path, f"{name} is {what}; leave it out of {part}")
        if any(name in cell.workload.values for cell in cells):
            raise self.lines.error(path, f"{name} is given by [[cells]] too; keep one of them")
        if self.trainer.call:
            if self.accepts is not None and name not in self.accepts:
                raise self.lines.error(path, f"{self.trainer.name} takes no argument {name!r}; {self._takes()}")
        elif name not in self._used(table):
            raise self.lines.error(
                path,
                f"{name} of {table.name} is used nowhere in the command, so that it changes nothing; "
                f'put "{{{name}}}" into command, or into this contestant\'s arguments',
            )

    def _takes(self) -> str:
        return f"it takes {', '.join(sorted(self.accepts or ())) or 'none'}"

    def _used(self, table: CommandContestantTable) -> set[str]:
        """Placeholders of the contestant's command."""
        return self.trainer.placeholders.union(*map(placeholders, table.arguments))

    def _check_command(
        self, number: int, table: CommandContestantTable, cell: CommandCell, settings: Mapping[str, Value]
    ) -> None:
        """Every placeholder has a value, and what a contest varies is used."""
        seeds, budget = self.trainer.seeds, self.table.trainer.budget
        known = {*settings, *cell.workload.values, *seeds, *LENGTHS, *FREE}
        if self.trainer.call:
            if self.accepts is None:
                return
            used, at = set(self.accepts), "trainer"
        else:
            used, at = self._used(table), "command"
            if unknown := sorted(used - known):
                raise self.lines.error(
                    ["contestants", number],
                    f"the command has {{{unknown[0]}}}, and nothing gives it to {table.name} in {cell.name}; write "
                    f"set.{unknown[0]} or grid.{unknown[0]}, or in [[cells]] {unknown[0]} = ...",
                )
        in_file = placeholders(self.trainer.loss.file)
        varied = sorted(used - in_file - set(FREE))
        if self.trainer.loss.file and "out" not in in_file and varied:
            raise self.lines.error(
                ["trainer", "loss"],
                f"two trials at once would write the same {self.trainer.loss.file}; put {{out}} into its name, or "
                f"{{{varied[0]}}} too",
            )
        if missing := [name for name in seeds if name not in used]:
            how = f'put "{{{missing[0]}}}" into it' if at == "command" else self._takes()
            raise self.lines.error(
                ["trainer", "seeds"],
                f"the {at} never uses the seed {missing[0]!r}, so that its trials would all be the same; {how}, or "
                "name its seeds with seeds = [...]",
            )
        if unknown := sorted(self.required - known):
            raise self.lines.error(
                ["contestants", number],
                f"{self.trainer.name} needs {unknown[0]!r}, and nothing gives it to {table.name}",
            )
        if budget not in used:
            other = next((name for name in LENGTHS if name in used), "")
            into = f'put "{{{budget}}}" into it' if at == "command" else f"let it take {budget}"
            raise self.lines.error(
                ["trainer", "budget"],
                f"the {at} never uses {{{budget}}}, which is what makes a run longer; "
                + (f'set budget = "{other}"' if other else into),
            )
        if unused := [name for name in cell.workload.values if name not in used]:
            raise self.lines.error(
                ["cells", cell.table, unused[0]], f"the {at} never uses {unused[0]!r}, a value of the cell {cell.name}"
            )


def trainer_of(table: TrainerTable, lines: LineNumbers, directory: Path) -> Trainer:
    """The trainer with its code in ``directory``. Raises StudyError."""
    if bool(table.command) == bool(table.call):
        given = "both are given" if table.command else "none is given"
        raise lines.error(["trainer"], f'a trainer is a command = [...] or a call = "module:function"; {given}')
    if table.call and not re.fullmatch(r"[^:]+:[A-Za-z_][\w.]*", table.call):
        raise lines.error(["trainer", "call"], f"call must be package.module:function, not {table.call!r}")
    if not table.seeds:
        raise lines.error(["trainer", "seeds"], "seeds is empty; name the placeholder that takes the seed")
    source = table.loss
    if table.command and not (source.file or source.pattern or source.exit_json):
        raise lines.error(
            ["trainer", "loss"],
            'nothing says where the loss is read; write loss = { file = "{out}/metrics.jsonl", key = "val_loss" }, '
            'loss = { pattern = "val_loss:([0-9.]+)" } or loss = { exit_json = true }',
        )
    if table.progress:
        _check_progress(table.progress, lines)
    files = table.code or _files_of(table, directory)
    try:
        code = code_hash(directory, files) if files else ""
    except OSError as error:
        raise lines.error(["trainer", "code"], f"code names {error.filename}: {error.strerror}") from None
    return Trainer(
        command=tuple(table.command),
        call=table.call,
        loss=source,
        progress=table.progress,
        seeds=tuple(table.seeds),
        constants=table.constants,
        code=code,
        files=tuple(files),
        directory=str(directory),
        resume=table.resume,
    )


def _check_progress(pattern: str, lines: LineNumbers) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise lines.error(["trainer", "progress"], f"{pattern!r} is no regular expression ({error})") from None
    if not {"step", "loss"} <= compiled.groupindex.keys() and compiled.groups < 2:
        raise lines.error(
            ["trainer", "progress"], f"progress needs a step and a loss in parentheses, in this order; not {pattern!r}"
        )


def _files_of(table: TrainerTable, directory: Path) -> list[str]:
    """Files that a command names, or the file of a callable, which is found without importing it."""
    if table.call:
        place = table.call.rpartition(":")[0]
        if place.endswith(".py"):
            return [place] if Path(directory, place).is_file() else []
        inside = place.replace(".", "/")
        for root in (str(directory), *sys.path):
            for name in (f"{inside}.py", f"{inside}/__init__.py"):
                if Path(root, name).is_file():
                    return [name if root == str(directory) else str(Path(root, name).absolute())]
        return []
    named = [part for part in table.command[1:] if not placeholders(part)]
    return [part for part in named if Path(directory, part).is_file()]


def axis_of(values: Sequence[Value], factor: float) -> Axis:
    """Grids of numbers above 0 stay there."""
    positive = all(isinstance(value, bool | str) or value > 0 for value in values)
    if factor < 0 or factor == 1:
        raise ValueError(f"the factor must be above 0 and not 1, not {factor:g}")
    return Axis(tuple(values), factor, "(0, inf)" if positive else "(-inf, inf)")


__all__ = ["CommandCell", "CommandStudy", "StudyError", "axis_of", "trainer_of"]
