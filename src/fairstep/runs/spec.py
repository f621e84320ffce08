"""RunSpec: everything that decides a run's numbers, frozen, validated, and named by a hash of itself.

The identity covers the semantic fields only, and of those the ones that are not at their defaults, so that a new field
renames no earlier run. Where the data lies on this machine (``data.source``) and how the work is carried out
(``execution``: device, threads, micro-batch, compilation) change speed and rounding, not the experiment, so they are
left out of it: the same experiment has the same name on every machine.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fairstep.runs.data_spec import DataSpec
from fairstep.runs.frozen import Frozen, Positive, SpecError, Value, explain
from fairstep.runs.model_spec import ModelSpec
from fairstep.runs.schedule import ScheduleSpec

FORMAT = 1
"""Version of the files of a run; a reader refuses a higher one instead of guessing."""


class OptimizerChoice(Frozen):
    """An optimizer by name with every hyperparameter written out (no hidden defaults in a finished run).

    ``version`` says which code a foreign optimizer is, because a run's numbers depend on it; ours have none.
    ``undecayed``: roles of parameters without weight decay; None: as the optimizer has it (norms and the embedding).
    """

    name: str
    hyperparameters: dict[str, Value] = Field(default_factory=dict)
    version: str = ""
    undecayed: tuple[str, ...] | None = None


class EvaluationSpec(Frozen):
    """Validation on a fixed set of windows: ``final_tokens`` at the end, ``tokens`` evenly chosen ones on the way."""

    every_steps: Positive = 100
    tokens: Positive = 16_384
    final_tokens: Positive = 131_072


class Execution(Frozen):
    """How a run is carried out. Not part of its identity.

    ``threads`` 0: all cores; ``micro_batch_sequences`` 0: the whole batch at once. A checkpoint is written whenever
    ``checkpoint_every_seconds`` have passed or ``checkpoint_every_steps`` were taken (0: not by that count), and when
    the run is told to stop; the newest ``keep_checkpoints`` are kept until the run has its result. ``asynchronous``
    copies the state and writes it while training goes on, for the price of that copy's memory. ``save_weights`` keeps
    the final weights; ``dynamics`` also measures the angles of updates. ``parallel``: whether several processes share
    the optimizer's work, repeat it, or divide the weights too (FSDP2). ``compile_optimizer``: elementwise rules as one
    kernel; auto: on an accelerator, if the model is compiled.
    """

    device: str = "cpu"
    threads: Annotated[int, Field(ge=0)] = 0
    micro_batch_sequences: Annotated[int, Field(ge=0)] = 0
    compile: bool = True
    compile_optimizer: Literal["auto", "yes", "no"] = "auto"
    checkpoint_every_seconds: Annotated[float, Field(ge=0)] = 300.0
    checkpoint_every_steps: Annotated[int, Field(ge=0)] = 0
    keep_checkpoints: Positive = 2
    asynchronous: bool = False
    save_weights: bool = False
    dynamics: bool = False
    parallel: Literal["ddp-sharded", "ddp", "fsdp"] = "ddp-sharded"
    trackers: tuple[Literal["wandb", "trackio", "tensorboard"], ...] = ()


class RunSpec(Frozen):
    """One training run. ``tokens`` is the budget; the run takes ``steps`` whole batches of ``batch_tokens``."""

    format: int = FORMAT
    model: ModelSpec
    data: DataSpec
    optimizer: OptimizerChoice
    schedule: ScheduleSpec = ScheduleSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    batch_sequences: Positive
    tokens: Positive
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["float32", "bf16"] = "float32"
    init_seed: Annotated[int, Field(ge=0)] = 0
    data_seed: Annotated[int, Field(ge=0)] = 0
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _consistent(self) -> RunSpec:
        if self.format > FORMAT:
            raise ValueError(f"written by a newer fairstep (format {self.format}; this one reads up to {FORMAT})")
        mask = self.model.architecture == "bert"  # the last token, which no text has
        if self.model.vocabulary < self.data.vocabulary + mask:
            raise ValueError(
                f"the model's vocabulary ({self.model.vocabulary}) must be the data's ({self.data.vocabulary})"
                f"{' and a mask' if mask else ''}, or more"
            )
        if self.steps < 1:
            raise ValueError(f"tokens must be at least one batch of {self.batch_tokens}, not {self.tokens}")
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps must be less than the run's {self.steps} steps, not {self.schedule.warmup_steps}"
            )
        micro = self.execution.micro_batch_sequences
        if micro and self.batch_sequences % micro:
            raise ValueError(f"micro_batch_sequences must divide batch_sequences {self.batch_sequences}, not {micro}")
        return self

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_sequences * self.model.context

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run: floor(tokens / batch_tokens), as W counts them."""
        return self.tokens // self.batch_tokens

    def semantic(self) -> dict[str, object]:
        """The fields that decide the numbers, as plain JSON values; those at their default are left out."""
        # A fingerprint of the second version is of the texts alone, and so is the identity.
        named = {"name"} if self.data.fingerprint.startswith("v2-") else set()
        elsewhere: Any = {"execution": True, "data": {"source"} | named, "model": {"preset"}}
        return self.model_dump(mode="json", exclude=elsewhere, exclude_defaults=True) | {"format": self.format}

    @property
    def identity(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the semantic fields."""
        text = json.dumps(self.semantic(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> RunSpec:
        """Read a spec; raises SpecError with one sentence."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(explain(error)) from None
