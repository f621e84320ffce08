"""Ledger: every trial that was spent on every contestant, and what each was for.

A trial is a run with a role in a contest, and what it cost. One run may serve several contests; the ledger of each
counts its cost. The ledger holds no losses: losses are in the runs, and ``table.trial_table`` joins the two.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from fairstep.runs.baseline_source import BaselineSource
from fairstep.runs.certificate import Certificate
from fairstep.runs.design import Design, Look
from fairstep.runs.files import digest_of, parse_json, write_atomic
from fairstep.runs.frozen import Record, Value, explain
from fairstep.runs.run import Status
from fairstep.runs.spec import FORMAT

Phase = Literal["short", "tune", "final", "budget"]
"""short: search of hyperparameters on shorter schedules. tune: the same at the cell's length. final: the chosen ones on
a fresh seed. budget: the baseline at other lengths."""
SEARCHES: tuple[Phase, ...] = ("short", "tune")
"""Phases in which hyperparameters are searched: the effort that is to be equal."""


Count = Annotated[int, Field(ge=0, lt=2**63)]


def chinchilla_ratio(tokens: float, parameters_matrix: float) -> float:
    """Tokens in multiples of 20 a matrix parameter, to two digits: by this cells are told apart."""
    return float(f"{tokens / (20 * max(parameters_matrix, 1)):.2g}")


class Trial(Record):
    """One run that was spent on one contestant, and what it has cost so far."""

    contestant: str
    """Name of the contestant."""
    phase: Phase
    """short: search of hyperparameters on shorter schedules. tune: the same at the cell's length. final: the chosen
    ones on a fresh seed. budget: the baseline at other lengths."""
    run: str
    """Identity of the run."""
    hyperparameters: dict[str, Value]
    """Values of the hyperparameters that the search varies."""
    status: Status = "unfinished"
    """unfinished until there is a result."""
    tokens: Count = 0
    """Tokens trained on."""
    seconds: float = 0.0
    """Seconds of training."""
    failures: Count = 0
    """Attempts that crashed or hung."""


class Cell(Record):
    """One workload: model size x token budget x batch size x data."""

    model: str
    """Name of the model's preset."""
    parameters_matrix: Count
    """Parameters in the blocks' matrices, by which papers name sizes."""
    parameters: Count
    """All parameters."""
    tokens: Count
    """Token budget of a run."""
    batch_tokens: Count
    """Tokens of an optimizer step."""
    steps: Count
    """Optimizer steps of a run."""
    data: str
    """Name of the text."""
    fingerprint: str
    """Hash of the prepared text."""
    vocabulary: Count
    """Number of different tokens in the text."""
    precision: str
    """Precision of the matrix products: float32 or bf16."""
    transfer: str = ""
    """Rule by which hyperparameters come from another cell's (docs/explanation/transfer.md). Empty: none."""


class Choice(Record):
    """What the search chose for a contestant."""

    hyperparameters: dict[str, Value]
    """Values of the hyperparameters that the search varies."""
    at_edge: bool = False
    """Whether the best value is still the outermost one tried."""
    notes: tuple[str, ...] = ()
    """What the protocol says about this choice, in sentences: a budget that ended it, the error of a law."""


class Ledger(Record):
    """A contest in one cell: its contestants, what the search chose for each so far, and all of its trials."""

    format: int = FORMAT
    """Version of the file."""
    name: str
    """Name of the file, without .json."""
    study: str = ""
    """Common name of the ledgers of a study with several cells. Empty for a contest of one cell."""
    title: str = ""
    """What its author calls it. Decides nothing."""
    command: str
    """Command that started the contest."""
    baseline: str
    """Contestant that the others are measured against."""
    contestants: tuple[str, ...]
    """Names of all contestants."""
    cell: Cell
    """The workload."""
    choices: dict[str, Choice] = Field(default_factory=dict)
    """What the search chose, by contestant."""
    certificates: dict[str, Certificate] = Field(default_factory=dict)
    """Proofs that contestants were tuned, or what they lack, by contestant."""
    trials: tuple[Trial, ...] = ()
    """Every run that was spent, in order."""
    design: Design | None = None
    """How many paired seeds are looked at. Null in ledgers from before designs: one look at all seeds."""
    earlier_designs: tuple[Design, ...] = ()
    """Designs that had ended when more seeds were asked for. Each had an alpha of its own."""
    looks: tuple[Look, ...] = ()
    """Every look that was taken."""
    baseline_from: BaselineSource | None = None
    """Where the baseline's runs were taken from. Null: they were trained for this contest."""
    altered: bool = Field(default=False, exclude=True)
    """Whether the file was changed after it was written, which its digest tells."""
    unsealed: bool = Field(default=False, exclude=True)
    """Whether the file has no digest, so that a change would not be told."""

    @property
    def transfer(self) -> str:
        """The cell's rule of transfer; empty: none. Ledgers from before cells said it may have it in their name."""
        named = re.search(r"transfer=(\w+)", self.name)
        return self.cell.transfer or (named[1] if named and named[1] != "none" else "")

    def write(self, path: Path) -> None:
        text = self.model_dump_json(indent=1)
        digest = digest_of(parse_json(text))
        write_atomic(path, f'{{\n "digest": "{digest}",{text[1:]}')

    @classmethod
    def parse(cls, raw: bytes) -> Ledger:
        """The ledger that a file's content is. Raises ValueError with one sentence."""
        try:
            values = parse_json(raw)
            digest = values.pop("digest", "")
            raw = json.dumps(values).encode()
        except (ValueError, AttributeError, TypeError):  # which the validation names
            values, digest = {}, ""
        try:
            ledger = cls.model_validate_json(raw)
        except ValidationError as error:
            raise ValueError(explain(error)) from None
        if ledger.format > FORMAT:
            raise ValueError(f"written by a newer fairstep (format {ledger.format}; this one reads up to {FORMAT})")
        if strangers := {trial.contestant for trial in ledger.trials} - set(ledger.contestants):
            raise ValueError(f"its trials are of {min(strangers)!r}, which is not among its contestants")
        if ledger.baseline not in ledger.contestants:
            raise ValueError(f"its baseline {ledger.baseline!r} is not among its contestants")
        return ledger.model_copy(update={"altered": digest not in ("", digest_of(values)), "unsealed": not digest})
