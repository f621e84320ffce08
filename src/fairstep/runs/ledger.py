"""Ledger: every trial that was spent on every contestant, and what it was for.

A trial is a run with a role in a contest, and what it cost. One run may serve several contests; its cost is in each of
their ledgers. The ledger holds no losses: those are in the runs, and the two are joined by ``table.trial_table``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fairstep.runs.certificate import Certificate
from fairstep.runs.files import write_atomic
from fairstep.runs.frozen import Value, explain
from fairstep.runs.run import Status
from fairstep.runs.spec import FORMAT

Phase = Literal["tune", "final", "budget"]
"""tune: search of hyperparameters. final: the chosen ones on a fresh seed. budget: the baseline at other lengths."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Record):
    """One run spent on one contestant. ``hyperparameters`` are those that the search varies.

    ``tokens`` and ``seconds`` (of training) are what it has cost so far; ``failures`` counts attempts that crashed or
    hung. ``status`` is unfinished until there is a result.
    """

    contestant: str
    phase: Phase
    run: str
    hyperparameters: dict[str, Value]
    status: Status = "unfinished"
    tokens: int = 0
    seconds: float = 0.0
    failures: int = 0


class Cell(_Record):
    """One workload: model size x token budget x batch size x data."""

    model: str
    parameters_matrix: int
    parameters: int
    tokens: int
    batch_tokens: int
    steps: int
    data: str
    fingerprint: str
    vocabulary: int
    precision: str


class Choice(_Record):
    """What the search chose for a contestant. ``at_edge``: the best value is still the outermost one tried.

    ``notes`` are what the protocol has to say about this choice: a budget that ended it, the error of a law.
    """

    hyperparameters: dict[str, Value]
    at_edge: bool = False
    notes: tuple[str, ...] = ()


class Ledger(_Record):
    """A contest in one cell: its contestants, what the search chose for each so far, and all of its trials.

    A study of several cells has a ledger for each; ``study`` is their common name, empty for a contest of one cell.
    """

    format: int = FORMAT
    name: str
    study: str = ""
    command: str
    baseline: str
    contestants: tuple[str, ...]
    cell: Cell
    choices: dict[str, Choice] = {}
    certificates: dict[str, Certificate] = {}
    trials: tuple[Trial, ...] = ()

    def write(self, path: Path) -> None:
        write_atomic(path, self.model_dump_json(indent=1))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Raises ValueError with one sentence."""
        try:
            ledger = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(explain(error)) from None
        if ledger.format > FORMAT:
            raise ValueError(f"written by a newer fairstep (format {ledger.format}; this one reads up to {FORMAT})")
        return ledger
