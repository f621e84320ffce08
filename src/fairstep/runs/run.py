"""Run: one directory, named by its spec's identity. The files are the truth.

spec.json             the RunSpec, or the CommandSpec
metrics.jsonl         a row per logged step: what the spec decides
timings.jsonl         a row beside each: what this machine took
env.json              machine, versions, every start
checkpoints/          while the run is unfinished
weights.safetensors   where asked for
error.txt             what the last attempt said in full, if it failed
output.log, out/      what somebody else's trainer printed (bounded), and the folder that it may write to
summary.json          written last and at once: a run without a summary is unfinished
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from fairstep.runs.command_spec import CommandSpec
from fairstep.runs.files import digest_of, json_object, json_rows, open_own, parse_json, read_bytes, write_atomic
from fairstep.runs.frozen import Record, SpecError, explain
from fairstep.runs.spec import RunSpec

Status = Literal["done", "diverged", "failed", "unfinished"]

Spec = RunSpec | CommandSpec
"""Of a run of ours, or of a run of somebody else's trainer."""


class Summary(Record):
    """The outcome of a run. Losses are mean cross-entropy in nats per token; times are seconds.

    Seconds of a step are medians over the rows of timings.jsonl; a row is the mean of its steps.
    """

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
    digest: str = ""
    """SHA-256 of the spec, of metrics.jsonl and of this summary. Empty: written by a version before."""

    def problem(self, spec: Spec) -> str:
        """What cannot be true of a run of this spec, in words; empty if nothing."""
        numbers = [*self.model_dump(exclude={"validation_losses"}).items(), *self.validation_losses.items()]
        for name, value in numbers:
            if isinstance(value, int | float) and not (-(2**63) < value < 2**63 and math.isfinite(value)):
                return f"{name} is {value:.4g}"
            if isinstance(value, int | float) and name not in self.validation_losses and value < 0:
                return f"{name} is {value:.6g}, below 0"
        if self.status == "failed":
            return ""
        if self.tokens != self.steps * spec.batch_tokens:
            return f"{self.tokens} tokens are not {self.steps} steps of {spec.batch_tokens} tokens"
        if self.status == "diverged":
            return f"{self.steps} steps of {spec.steps}" if self.steps > spec.steps else ""
        if self.steps != spec.steps and (self.steps or self.train_seconds):  # nothing at all: it was not trained here
            return f"it is done after {self.steps} steps of {spec.steps}"
        if self.step_seconds <= 0 < self.tokens_per_second:  # neither: nobody took the time
            return f"step_seconds is {self.step_seconds:g}, not above 0"
        highest = spec.highest_loss
        if self.final_loss is None or not 0 < self.final_loss <= highest:
            return f"final_loss is {self.final_loss}, not in (0, {highest:.2f}]"
        return ""


class Checked(NamedTuple):
    """A run's files as far as they can be read. ``summary`` is None while unfinished and where there is a problem."""

    spec: Spec | None
    summary: Summary | None
    problem: str = ""
    """What is wrong, in one sentence without a stop; empty if nothing."""


@dataclass(frozen=True)
class Run:
    """A run's directory, or its ``packed`` files by name in a packed store. Reading one never writes to it."""

    directory: Path
    packed: Mapping[str, bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        return self.directory.name

    def read(self, name: str) -> bytes:
        """The content of one of its files. Raises OSError, FileNotFoundError if there is none."""
        if self.packed is None:
            return read_bytes(self.directory / name)
        if name not in self.packed:
            raise FileNotFoundError(errno.ENOENT, "this file is not packed", str(self.directory / name))
        return self.packed[name]

    def has(self, name: str) -> bool:
        """Whether it has a file of that name."""
        return (self.directory / name).exists() if self.packed is None else name in self.packed

    @property
    def exists(self) -> bool:
        return self.packed is not None or self.directory.is_dir()

    @property
    def spec(self) -> Spec:
        """Raises SpecError if the file cannot be read as a spec of this version, FileNotFoundError if it is missing."""
        raw = self.read("spec.json")
        return CommandSpec.from_json(raw) if b'"trainer"' in raw else RunSpec.from_json(raw)

    @property
    def own_spec(self) -> RunSpec:
        """The spec of a run of ours, which has a model and a text. Raises as ``spec``, and SpecError for any other."""
        spec = self.spec
        if isinstance(spec, CommandSpec):
            raise SpecError(f"run {self.id} is of the trainer {spec.trainer.name}, not of fairstep's own")
        return spec

    @property
    def summary(self) -> Summary | None:
        """None while unfinished; a summary that cannot be read, or cannot be true of the run, counts as none."""
        return self.checked.summary if self.has("summary.json") else None

    @property
    def unchecked_summary(self) -> Summary | None:
        """The summary as it stands, for a run that has ended this moment: ``summary`` takes ten times as long."""
        try:
            return Summary.model_validate_json(self.read("summary.json"))
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    @property
    def checked(self) -> Checked:
        """Spec and summary, each parsed once, held against one another, the folder's name and the digest."""
        spec = None
        try:
            spec = self.spec
            raw = self.read("summary.json")
        except (FileNotFoundError, NotADirectoryError):
            return Checked(spec, None)
        except (SpecError, OSError) as error:
            name = "summary.json" if spec else "spec.json"
            return Checked(spec, None, f"{name} of run {self.id} cannot be read ({error.args[-1]})")
        if spec.identity != self.id:
            return Checked(spec, None, f"spec.json of run {self.id} is of another run ({spec.identity})")
        try:
            summary = Summary.model_validate_json(raw)
            if summary.digest and summary.digest != self._digest(spec, parse_json(raw)):
                return Checked(spec, None, f"the files of run {self.id} are not as they were when it ended")
        except ValidationError as error:
            return Checked(spec, None, f"summary.json of run {self.id} cannot be read ({explain(error)})")
        except (ValueError, OSError) as error:
            return Checked(spec, None, f"the files of run {self.id} cannot be read ({error})")
        if problem := summary.problem(spec):
            return Checked(spec, None, f"summary.json of run {self.id} cannot be right: {problem}")
        return Checked(spec, summary)

    def _digest(self, spec: Spec, summary: dict[str, Any]) -> str:
        """Of everything that a verdict rests on. The spec enters without what two machines may write differently."""
        text = json.dumps(spec.evidence(), sort_keys=True)
        return digest_of(summary, text.encode(), self._read_any("metrics.jsonl"))

    def _read_any(self, name: str) -> bytes:
        """Empty for a file that is not there."""
        try:
            return self.read(name)
        except (FileNotFoundError, NotADirectoryError):
            return b""

    def _read_readable(self, name: str) -> bytes:
        """Empty for a file that is not there or cannot be read; ``unreadable`` names the latter."""
        try:
            return self.read(name)
        except OSError:
            return b""

    def unreadable(self) -> list[str]:
        """Files that are there and cannot be read, each in a sentence: they count as missing. Of spec and summary
        ``checked`` tells."""
        sentences = []
        for name in ("metrics.jsonl", "env.json", "timings.jsonl"):
            try:
                self._read_any(name)
            except OSError as error:
                sentences.append(f"{name} of run {self.id} cannot be read ({error.strerror}).")
        return sentences

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

    @contextmanager
    def hold(self, wait: Callable[[], object]) -> Iterator[IO[Any]]:
        """Hold the run's lock, as whoever trains it must. ``wait`` is called first if another process holds it."""
        with open_own(self.directory / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                raise ValueError(
                    f"the file system of {self.directory.parent.parent} has no file locks ({error.strerror}), by which "
                    "no two processes train one run; name a store on another one with --store"
                ) from None
            yield file

    @property
    def environment(self) -> dict[str, Any]:
        return json_object(self._read_readable("env.json")) or {}

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl: ``kind`` (train or evaluation), ``step``, ``tokens``, ``loss``, measurements."""
        return json_rows(self._read_readable("metrics.jsonl"))

    def timings(self) -> list[dict[str, Any]]:
        """Rows of timings.jsonl: ``step`` and the mean seconds of a step and of its parts since the row before."""
        return json_rows(self._read_readable("timings.jsonl"))

    def sealed(self, summary: Summary) -> Summary:
        """The summary with the digest of the run's files as they are now. Nothing may be written to them after."""
        digest = self._digest(self.spec, parse_json(summary.model_dump_json()))
        return summary.model_copy(update={"digest": digest})

    def write_error(self, text: str) -> None:
        """Keep what a failed attempt said: a traceback, or the last words of its process."""
        write_atomic(self.directory / "error.txt", text, durable=False)

    def write_summary(self, summary: Summary) -> None:
        write_atomic(self.directory / "summary.json", summary.model_dump_json(indent=1))
