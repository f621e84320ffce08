"""RunSpec: everything that decides a run's numbers, frozen, validated, and named by a hash of itself.

The identity is the hash of the fields that decide the numbers. Fields at their defaults are left out of it, so that a
new field renames no earlier run. Where the data lies on this machine (``data.source``) and how the work is carried out
(``execution``: device, threads, micro-batch, compilation) change speed and rounding, not the experiment. They are left
out too: the same experiment has the same name on every machine.

The text under a field is its meaning, unit and special values; the reference page is made of these texts.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from fairstep.runs.data_spec import DataSpec
from fairstep.runs.foreign_model_spec import ForeignModelSpec
from fairstep.runs.frozen import Frozen, NamedByContent, Positive, Value
from fairstep.runs.model_spec import ModelSpec
from fairstep.runs.schedule import ScheduleSpec

FORMAT = 1
"""Version of the files of a run; a reader refuses a higher one instead of guessing."""

DIVERGED_ABOVE = 2.0
"""Nats above ln(vocabulary), the loss of a uniform guess, at which a run counts as diverged."""


def _kind(model: Any) -> str:
    """The class of a model by what is known of it: a foreign one has code."""
    foreign = "code" in model if isinstance(model, dict) else isinstance(model, ForeignModelSpec)
    return "ForeignModelSpec" if foreign else "ModelSpec"


AnyModelSpec = Annotated[
    Annotated[ModelSpec, Tag("ModelSpec")] | Annotated[ForeignModelSpec, Tag("ForeignModelSpec")],
    Discriminator(_kind),
]


class OptimizerChoice(Frozen):
    """An optimizer by name, with every hyperparameter written out: a finished run has no hidden defaults."""

    name: str
    """Name in ``fairstep optimizers``, with +wrappers, or package.module:Class."""
    hyperparameters: dict[str, Value] = Field(default_factory=dict)
    """Every hyperparameter by name, in the optimizer's units. ``lr`` is the peak. A dotted name, such as
    embedding.lr_ratio, is of some parameters alone."""
    version: str = ""
    """Which code another package's optimizer is, because a run's numbers depend on it. Empty for fairstep's own."""
    undecayed: tuple[str, ...] | None = None
    """Roles of parameters without weight decay. none: the optimizer's own choice (norms and the embedding)."""


class EvaluationSpec(Frozen):
    """Validation on a fixed set of windows of the validation text."""

    every_steps: Positive = 100
    """Steps between evaluations while the run trains."""
    tokens: Positive = 16_384
    """Validation tokens of each of these, evenly chosen among the final ones."""
    final_tokens: Positive = 131_072
    """Validation tokens of the evaluation at the end, or all there are."""


class Execution(Frozen):
    """How a run is carried out. No field is part of the identity."""

    device: str = "cpu"
    """torch's name of the device."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of each process. 0: all cores."""
    micro_batch_sequences: Annotated[int, Field(ge=0)] = 0
    """Sequences of one forward pass. 0: the whole batch at once."""
    compile: bool = True
    """Compile the model, where a compiler is."""
    compile_optimizer: Literal["auto", "yes", "no"] = "auto"
    """No effect any more; specs written before have it."""
    checkpoint_every_seconds: Annotated[float, Field(ge=0)] = 300.0
    """Seconds between checkpoints. 0: none by the clock. A run that is told to stop writes a checkpoint too."""
    checkpoint_every_steps: Annotated[int, Field(ge=0)] = 0
    """Steps between checkpoints, beside those by the clock. 0: none by this count."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints that are kept until the run has its result."""
    asynchronous: bool = False
    """Copy the state and write it while training goes on. The copy takes the state's memory again."""
    save_weights: bool = False
    """Keep the final weights, as weights.safetensors."""
    dynamics: bool = False
    """Measure the angles of updates too."""
    parallel: Literal["ddp-sharded", "ddp", "fsdp"] = "ddp-sharded"
    """What several processes do with the optimizer's work. ddp-sharded: share it. ddp: repeat it. fsdp: share it and
    divide the weights too (FSDP2)."""
    trackers: tuple[Literal["wandb", "trackio", "tensorboard"], ...] = ()
    """Where the measurements are sent, beside the run's files."""


class RunSpec(NamedByContent):
    """One training run. Every field is part of the identity, except for ``execution``, ``data.source`` and
    ``model.preset``."""

    format: int = FORMAT
    """Version of the files of a run."""
    model: AnyModelSpec
    """What is trained: a model of fairstep's, or anybody's."""
    data: DataSpec
    """The text."""
    optimizer: OptimizerChoice
    """What trains it."""
    schedule: ScheduleSpec = ScheduleSpec()
    """Learning rate, and other hyperparameters, over the steps."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """When validation losses are taken, and on how many tokens."""
    batch_sequences: Positive
    """Sequences of an optimizer step, each of ``model.context`` tokens."""
    tokens: Positive
    """Token budget. The run takes floor(tokens / tokens of a batch) steps."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the whole gradient; longer gradients are scaled down to it. 0: no clipping."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the matrix products. Weights and optimizer state are float32."""
    init_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the first weights."""
    data_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order of batches."""
    execution: Execution = Execution()
    """How the run is carried out. Not part of the identity."""

    @model_validator(mode="after")
    def _consistent(self) -> RunSpec:
        if self.format > FORMAT:
            raise ValueError(f"written by a newer fairstep (format {self.format}; this one reads up to {FORMAT})")
        mask = self.model.masked  # by the last token, which no text has
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

    # What a table, a check and a launcher ask of any spec (CommandSpec has the same).

    @property
    def worker(self) -> str:
        """Module that carries such a run out."""
        return "fairstep.train"

    @property
    def kind(self) -> str:
        """Whose code runs in the worker's own process. Built-in optimizers and models are one kind."""
        optimizer = f"{self.optimizer.name} {self.optimizer.version}" if self.optimizer.version else ""
        model = f"{self.model.source} {self.model.code}" if isinstance(self.model, ForeignModelSpec) else ""
        return " ".join(filter(None, [optimizer, model]))

    @property
    def optimizer_name(self) -> str:
        return self.optimizer.name

    @property
    def highest_loss(self) -> float:
        """A run above it has diverged."""
        return math.log(self.model.vocabulary) + DIVERGED_ABOVE

    @property
    def work(self) -> float:
        """Tokens times the weights that each passes, for shares of progress."""
        return self.tokens * self.model.token_work

    def columns(self) -> dict[str, Any]:
        """The spec's part of ``table.RUN_COLUMNS``."""
        lr = self.optimizer.hyperparameters.get("lr")
        return {
            "optimizer": self.optimizer.name,
            "hyperparameters": json.dumps(self.optimizer.hyperparameters, sort_keys=True),
            "lr": lr if isinstance(lr, float) else float(lr) if isinstance(lr, int) and abs(lr) < 2**63 else None,
            "model": self.model.preset,
            "data": self.data.fingerprint,
            "batch_tokens": self.batch_tokens,
            "budget_tokens": self.tokens,
            "steps": self.steps,
            "precision": self.precision,
            "workload": self._workload(),
            "init_seed": self.init_seed,
            "data_seed": self.data_seed,
        }

    def _workload(self) -> str:
        value = {
            "model": self.model.model_dump(mode="json", exclude=self.model.elsewhere),
            "data": {"fingerprint": self.data.fingerprint, "vocabulary": self.data.vocabulary},
            "evaluation": {"final_tokens": self.evaluation.final_tokens},
            "batch_sequences": self.batch_sequences,
            "precision": self.precision,
        }
        return json.dumps(value, sort_keys=True)

    def cell_facts(self) -> dict[str, object]:
        """What a ledger's cell says of its runs too."""
        return {
            "model": self.model.preset,
            "text": self.data.fingerprint,
            "vocabulary": self.data.vocabulary,
            "precision": self.precision,
        }

    def known_settings(self) -> dict[str, object]:
        """What a search may have varied, as the run has it."""
        shape = self.schedule.model_dump(
            include={"warmup_steps", "final_fraction", "decay_fraction", "decay_shape", "warmup_shape", "warmup_start"}
        )
        run = {**shape, "batch_sequences": self.batch_sequences, "clip_norm": self.clip_norm}
        return {**run, **self.optimizer.hyperparameters}

    def evidence(self) -> dict[str, object]:
        """What the digest of a run's files covers of its spec: nothing that two machines may write differently."""
        return self.semantic() | {"preset": self.model.preset}

    def semantic(self) -> dict[str, object]:
        # A fingerprint of the second version is of the texts alone, and so is the identity.
        named = {"name"} if self.data.fingerprint.startswith("v2-") else set()
        elsewhere: Any = {"execution": True, "data": {"source"} | named, "model": self.model.elsewhere}
        return self.model_dump(mode="json", exclude=elsewhere, exclude_defaults=True) | {"format": self.format}
