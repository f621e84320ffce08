"""The cost of a run before it runs: parameters, FLOPs, memory by part and time, from its RunSpec alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fairstep.cost.devices import Device
from fairstep.cost.pace import Pace
from fairstep.cost.rank_shares import FLOAT, Parallel, RankShares, rank_shares, step_costs
from fairstep.model.config import EXPLICIT_ATTENTION_CONTEXT
from fairstep.model.facts import counts, flops_per_token, kept_per_token, logit_floats, parameter_table
from fairstep.model.shapes import Parameter, chinchilla_tokens
from fairstep.runs import ForeignModelSpec, RunSpec

COMPILER = 35_000_000
"""Bytes that torch.compile takes at work: 33 to 41 MB more in a run whose kernels are compiled than in one that finds
them in torch's cache (TORCHINDUCTOR_CACHE_DIR), measured at 106k and 852k with torch 2.13 on an AMD EPYC."""

PROCESS = {"cpu": 300_000_000, "cpu compiled": 425_000_000 + COMPILER, "accelerator": 1_000_000_000}
"""Bytes of a process beside its tensors, measured with torch 2.13 (CPU); context and workspaces of an accelerator.
Compiled: one whose kernels are not in torch's cache, which is what a machine must have room for."""

IDLE_COMPILER = 80_000_000
"""Bytes of torch's compiler where it is only loaded, which torch does for several processes, and for a model or an
optimizer of somebody else's."""

FRAGMENTATION = {"cpu": 1.25, "accelerator": 1.05}
"""What the allocator takes for the tensors of a pass over what they hold; on a CPU as measured on the ladder."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at the peak of a step, by part.

    Weights, state and ``process`` (interpreter, libraries, compiled kernels) are always there. Beside them the peak has
    either activations, logits and low-precision copies of the weights (the forward and backward pass), or gradients
    and ``update`` (the optimizer's step); with gradient accumulation the gradients are there in both.
    """

    weights: int
    gradients: int
    state: int
    activations: int
    logits: int
    low_precision: int
    update: int
    process: int
    accumulates: bool

    @property
    def total(self) -> int:
        passes = self.activations + self.logits + self.low_precision + (self.gradients if self.accumulates else 0)
        step = self.gradients + self.update
        return self.weights + self.state + self.process + max(passes, step)


@dataclass(frozen=True)
class Cost:
    """``flops`` of the model over the whole run (forward and backward), ``optimizer_flops`` of the rule beside it;
    ``seconds_expected`` on ``device`` at its assumed utilisation, without evaluations, or with ``pace``, which was
    measured, of the whole run. None: the optimizer is not ours, and its state or cost is not known before it has run.
    """

    parameters_total: int
    parameters_matrix: int
    parameters_active: int
    batch_tokens: int
    steps: int
    tokens: int
    chinchilla: float
    flops: float
    optimizer_flops: float | None
    memory: Memory
    device: Device
    devices: int
    seconds_expected: float
    shares: RankShares | None = None
    pace: Pace | None = None

    @property
    def memory_bytes(self) -> int:
        return self.memory.total

    @property
    def fits(self) -> bool | None:
        """Whether the peak fits into the device's memory; None where that is not known."""
        return self.memory_bytes <= self.device.memory_bytes if self.device.memory_bytes else None

    def row(self) -> dict[str, Any]:
        """Flat JSON values."""
        fields = {k: v for k, v in asdict(self).items() if k not in ("memory", "device", "shares", "pace")}
        parts = {f"memory_{name}": value for name, value in asdict(self.memory).items() if name != "accumulates"}
        device: dict[str, Any] = {"device": self.device.name, "device_flops": self.device.flops}
        if self.pace:
            device["pace"] = asdict(self.pace)
        else:
            device["assumed_utilisation"] = self.device.utilisation
        shares: dict[str, Any] = {}
        if self.shares:
            shares = {f"rank_{name}": value for name, value in asdict(self.shares).items() if name != "ranks"}
            shares = {"parallel": shares.pop("rank_parallel"), **shares, "rank_imbalance": self.shares.imbalance}
            shares["rank_imbalance_least"] = self.shares.imbalance_least
        return fields | shares | {"memory_bytes": self.memory_bytes, **parts, **device, "fits": self.fits}


def cost(spec: RunSpec, device: Device, devices: int = 1, parallel: Parallel = "ddp-sharded") -> Cost:
    """The cost of a run whose batch ``devices`` share: each holds the whole model (with fsdp its part of it), and but
    for ddp its part of the optimizer's state and work.

    Raises ValueError when they cannot share the batch evenly.
    """
    if devices < 1 or spec.batch_sequences % devices:
        raise ValueError(f"the devices must divide the batch of {spec.batch_sequences} sequences, not {devices}")
    table = parameter_table(spec.model)
    count = counts(spec.model)
    tokens = spec.steps * spec.batch_tokens
    flops = float(flops_per_token(spec.model)) * tokens
    works = step_costs(spec, table)
    shares = None if works is None else rank_shares(works, table, devices, parallel)
    seconds = flops / devices + (shares.flops_largest if shares else 0.0) * spec.steps
    return Cost(
        parameters_total=count.total,
        parameters_matrix=count.matrix,
        parameters_active=count.active,
        batch_tokens=spec.batch_tokens,
        steps=spec.steps,
        tokens=tokens,
        chinchilla=tokens / chinchilla_tokens(count.matrix),
        flops=flops,
        optimizer_flops=None if works is None else sum(work.flops for work in works) * spec.steps,
        memory=memory(spec, table, device, devices, shares),
        device=device,
        devices=devices,
        seconds_expected=seconds / (device.flops * device.utilisation),
        shares=shares if devices > 1 else None,
    )


def memory(
    spec: RunSpec, table: list[Parameter], device: Device, devices: int = 1, shares: RankShares | None = None
) -> Memory:
    """Bytes of one process at its peak, the one with most state. ``table``: of the model. Without ``shares`` the state
    is not known, and counts as none."""
    config = spec.model
    size = sum(parameter.size_bytes for parameter in table)
    cast = sum(parameter.elements for parameter in table if parameter.element_bytes > 2)
    share = spec.batch_sequences // devices
    micro = min(spec.execution.micro_batch_sequences or share, share)
    tokens = micro * config.context
    width = 2 if spec.precision == "bf16" else FLOAT
    place = "cpu" if device.name == "cpu" else "accelerator"
    explicit = place == "cpu" and config.context <= EXPLICIT_ATTENTION_CONTEXT
    kept = kept_per_token(config, spec.execution.compile, explicit)
    process = PROCESS["cpu compiled" if place == "cpu" and spec.execution.compile else place]
    loads = devices > 1 or shares is None or isinstance(config, ForeignModelSpec)
    if place == "cpu" and not spec.execution.compile and loads:
        process += IDLE_COMPILER
    return Memory(
        weights=shares.weight_bytes if shares else size,
        gradients=shares.gradient_bytes if shares else size,
        state=FLOAT * (shares.state_floats_largest if shares else 0),
        activations=round(tokens * kept * width * FRAGMENTATION[place]),
        logits=FLOAT * logit_floats(config, tokens),
        low_precision=2 * cast if spec.precision == "bf16" else 0,
        update=size // devices if shares and shares.parallel == "fsdp" else size,  # see train.measure
        process=process,
        accumulates=micro < share,
    )
