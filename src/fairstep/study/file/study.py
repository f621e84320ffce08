"""Studies: a contest in TOML (docs/reference/study-file.md), checked to the last value before any trial starts.

``read`` finds everything that is wrong with a file alone. ``Study.contest`` is the contest on real texts. Every error
is a StudyError: the file, the line, what is wrong, what would be right. A study that is in no file has no lines.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fairstep.cost.devices import Device, device_here
from fairstep.cost.devices import device as device_named
from fairstep.cost.precision import auto_precision
from fairstep.cost.run_cost import Cost, cost
from fairstep.runs import DataSpec, Design, Execution, Ledger, RunSpec, machine
from fairstep.study.file.cells import Place, StudyCell, Text, cells_of, foreign_names
from fairstep.study.file.command_schema import CommandStudyTable
from fairstep.study.file.command_study import CommandStudy
from fairstep.study.file.contestants import check, contestants_of
from fairstep.study.file.described import contest_of, digest_of, ledgers_of
from fairstep.study.file.line_numbers import LineNumbers, StudyError, WrongKey, about
from fairstep.study.file.schema import DataTable, StudyTable, listed
from fairstep.study.tournament.contest import Contest, Contestant
from fairstep.study.workload import check_steps

VOCABULARIES = {"gpt2": 50_257, "bytes": 257}
"""Of tokenizers that are not trained on the text."""
STANDARD_TEXT = "standard-library"
LISTS = ("cells", "contestants")
"""Tables of which there may be several."""
SEVERAL = "write [[{}]], with two brackets: there may be several"


@dataclass(frozen=True)
class Study:
    """A study: what its file says, and where. One that is in no file (``fairstep compare``) has no lines."""

    name: str
    table: StudyTable
    lines: LineNumbers = field(repr=False)

    @property
    def digest(self) -> str:
        """A hash of all that decides the study, the code of foreign models with it: a changed file is another study,
        with other ledgers."""
        identity = self.table.identity()
        for cells, table in zip(identity["cells"], self.table.cells, strict=True):
            if foreign := foreign_names(table):
                cells["model"] = [foreign.get(name, name) for name in listed(table.model)]
        return digest_of(identity)

    @property
    def texts(self) -> dict[str, DataTable]:
        return self.table.data or {STANDARD_TEXT: DataTable()}

    def place(self, threads: int = 0) -> Place:
        """On the named device, else this machine; 0 threads are all cores."""
        here, launcher = machine(), self.table.launcher
        named = bool(launcher.device)
        run = Execution(
            device="cuda" if named else here.device,
            threads=threads,
            compile=launcher.compile,
            parallel=launcher.parallel,
            micro_batch_sequences=launcher.micro_batch_sequences,
        )
        return Place(run, "bf16" if named else auto_precision(here))

    @property
    def device(self) -> Device:
        """What one trial runs on."""
        name = self.table.launcher.device
        return device_named(name) if name else device_here()

    def assumed_texts(self) -> dict[str, Text]:
        """The texts without looking at them: their vocabulary follows from the tokenizer."""
        return {
            name: Text(
                DataSpec(name=name, fingerprint="", vocabulary=VOCABULARIES.get(text.tokenizer, text.vocabulary))
            )
            for name, text in self.texts.items()
        }

    def cells(self, texts: Mapping[str, Text], threads: int = 0) -> list[StudyCell]:
        """All cells. Raises StudyError."""
        cells: dict[str, StudyCell] = {}
        place = self.place(threads)
        for number, table in enumerate(self.table.cells):
            with self.lines.at("cells", number):
                for cell in cells_of(table, number, texts, place):
                    if cell.name in cells:
                        raise WrongKey("name", f"two cells are called {cell.name!r}; tell them apart with name = ...")
                    with about(cell.length):
                        check_steps(cell.workload.tokens // cell.workload.batch_tokens)
                    cells[cell.name] = cell
        return list(cells.values())

    def contest(self, texts: Mapping[str, Text] | None = None, threads: int = 0) -> Contest:
        """The contest on these texts (default: assumed ones), with so many threads a run (0: all cores). Raises
        StudyError."""
        table, cells = self.table, self.cells(texts or self.assumed_texts(), threads)
        workloads = {cell.name: cell.workload for cell in cells}
        contestants: dict[str, Contestant] = {}
        for number, described in enumerate(table.contestants):
            for contestant in contestants_of(self.lines, number, described, workloads):
                if contestant.name in contestants:
                    raise self.lines.error(
                        ["contestants", number, "optimizer"],
                        f"two contestants are called {contestant.name!r}; tell them apart with name = ...",
                    )
                check(self.lines, number, contestant, cells)
                contestants[contestant.name] = contestant
        return contest_of(self.table, self.lines, workloads, list(contestants.values()))

    def ledgers(self, contest: Contest, command: str) -> dict[str, Ledger]:
        """The ledgers to begin with, by cell."""
        return ledgers_of(self.name, self.table.title, self.digest, command, contest)

    def changed_since(self, ledgers: Sequence[Ledger]) -> str:
        """What to say of earlier ledgers that other code of a foreign model has left; empty if none."""
        now = [name for table in self.table.cells for name in foreign_names(table).values()]
        models = {ledger.cell.model: ledger.name for ledger in ledgers}
        for name in now:
            source = name.partition("@")[0]
            other = [ledger for model, ledger in models.items() if model.partition("@")[0] == source]
            if other and name not in models:
                return (
                    f"the model {source} (its code, config or context) is not what {other[-1]} was run with; this is "
                    "another workload, whose runs begin anew, and the earlier ones stay as they are"
                )
        return ""

    def starts(self, contest: Contest) -> Iterator[tuple[StudyCell, str, RunSpec]]:
        """One run of every (cell, contestant) at its starting point."""
        for cell in self.cells_of(contest):
            for contestant in contest.contestants:
                spec = contestant.spec(cell.workload, contestant.start(cell.name, cell.workload), 0)
                assert isinstance(spec, RunSpec)
                yield cell, contestant.name, spec

    def costs(self, contest: Contest, device: Device | None = None) -> dict[tuple[str, str], Cost]:
        """A cost for each of ``starts``. Raises StudyError for one that cannot run or does not fit into the device."""
        costs = {}
        launcher = self.table.launcher
        for cell, contestant, spec in self.starts(contest):
            key = "processes" if launcher.processes else "gpus"
            with self.lines.at("launcher", key, before=f"{cell.name}: "):
                run = cost(spec, device or self.device, launcher.each, launcher.parallel)
            if run.fits is False:
                raise self.lines.error(["cells", cell.table, "model"], self._too_large(cell, contestant, run))
            costs[cell.name, contestant] = run
        return costs

    def cells_of(self, contest: Contest) -> Iterator[StudyCell]:
        """The study's cells with the workloads of a contest of it."""
        for cell in self.cells(self.assumed_texts()):
            yield replace(cell, workload=contest.own_cells[cell.name])

    # What is checked.

    def _too_large(self, cell: StudyCell, contestant: str, run: Cost) -> str:
        room, needed = run.device.memory_bytes / 1e9, run.memory_bytes / 1e9
        remedy = "choose a smaller model or a larger device"
        micro = cell.workload.execution.micro_batch_sequences or cell.workload.batch_sequences
        if run.memory_bytes - run.memory.activations < run.device.memory_bytes and micro > 1:
            remedy = f"set micro_batch_sequences below {micro}"
        need = f"{contestant} in {cell.name} needs {needed:.1f} GB of memory"
        return f"{need} and {run.device.name} has {room:.1f} GB; {remedy}"


AnyStudy = Study | CommandStudy
"""Around our own trainer, or somebody else's."""


def described(file: Path) -> tuple[StudyTable | CommandStudyTable, LineNumbers]:
    """The tables of a study file, whose form is checked, and its lines. Raises StudyError, or OSError for a file that
    cannot be read."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"there is no study file {file}") from None
    try:
        text = raw.decode("utf-8-sig")  # some editors write a byte order mark
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = re.search(r"line (\d+)", str(error))
        twice = re.search(r"Cannot declare \('(\w+)',\) twice", str(error))
        wrong = SEVERAL.format(twice[1]) if twice and twice[1] in LISTS else f"this is no TOML ({error})"
        raise StudyError(f"{file}, line {where[1] if where else 1}: {wrong}") from None
    except RecursionError:
        raise StudyError(f"{file}: this is no study; its values are nested too deeply") from None
    lines = LineNumbers(file, text)
    kind = CommandStudyTable if "trainer" in content else StudyTable
    try:
        return kind.model_validate(content), lines
    except ValidationError as error:
        raise _explained(lines, error, content, kind) from None


def read(path: str | Path, described_only: bool = False) -> AnyStudy:
    """Read and check a study file. ``described_only`` checks its form and imports no optimizer. Raises StudyError, or
    OSError for a file that cannot be read."""
    file = Path(path)
    table, lines = described(file)
    for name in ("cells", "contestants"):
        if not getattr(table, name):
            raise lines.error([name], f"the study has no {name}; add a [[{name}]] table")
    if 1 in table.budgets:
        raise lines.error(
            ["budgets"], "budgets are other lengths of the baseline, as multiples of its own; leave out 1"
        )
    with lines.at("seeds"):
        Design.parse(table.seeds)
    name = table.name or file.stem
    if isinstance(table, CommandStudyTable):
        around = CommandStudy.of(name, table, lines, file.absolute().parent)
        if not described_only:
            around.contest()
        return around
    study = Study(name, table, lines)
    if table.launcher.device:
        with lines.at("launcher", "device"):
            device_named(table.launcher.device)
    if not described_only:
        study.contest()
    return study


def _explained(
    lines: LineNumbers, error: ValidationError, content: Mapping[str, Any], study: type[BaseModel]
) -> StudyError:
    """The first problem of the form, with its line."""
    errors = error.errors()
    # A key that is no key first: where contestants are missing, it is because of [[contestant]].
    first = next((one for one in errors if one["type"] == "extra_forbidden" and len(one["loc"]) == 1), errors[0])
    path = [part for part in first["loc"] if not isinstance(part, str) or re.fullmatch(r"[\w-]+", part)]
    depth, here = 0, content
    for part in path:  # what pydantic adds behind a key (the kinds of a union) is not in the file
        try:
            here = here[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
        depth += 1
    tables = _tables(study)
    kind = tables.get(str(path[0])) if len(path) > 1 else study
    if first["type"] == "extra_forbidden":
        keys = list(kind.model_fields) if kind else []
        near = difflib.get_close_matches(str(path[-1]), keys, n=1, cutoff=0.5)
        homes = [name for name, other in tables.items() if path[-1] in other.model_fields]
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
        if homes or (path[-1] in study.model_fields and len(path) > 1):
            brackets = "[[{}]]" if homes and homes[0] in LISTS else "[{}]"
            hint = f"it belongs {f'in {brackets.format(homes[0])}' if homes else 'above all tables'}"
        elif path[0] == "contestants" and not near:
            hint += "; a hyperparameter goes in set or grid"
        return lines.error(path, f"unknown key {str(path[-1])!r}; {hint}")
    if first["type"] == "missing":
        remedy = f"; add a [[{path[-1]}]] table" if path[-1] in LISTS else ""
        return lines.error(path[:-1], f"{path[-1]} is missing{remedy}")
    value = path[:depth]
    if first["type"] == "value_error":
        return lines.error(value, first["msg"].removeprefix("Value error, "))
    wanted = " or ".join(dict.fromkeys(_wanted(one) for one in error.errors() if list(one["loc"][:depth]) == value))
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in value).removeprefix(".")
    if name in LISTS and isinstance(first["input"], dict):
        return lines.error(value, SEVERAL.format(name))
    if isinstance(first["input"], dict) and first["input"] and value[-2:-1] in (["set"], ["grid"], ["factor"]):
        whole = f"{value[-1]}.{next(iter(first['input']))}"
        return lines.error(value, f'{value[-2]}: write "{whole}" in quotes, because it is one name')
    return lines.error(value, f"{name or 'the file'} must be {wanted}, not {first['input']!r}")


def _tables(study: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The tables of a study file, alone, in lists or by name."""
    found = {}
    for name, one in sorted(study.model_fields.items()):
        for kind in (one.annotation, *get_args(one.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a word in quotes",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
"""pydantic's names of types in TOML's words."""


def _wanted(error: Any) -> str:
    """What a value must be."""
    return KINDS.get(error["type"], str(error["msg"]).removeprefix("Input should be "))
