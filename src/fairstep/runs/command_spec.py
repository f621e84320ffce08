"""CommandSpec: one run of somebody else's trainer, frozen, validated, and named by a hash of itself like a RunSpec.

The trainer is a command or a Python callable. ``{name}`` in a command stands for a value of the run; ``{{`` and ``}}``
are braces. Beside the contestant's and the cell's values there are

    {seed}        every placeholder that ``seeds`` names
    {steps}       optimizer steps of the run
    {tokens}      tokens of the run
    {out}         a folder of the run's own
    {processes}   processes that the launcher gives a trial

The identity is the hash of what decides the numbers: the command or the callable, its values, the hash of its code and
the declared constants. Where the code lies on this machine and how progress is read are left out of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from fairstep.runs.files import read_bytes
from fairstep.runs.frozen import Frozen, NamedByContent, Positive, Value, is_number
from fairstep.runs.spec import FORMAT

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
PROCESSES = "FAIRSTEP_PROCESSES"
"""Variable by which a launcher tells a worker what {processes} is."""
LENGTHS = ("steps", "tokens")
FREE = ("out", "processes")
"""Placeholders that are no part of the experiment."""


class LossSource(Frozen):
    """Where the final loss of a run is read: one of ``file``, ``pattern`` and ``exit_json``. A callable needs none."""

    file: str = ""
    """A file that the trainer writes: JSON, JSON lines, .csv or a plain number. The last row with the key counts. Its
    name may hold placeholders such as {out}."""
    key: str = ""
    """Key of the loss in the rows of the file, or in a JSON line at the end of the output, perhaps inside others as in
    metrics.val_loss. Default: loss."""
    pattern: str = ""
    """Regular expression for lines of the output, whose group (or group ``loss``) is the loss. The last match counts. A
    group (?P<step>...) gives the curve too."""
    exit_json: bool = False
    """The last line of the output is a JSON object with the loss."""

    @model_validator(mode="after")
    def _one(self) -> LossSource:
        if (given := sum(map(bool, (self.file, self.pattern, self.exit_json)))) > 1:
            raise ValueError(f"a loss is read from one of file, pattern and exit_json, not from {given} of them")
        if self.pattern:
            loss_group(self.pattern)
        return self


class Trainer(Frozen):
    """Somebody else's trainer: ``command`` or ``call``."""

    command: tuple[str, ...] = ()
    """Program and arguments, with placeholders."""
    call: str = ""
    """package.module:function, or path/file.py:function."""
    loss: LossSource = LossSource()
    """Where the final loss is read."""
    progress: str = ""
    """Regular expression for lines of the output with a step and a loss. Not part of the identity."""
    seeds: tuple[str, ...] = ("seed",)
    """Placeholders, or arguments of the callable, that take the run's seed."""
    constants: dict[str, Value] = Field(default_factory=dict)
    """What also decides the numbers and stands in no command, such as the name of the data."""
    code: str = ""
    """SHA-256 of the files of the code."""
    files: tuple[str, ...] = ()
    """Files of the code, relative to ``directory``. Not part of the identity."""
    directory: str = ""
    """Where the command is started. Not part of the identity."""
    resume: bool = False
    """Whether a trial that was killed finds its {out} as it left it. Not part of the identity."""

    @property
    def name(self) -> str:
        """For tables and pages."""
        if self.call:
            path, _, function = self.call.rpartition(":")
            return f"{Path(path).name}:{function}"
        words = [part for part in self.command[1:] if not part.startswith("-") and not placeholders(part)]
        own = [part for part in words if part in self.files]
        return Path(next(iter(own or words), self.command[0])).name

    @property
    def placeholders(self) -> set[str]:
        """Names in the command, and in the file of the loss."""
        return set().union(*map(placeholders, (*self.command, self.loss.file)))


class CommandSpec(NamedByContent):
    """One run of somebody else's trainer."""

    format: int = FORMAT
    """Version of the files of a run."""
    trainer: Trainer
    """What trains."""
    arguments: tuple[str, ...] = ()
    """The contestant's own arguments, after the command's."""
    settings: dict[str, Value] = Field(default_factory=dict)
    """The contestant's values."""
    cell: dict[str, Value] = Field(default_factory=dict)
    """The cell's values, the same for all contestants."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the run."""
    steps: Positive
    """Optimizer steps."""
    batch_tokens: Positive = 1
    """Tokens of an optimizer step, as declared. 1: tokens are steps."""

    @model_validator(mode="after")
    def _readable(self) -> CommandSpec:
        if self.format > FORMAT:
            raise ValueError(f"written by a newer fairstep (format {self.format}; this one reads up to {FORMAT})")
        if bool(self.trainer.command) == bool(self.trainer.call):
            raise ValueError("a trainer is a command or a call, and one of the two")
        return self

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_tokens

    @property
    def init_seed(self) -> int:
        return self.seed

    @property
    def data_seed(self) -> int:
        return self.seed

    def values(self) -> dict[str, Value]:
        """Placeholder -> value, but for ``FREE``."""
        lengths = {"steps": self.steps, "tokens": self.tokens}
        return {**lengths, **self.cell, **self.settings, **dict.fromkeys(self.trainer.seeds, self.seed)}

    def command(self, out: Path, processes: str = "1") -> list[str]:
        """The command as it is run."""
        values = {**self.values(), "out": str(out), "processes": processes}
        return [filled(part, values) for part in (*self.trainer.command, *self.arguments)]

    # What a table, a check and a launcher ask of any spec (RunSpec has the same).

    @property
    def worker(self) -> str:
        """Module that carries such a run out."""
        return "fairstep.external"

    @property
    def kind(self) -> str:
        """Whose code runs in the worker's own process."""
        return f"{self.trainer.call} {self.trainer.code}" if self.trainer.call else "commands"

    @property
    def optimizer_name(self) -> str:
        return str(self.settings.get("optimizer", self.trainer.name))

    @property
    def model_name(self) -> str:
        return " ".join([self.trainer.name, *(f"{name}={text_of(value)}" for name, value in self.cell.items())])

    @property
    def highest_loss(self) -> float:
        """A run above it has diverged; of somebody else's loss nothing is known."""
        return math.inf

    @property
    def work(self) -> float:
        """For shares of progress."""
        return float(self.tokens)

    def columns(self) -> dict[str, Any]:
        """The spec's part of ``table.RUN_COLUMNS``."""
        lr = self.settings.get("lr")
        return {
            "optimizer": self.optimizer_name,
            "hyperparameters": json.dumps(self.settings, sort_keys=True),
            "lr": float(lr) if is_number(lr) else None,
            "model": self.model_name,
            "data": self.trainer.code,
            "batch_tokens": self.batch_tokens,
            "budget_tokens": self.tokens,
            "steps": self.steps,
            "precision": str(self.trainer.constants.get("precision", "")),
            "workload": self._workload(),
            "init_seed": self.seed,
            "data_seed": self.seed,
        }

    def _workload(self) -> str:
        trainer = _semantic(self.trainer)
        return json.dumps({"trainer": trainer, "cell": self.cell, "batch_tokens": self.batch_tokens}, sort_keys=True)

    def cell_facts(self) -> dict[str, object]:
        """What a ledger's cell says of its runs too."""
        precision = str(self.trainer.constants.get("precision", ""))
        return {"model": self.model_name, "text": self.trainer.code, "vocabulary": 0, "precision": precision}

    def known_settings(self) -> dict[str, object]:
        """What a search may have varied, as the run has it."""
        return dict(self.settings)

    def semantic(self) -> dict[str, object]:
        fields = self.model_dump(mode="json", exclude={"trainer"}, exclude_defaults=True)
        return fields | {"trainer": _semantic(self.trainer), "format": self.format}

    def evidence(self) -> dict[str, object]:
        """What the digest of a run's files covers of its spec."""
        return self.semantic()


def _semantic(trainer: Trainer) -> dict[str, Any]:
    left_out: Any = {"files", "directory", "resume", "progress"}
    fields: dict[str, Any] = trainer.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    if trainer.call:  # a path is of this machine, and the code's hash is not
        fields["call"] = trainer.name
    return fields


def placeholders(template: str) -> set[str]:
    """Names in braces."""
    return {match[1] for match in PLACEHOLDER.finditer(template) if match[1]}


def filled(template: str, values: Mapping[str, Value]) -> str:
    """The template with its values. Raises KeyError for one that is missing."""
    return PLACEHOLDER.sub(lambda match: text_of(values[match[1]]) if match[1] else match[0][0], template)


def text_of(value: Value) -> str:
    """A value as TOML writes it; words without quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def loss_group(pattern: str) -> str | int:
    """The group of a pattern that holds the loss. Raises ValueError."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression ({error})") from None
    if "loss" in compiled.groupindex:
        return "loss"
    if compiled.groups != 1:
        raise ValueError(
            f"the pattern {pattern!r} has {compiled.groups} groups; put the loss, and nothing else, in parentheses, or "
            "name its group (?P<loss>...)"
        )
    return 1


def code_hash(directory: Path, files: Iterable[str]) -> str:
    """SHA-256 of the files' names and contents. Raises OSError."""
    digest = hashlib.sha256()
    for name in sorted(files):
        content = read_bytes(directory / name)
        digest.update(f"{Path(name).name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
