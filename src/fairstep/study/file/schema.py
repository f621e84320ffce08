"""The tables and keys of a study file, with their defaults (docs/reference/study-file.md).

Only form is here; ``study.py`` gives it meaning.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairstep.model.shapes import MOST_TOKENS
from fairstep.runs import DecayShape, ScheduleKind, Value

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Above = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class DataTable(Table):
    """A text: what ``--data`` and its companions take (docs/howto/text.md). No source: Python's standard library."""

    source: list[str] = []
    """Files, quoted globs, folders, hf:OWNER/NAME or package:NAME==VERSION. Empty: Python's standard library."""
    tokenizer: str = "bpe"
    """bpe (trained on the text), bytes, gpt2, a tokenizer file, or the name of a prepared corpus."""
    vocabulary: Positive = 512
    """Of a BPE that is trained on the text; with a tokenizer.json, how many tokens that one has, for the plan."""
    validation: dict[str, str] = {}
    """Further validation sets, by name. A run reports the final loss of each."""
    epochs: Above = 4.0
    """How often a run may read the text. A longer run is refused."""
    fingerprint: str = ""
    """What the prepared text must be, by content. A study is then the same wherever its text lies."""

    def identity(self) -> dict[str, Any]:
        """What decides the text: its content where that is pinned, else where it comes from."""
        content = {"fingerprint", "vocabulary"} if self.fingerprint else None
        return self.model_dump(mode="json", include=content, exclude_defaults=True)


TransferRule = Literal["none", "mup", "hyperp", "law"]


Exponent = Annotated[float, Field(ge=-4, le=4)]


class LawTable(Table):
    """Exponents of the learning rate in the ratios to the base: its runs' tokens, its width, its layers."""

    tokens: Exponent = -0.32
    """arXiv 2409.19913, for AdamW."""
    width: Exponent = 0.0
    depth: Exponent = 0.0


class CellsTable(Table):
    """Cells: every combination of the keys that are lists. A key that is left out is as in ``Workload``."""

    model: str | list[str]
    """Preset of the model, such as 27k, 106k or semenov/124m, or anybody's: hf:config.json, model.py:build
    (docs/howto/my-model.md)."""
    context: Count = 0
    """Tokens of a sequence. 0: the model's own."""
    name: str = ""
    """With {model}, {length}, {batch}, {data} and the names of keys in it."""
    data: str | list[str] = []
    """Default: every text of the study."""
    tokens: str | Positive | list[str | Positive] = []
    """Token budget of a run, such as 2_000_000 or "2B"."""
    chinchilla: Above | list[Above] = []
    """Multiples of 20 tokens a matrix parameter."""
    steps: Positive | list[Positive] = []
    """Length in optimizer steps, in place of tokens."""
    batch_sequences: Positive | list[Positive] = []
    """Sequences of an optimizer step. Default: the preset's."""
    batch_tokens: str | Positive | list[str | Positive] = []
    """Tokens of an optimizer step, in place of sequences."""
    precision: Literal["float32", "bf16", "auto"] = "auto"
    """Precision of the matrix products. auto: bf16 where the hardware multiplies it faster, else float32."""
    schedule: ScheduleKind | Literal["own"] | list[ScheduleKind | Literal["own"]] = []
    """Learning rate after the warm-up. own: each optimizer's own schedule, as W compares them."""
    warmup_fraction: Part | list[Part] = []
    """Warm-up as a part of the run's steps."""
    warmup_steps: Count | list[Count] = []
    """Warm-up in steps."""
    warmup_tokens: str | Count | list[str | Count] = []
    """Warm-up in tokens."""
    warmup_shape: Literal["linear", "half-cosine"] = "linear"
    """How the learning rate rises."""
    warmup_start: Part = 0.0
    """Learning rate at step 0, as a part of the peak."""
    positions: Literal["open", "from_start", "closed"] = "open"
    final_fraction: Part | list[Part] = []
    """Learning rate at the end, as a part of the peak."""
    decay_fraction: Part | list[Part] = []
    """Last part of the run that decays, with the schedules wsd and inverse_sqrt."""
    decay_shape: DecayShape | list[DecayShape] = []
    """How it decays."""
    clip_norm: Annotated[float, Field(ge=0)] | list[Annotated[float, Field(ge=0)]] = []
    """Largest norm of the whole gradient. 0: no clipping."""
    evaluation_tokens: Positive = 131_072
    """Validation tokens of the evaluation at the end, or all there are."""
    init_std: Above | list[Above] = []
    """Standard deviation of the first weights."""
    z_loss: Annotated[float, Field(ge=0)] | list[Annotated[float, Field(ge=0)]] = []
    """Coefficient of the z-loss. 0: none."""
    qk_norm: bool | list[bool] = []
    """Whether queries and keys are normalised."""
    transfer: TransferRule | list[TransferRule] = []
    """How hyperparameters go from one cell to another. mup: learning rates, eps, weight decay, first weights and scales
    by the ratio to the model of ``base_width`` (arXiv 2512.05620). hyperp: learning rates by length, batch and depth,
    for optimizers that keep norms (arXiv 2603.28743). law: by the powers in ``law``. none: they stay as they are."""
    base_width: Count = 0
    """With ``transfer``: width of the model, one of this table's, for which the contestants' hyperparameters are given.
    0: the narrowest."""
    law: LawTable | None = None
    """With ``transfer = "law"``: the exponents."""
    micro_batch_sequences: Count = 0
    """Sequences of a forward pass. 0: the launcher's value."""


class ContestantTable(Table):
    """One contestant, or several that share all but the optimizer."""

    optimizer: str | list[str]
    name: str = ""
    """Default: the optimizer's; with {optimizer} in it for several."""
    space: str = ""
    """Grids: own (nearest scale of any), wen, semenov, wen/130m ..., or none. Default: own; none where ``start`` is."""
    start: str = ""
    """Start from a published run: wen, semenov, wen/130m ... Default: the space's."""
    only: list[str] | None = None
    """Of the space's hyperparameters, those that are searched, in this order."""
    set: dict[str, Value] = {}
    """Fixed hyperparameters of the optimizer."""
    run: dict[str, Value] = {}
    """Settings of the run that are this contestant's own: schedule, warmup_steps, clip_norm ..."""
    grid: dict[str, list[Value]] = {}
    """Values that are tried, by hyperparameter."""
    factor: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Ratio by which a grid goes on beyond its ends (0: the ratio of its two outermost values). Default: the
    optimizer's own."""


class ProtocolTable(BaseModel):
    """``name`` and the fields of the protocol's class."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "grid"
    """grid, random, tpe, star, descent, wen, semenov or thrifty."""

    @property
    def settings(self) -> dict[str, Any]:
        return self.model_extra or {}


class LauncherTable(Table):
    """Who runs the trials. Not part of what the study is: any launcher may finish what another began."""

    name: Literal["local", "ray", "slurm"] = "local"
    """local: processes of this machine. ray: a Ray cluster. slurm: batch jobs."""
    workers: Count = 0
    """Trials at the same time; 0: as many as the launcher has room for (slurm: 100)."""
    threads: Count = 0
    """Threads of a trial. 0: the cores shared over the trials at the same time."""
    device: str = ""
    """What one trial runs on, of ``fairstep plan``'s devices; default: this machine."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """Processor cores of a trial (ray, slurm)."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """Of one trial; a fraction puts several on one GPU (ray)."""
    processes: Count = 0
    """Of one trial, which share its batch on one machine; default: as many as it has GPUs, at least one."""
    parallel: Literal["ddp-sharded", "ddp", "fsdp"] = "ddp-sharded"
    """How several processes share a trial's work (docs/explanation/sharding.md)."""
    address: str = ""
    """Of a running Ray cluster (auto, or ray://HOST:10001); default: one that is started on this machine."""
    cluster: str = ""
    """local runs the jobs of the launcher slurm as processes here, to try it out."""
    partition: str = ""
    """Partition of the batch system (slurm)."""
    minutes: Positive = 1440
    """Time limit of a batch job (slurm); a trial that needs longer goes on from its checkpoint."""
    options: dict[str, Value] = {}
    """Further options of the batch system, by submitit's names."""
    attempts: Positive = 3
    """How often a trial that crashes is started. A divergence is a result."""
    silence: Annotated[float, Field(ge=0)] = 0.0
    """Seconds without a word after which a trial is cancelled; 0: as its pace suggests, at least 10 minutes."""
    compile: bool = True
    """Compile the models."""
    micro_batch_sequences: Count = 0
    """Sequences of a forward pass, in cells that do not say; 0: the whole batch at once."""

    @property
    def each(self) -> int:
        """Processes of one trial."""
        return self.processes or max(1, int(self.gpus))


class ContestTable(Table):
    """What a study is beside its workloads and contestants, whoever trains."""

    title: str = ""
    """Heading of what is printed."""
    name: str = ""
    """Of the study, in its ledgers. Default: the file's."""
    baseline: str = ""
    """Contestant that the others are measured against. Default: adamw if it competes, else the first."""
    seeds: Count | str = 3
    """Paired seeds of the final runs: a number, or a design such as "3..8" that stops when all are decided."""
    finalists: Positive = 1
    """Best configurations that are repeated on other seeds before one is chosen."""
    finalist_seeds: Positive = 2
    """Seeds of each finalist."""
    tolerance: Annotated[float, Field(ge=0)] = 3e-3
    """Nats per token up to which a configuration counts as equally good."""
    budgets: list[Above] = []
    """Other lengths of the baseline, as multiples of the cell's, which turn a loss into tokens."""
    budget_seeds: Positive = 1
    """Seeds of each of these lengths."""
    extensions: Count = 4
    """How often a grid grows while its edge wins."""
    refine: bool = False
    """Try the learning rate a factor of sqrt 2 below and above the best one, too, and the baseline's at its longest
    budget."""
    companions: int = Field(default=0, ge=0, le=1000)
    """Rounds of tuning the learning rates of embedding, head and vectors over the contestant's own, after the protocol:
    two trials a role and round, the same for every contestant. They begin at what ``set`` says."""
    trials: Count = 0
    """Most tuning trials of a contestant in a cell. 0: no limit."""
    protocol: ProtocolTable = ProtocolTable()
    """How contestants are tuned."""

    def identity(self) -> dict[str, Any]:
        """What decides the study: not its title or name, not who runs it, and not how many seeds are looked at."""
        return self.model_dump(mode="json", exclude={"title", "name", "launcher", "seeds"}, exclude_defaults=True)


class StudyTable(ContestTable):
    """The whole file."""

    data: dict[str, DataTable] = {}
    """Texts, by name. None: Python's standard library."""
    cells: list[CellsTable]
    """Workloads."""
    contestants: list[ContestantTable]
    """Who competes."""
    launcher: LauncherTable = LauncherTable()
    """Who runs the trials."""

    def identity(self) -> dict[str, Any]:
        """With each text by what decides it."""
        fields = super().identity()
        return fields | ({"data": {name: text.identity() for name, text in self.data.items()}} if self.data else {})


def listed(value: Any) -> list[Any]:
    """The values of a key that may be one value or a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def token_count(text: str | int, option: str = "--tokens") -> int:
    """2M, 500k, 1.5B, 15T or 2000000 as a number. Raises ValueError."""
    written = str(text).replace("_", "")
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([kmbt]?)\s*", written, re.IGNORECASE)
    value = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[match[2].lower()] if match else 0.0
    if not 1 <= value < MOST_TOKENS:
        raise ValueError(f"{option} must be a positive number such as 2M or 500k, not {text!r}")
    return round(value)
