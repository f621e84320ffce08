"""``fairstep plan``: what a run would cost, without running it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fairstep import optim
from fairstep.cli.shared import screen
from fairstep.cli.shared.foreign import code_of_others
from fairstep.cli.shared.options import (
    Assignments,
    assignment,
    budget_of,
    chinchilla_budget,
    hyperparameters,
    parse,
)
from fairstep.cli.shared.pace import HINT, basis, paced
from fairstep.cli.shared.screen import duration, size_text
from fairstep.cli.shared.sizes import SizeOptions, sequences_of, size_of
from fairstep.cost.devices import CPU_UTILISATION, Device, device
from fairstep.cost.precision import auto_precision
from fairstep.cost.rank_shares import RankShares
from fairstep.cost.run_cost import COMPILER, Cost, cost
from fairstep.runs import DataSpec, Execution, Run, RunSpec, machine
from fairstep.study import Workload, layout
from fairstep.study.published_runs import is_run_preset, run_preset

MANY_STEPS = 500_000
"""Above every run of both papers."""


@dataclass(frozen=True)
class PlanOptions:
    """Parameters, FLOPs, memory by part and expected time of a run that is not started.

    Example: fairstep plan --model wen/1.2b/muon --chinchilla 8 --device h100 --devices 64
    Example: fairstep plan --model semenov/720m/soap --world 8 --parallel ddp-sharded --device h100
    Example: fairstep plan soap --layers 24 --width 1024 --batch-tokens 500k --device h100
    Example: fairstep plan muon --model examples/own_model/model.py:build
    Example: fairstep plan --run runs/train/runs/0123456789abcdef
    """

    optimizer: tyro.conf.Positional[str] = ""
    """Name of the optimizer; not with a published run, which has its own."""
    size: Annotated[SizeOptions, tyro.conf.arg(name="")] = field(default_factory=SizeOptions)
    run: Path | None = None
    """A run directory, or its spec.json, instead of a model."""
    variant: Literal["code", "paper"] = "code"
    """Which of them a published run follows where S's paper and its released code differ."""
    micro_batch_sequences: int = 0
    """Sequences per forward pass on each device. Default: its whole share of the batch at once."""
    set: Assignments = ()
    """A hyperparameter, for example --set block_size=256; may be given several times."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 on a named device; on this machine where its hardware multiplies it faster than float32."""
    compile: bool = True
    """Whether the model is compiled."""
    device: str = "this"
    """A named device (h100, a100-80gb, ...), or this machine, whose matrix-product rate is measured."""
    devices: Annotated[int, tyro.conf.arg(aliases=["--world"])] = 1
    """How many of them share the batch."""
    parallel: Literal["ddp-sharded", "ddp", "fsdp"] = "ddp-sharded"
    """Whether they share the optimizer's work and state, repeat it, or divide the weights too."""
    measure: bool = False
    """Time a short run on this machine's processor instead of assuming how fast it is; kept for later plans."""
    foreign: Annotated[bool, tyro.conf.arg(name="import")] = False
    """With --run: import the module that the run's optimizer of another package, or its own model, is in."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(PlanOptions, "plan", arguments)
    named = None if options.device in ("this", "cpu") else device(options.device)
    on_cpu = named is None and (options.device == "cpu" or not machine().gpus)
    spec, remarks = specification(options, on_cpu)
    if options.measure and (named or options.devices > 1 or machine().gpus):
        why = f"the device is {named.name}" if named else "this is not one process on a processor"
        raise ValueError(f"--measure times a run on this machine's processor, and {why}; leave --measure out")
    place = named or this_machine(options, spec)  # measured once everything else is known to be right
    planned = cost(spec, place, options.devices, options.parallel)
    if place.name == "cpu" and options.devices == 1 and not machine().gpus:
        planned = at_its_pace(spec, planned, options.measure)
    if options.json:
        print(json.dumps({"optimizer": spec.optimizer.name, "model": spec.model.preset, **planned.row()}, indent=1))
    else:
        show(spec, planned, remarks)
    return 0


def specification(options: PlanOptions, on_cpu: bool) -> tuple[RunSpec, tuple[str, ...]]:
    """The run, with a text that does not exist, and what must be said about it. Raises ValueError."""
    if options.run is not None:
        folder = options.run.parent if options.run.name == "spec.json" else options.run
        spec = Run(folder).own_spec
        if not options.foreign and (what := code_of_others(spec)):
            raise ValueError(f"the run is of {what}, and planning it would import that; add --import if you trust it")
        return spec, ()
    asked = options.size
    published = is_run_preset(asked.model)
    if published:
        asked = replace(asked, model=asked.model.rpartition("/")[0])
    size = size_of(
        asked if asked.params or asked.layers or asked.width or asked.model else replace(asked, model="106k")
    )
    sequences = sequences_of(asked, size)
    tokens = budget_of(asked.tokens, asked.chinchilla, size)
    precision = options.precision
    if precision == "auto":
        precision = auto_precision() if on_cpu else "bf16"
    execution = Execution(micro_batch_sequences=options.micro_batch_sequences, compile=options.compile)
    data = DataSpec(
        name="any", fingerprint="", vocabulary=asked.vocabulary or size.model.vocabulary - size.extra_tokens
    )
    given = dict(assignment(text) for text in options.set)
    if not published:
        name = optim.get(options.optimizer or "adamw").name
        workload = Workload(
            model=size.config(data.vocabulary),
            data=data,
            batch_sequences=sequences,
            tokens=tokens or chinchilla_budget(1.0, size),
            precision=precision,
            execution=execution,
        )
        return workload.spec(name, hyperparameters(name, given), seed=0), ()
    if options.optimizer:
        raise ValueError(f"{options.size.model} has its own optimizer; leave {options.optimizer!r} out")
    chosen = run_preset(options.size.model, asked.chinchilla or 1, options.variant)
    complete = hyperparameters(chosen.optimizer, chosen.hyperparameters | given)
    return (
        chosen.spec(
            data,
            tokens=tokens,
            hyperparameters=complete,
            precision=precision,
            batch_sequences=sequences if asked.batch_sequences or asked.batch_tokens else 0,
            execution=execution,
        ),
        (f"{chosen.name}: {chosen.source}", *chosen.remarks),
    )


def this_machine(options: PlanOptions, spec: RunSpec) -> Device:
    """This machine's processor or accelerator, its rate measured now or at an earlier time."""
    from fairstep.train.rate import this_device  # loads torch

    here = machine()
    kind = "cpu" if options.device == "cpu" else here.device
    name, rate, memory = this_device(kind, here.cores, spec.precision)
    if kind == "cpu":
        return Device("cpu", rate, here.memory_bytes, CPU_UTILISATION, "measured")
    return Device(name, rate, memory, 0.4, "measured")


def at_its_pace(spec: RunSpec, found: Cost, measure: bool) -> Cost:
    """With the time of a short run, divided over this machine's cores as `fairstep train` does, if it is known."""
    division = replace(layout(machine(), found.parameters_total), workers=1)
    execution = spec.execution.model_copy(update={"device": "cpu", "threads": division.threads})
    spec = spec.model_copy(update={"execution": execution})
    return paced({"": found}, {"": spec}, division, measure)[""]


def show(spec: RunSpec, found: Cost, remarks: tuple[str, ...]) -> None:
    """The plan as tables."""
    memory = found.memory
    state = optim.get(spec.optimizer.name).parts
    rows = [
        ["parameters", f"{found.parameters_total:,}"],
        ["matrix parameters", f"{found.parameters_matrix:,}"],
        ["tokens", f"{found.tokens:,} ({found.chinchilla:.3g}x Chinchilla)"],
        ["steps", f"{found.steps:,} of {found.batch_tokens:,} tokens"],
        ["model FLOPs", f"{found.flops:.3g}"],
        ["optimizer FLOPs", "not known" if found.optimizer_flops is None else f"{found.optimizer_flops:.3g}"],
        ["expected time", duration(found.seconds_expected)],
    ]
    if found.parameters_active != found.parameters_total:
        rows.insert(1, ["active parameters", f"{found.parameters_active:,}"])
    title = f"{spec.optimizer.name} on {spec.model.preset or 'a model'}, {found.devices} x {found.device.name}"
    screen.print_table(title, ["", "run"], rows)
    parts = [
        ["weights", size_text(memory.weights)],
        ["gradients", size_text(memory.gradients)],
        ["optimizer state", size_text(memory.state) if state else "not known"],
        ["activations", size_text(memory.activations)],
        ["logits", size_text(memory.logits)],
        ["bf16 weights", size_text(memory.low_precision)],
        ["copy for measuring updates", size_text(memory.update)],
        ["process", size_text(memory.process)],
        ["peak", size_text(memory.total)],
    ]
    print()
    screen.print_table("memory of each process", ["", "bytes"], parts)
    if found.shares:
        print()
        show_rank_shares(found.shares)
    print()
    if found.fits is False:
        room = size_text(found.device.memory_bytes)
        screen.out(f"* It does not fit into {room}; a smaller --micro-batch-sequences needs less for activations.")
    if found.steps > MANY_STEPS:
        screen.out(
            f"* {found.steps:,} steps are many: both papers train models above 300M with batches of 131,072 to "
            "2,015,232 tokens; --batch-tokens gives another batch."
        )
    screen.out(f"* Time: {time_from(found)}")
    screen.out(
        "* The peak is weights, state and process with the larger of activations + logits + bf16 weights, and "
        "gradients + copy; with gradient accumulation the gradients are in both."
    )
    if found.device.name == "cpu" and spec.execution.compile:
        screen.out(
            f"* {size_text(COMPILER)} of the process are torch's compiler at work. A run that finds its kernels in "
            "torch's cache takes that much less."
        )
    for remark in remarks:
        name = "/" in remark.split()[0]  # of a preset, which has no capitals
        screen.out(f"* {remark if name else remark[0].upper() + remark[1:]}.")


def time_from(found: Cost) -> str:
    """What the time rests on."""
    if found.pace:
        return f"{basis(found.pace)}, and loading and compiling are not (another {found.pace.first:.0f} s)."
    text = (
        f"{found.device.flops / 1e12:.4g} TFLOP/s ({found.device.source}) at an assumed utilisation of "
        f"{found.device.utilisation:.0%}, without evaluations and communication."
    )
    return f"{text} {HINT}" if found.device.name == "cpu" and found.devices == 1 else text


def show_rank_shares(shares: RankShares) -> None:
    """What a rank has of the optimizer's step, and what it sends."""
    share = shares.state_floats_largest / max(shares.state_floats_whole, 1)
    rows = [
        ["optimizer FLOPs, mean", f"{shares.flops_mean:.3g}"],
        ["optimizer FLOPs, most", f"{shares.flops_largest:.3g} ({shares.imbalance:+.1%})"],
        ["optimizer state, most", f"{size_text(4 * shares.state_floats_largest)} ({share:.1%} of the whole)"],
        ["sent", size_text(shares.sent_bytes)],
    ]
    if shares.imbalance > 0.05:
        rows.insert(2, ["  least, by what is indivisible", f"{shares.flops_least:.3g} ({shares.imbalance_least:+.1%})"])

    if shares.idle:
        rows.append(["ranks without optimizer work", f"{shares.idle}"])
    screen.print_table(f"one step of each of {shares.ranks} ranks, {shares.parallel}", ["", "rank"], rows)
