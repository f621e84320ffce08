"""Run: one directory, named by its spec's identity. The files are the truth.

spec.json             the RunSpec
metrics.jsonl         a row per logged step: what the spec decides
timings.jsonl         a row beside each: what this machine took
env.json              machine, versions, every start
checkpoints/          while the run is unfinished
weights.safetensors   where asked for
error.txt             what the last attempt said in full, if it failed
summary.json          written last and at once: a run without a summary is unfinished
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairstep.runs.files import read_json, read_jsonl, write_atomic
from fairstep.runs.spec import RunSpec

Status = Literal["done", "diverged", "failed", "unfinished"]


class Summary(BaseModel):
    """The outcome of a run. Losses are mean cross-entropy in nats per token; times are seconds.

    Seconds of a step are medians over the rows of timings.jsonl; a row is the mean of its steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["done", "diverged", "failed"]
    """done and diverged are results. failed is not: a failed run may be tried again."""
    final_loss: float | None = None
    """Loss over the whole final evaluation set at the last step. none unless the status is done."""
    validation_losses: dict[str, float | None] = Field(default_factory=dict)
    """Final losses over further validation sets, by name."""
    bits_per_byte: float | None = None
    """``final_loss`` in bits per byte of the validation text."""
    steps: int = 0
    """Optimizer steps taken."""
    tokens: int = 0
    """Tokens trained on."""
    train_seconds: float = 0.0
    """Seconds of all work that the result rests on, evaluations included."""
    step_seconds: float = 0.0
    """Seconds of a step."""
    optimizer_seconds: float = 0.0
    """Part of a step's seconds in the optimizer."""
    data_seconds: float = 0.0
    """Part of a step's seconds in fetching the batch."""
    evaluation_seconds: float = 0.0
    """Seconds of all evaluations together."""
    tokens_per_second: float = 0.0
    """Tokens of a batch over ``step_seconds``."""
    utilisation: float | None = None
    """The model's FLOPs a second over the machine's measured rate of matrix products."""
    clip_fraction: float = 0.0
    """Part of the steps whose gradient was clipped."""
    peak_memory_bytes: int = 0
    """Most memory that was resident (on an accelerator: allocated) while the run trained; 0: not known, because larger
    runs before it in its process had left memory behind."""
    state_bytes: int = 0
    """Memory of the optimizer's state, on all ranks together."""
    parameters: int = 0
    """All parameters of the model."""
    parameters_matrix: int = 0
    """Parameters in the blocks' matrices."""
    message: str = ""
    """Why the run diverged or failed, in one sentence."""


@dataclass(frozen=True)
class Run:
    """A run's directory. Reading one never writes to it."""

    directory: Path

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def spec(self) -> RunSpec:
        """Raises SpecError if the file cannot be read as a spec of this version, FileNotFoundError if it is missing."""
        return RunSpec.from_json((self.directory / "spec.json").read_bytes())

    @property
    def summary(self) -> Summary | None:
        """None while unfinished; a summary that cannot be read counts as none."""
        try:
            return Summary.model_validate_json((self.directory / "summary.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    @property
    def status(self) -> Status:
        summary = self.summary
        return "unfinished" if summary is None else summary.status

    @property
    def finished(self) -> bool:
        """Whether there is a result: done and diverged are results, failed is not."""
        return self.status in ("done", "diverged")

    @property
    def locked(self) -> bool:
        """Whether a process is training it at this moment: whoever trains holds a lock on the file ``lock``, which the
        kernel releases when the process dies."""
        try:
            with (self.directory / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def environment(self) -> dict[str, Any]:
        return read_json(self.directory / "env.json") or {}

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl: ``kind`` (train or evaluation), ``step``, ``tokens``, ``loss``, measurements."""
        return read_jsonl(self.directory / "metrics.jsonl")

    def timings(self) -> list[dict[str, Any]]:
        """Rows of timings.jsonl: ``step`` and the mean seconds of a step and of its parts since the row before."""
        return read_jsonl(self.directory / "timings.jsonl")

    def write_error(self, text: str) -> None:
        """Keep what a failed attempt said: a traceback, or the last words of its process."""
        write_atomic(self.directory / "error.txt", text, durable=False)

    def write_summary(self, summary: Summary) -> None:
        write_atomic(self.directory / "summary.json", summary.model_dump_json(indent=1))
