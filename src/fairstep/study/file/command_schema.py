"""The tables and keys of a study file around somebody else's trainer, beside the ones that every study has.

Only form is here; ``command_study.py`` gives it meaning.
"""

# ruff: noqa: RUF012  (pydantic copies defaults)

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, field_validator

from fairstep.runs import LossSource, Value
from fairstep.study.file.schema import ContestTable, Count, LauncherTable, Positive, Table


class TrainerTable(Table):
    """Somebody else's trainer. ``trainer = "package.module:function"`` is a callable with the defaults."""

    command: list[str] = []
    """Program and arguments. {name} is a placeholder; python is the Python that fairstep runs in."""
    call: str = ""
    """package.module:function, or file.py:function, called with the placeholders as arguments."""
    loss: LossSource = LossSource()
    """Where the final loss is read, in nats per token: file, pattern or exit_json. A callable returns it."""
    progress: str = ""
    """Regular expression for lines of the output, with step and loss in parentheses, for the live display. Default:
    lines such as step 100 ... loss 3.2."""
    seeds: list[str] = ["seed"]
    """Placeholders that take the trial's seed; initialisation and data may have one each."""
    budget: Literal["steps", "tokens"] = "steps"
    """Placeholder that a longer run changes."""
    batch_tokens: str | Positive = 1
    """Tokens of an optimizer step, by which steps are tokens. 1: speedups are in steps."""
    constants: dict[str, Value] = {}
    """What also decides the numbers and stands in no command, such as data = "fineweb-10B"."""
    code: list[str] = []
    """Files whose content is part of a run's identity. Default: files that the command names; of a callable its own."""
    resume: bool = False
    """A trial that was killed finds {out} as it left it, and goes on. Otherwise {out} is empty at every start."""


class CommandCellsTable(Table):
    """Cells: every combination of the keys that are lists. Any further key is a placeholder with the cell's value."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, strict=True)

    name: str = ""
    """With {steps}, {tokens} and other keys in it. Default: the length, and what the table varies."""
    steps: Positive | list[Positive] = []
    """Length of a run in optimizer steps."""
    tokens: str | Positive | list[str | Positive] = []
    """Length of a run in tokens, in place of steps."""
    batch_tokens: str | Positive | list[str | Positive] = []
    """Tokens of an optimizer step. Default: the trainer's."""
    parameters: str | Count = 0
    """Of the model, for tables and laws over sizes. 0: not known."""


class CommandContestantTable(Table):
    """One contestant: values of placeholders."""

    name: str
    """Name of the contestant."""
    set: dict[str, Value] = {}
    """Fixed values; of a placeholder that has a grid, where a search begins."""
    grid: dict[str, list[Value]] = {}
    """Values that are tried, by placeholder."""
    factor: dict[str, float] = {}
    """Ratio by which a grid goes on beyond its ends. Default: the ratio of its two outermost values."""
    arguments: list[str] = []
    """Further arguments of the command that only this contestant has."""


class CommandStudyTable(ContestTable):
    """The whole file of a study around somebody else's trainer."""

    trainer: TrainerTable
    """What trains."""
    cells: list[CommandCellsTable]
    """Workloads."""
    contestants: list[CommandContestantTable] = []
    """Who competes. ``fairstep compare NAME... --trainer`` asks for none."""
    launcher: LauncherTable = LauncherTable()
    """Who runs the trials."""

    @field_validator("trainer", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"call": value} if isinstance(value, str) else value

    def identity(self) -> dict[str, Any]:
        """Without how progress is read."""
        fields = super().identity()
        for key in ("progress", "resume", "code"):  # the code's hash is part of it
            fields["trainer"].pop(key, None)
        return fields
