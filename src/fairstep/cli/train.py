"""``fairstep train``: one run, with a progress bar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from fairstep import optim
from fairstep.cli.shared import screen
from fairstep.cli.shared.memory import check_memory
from fairstep.cli.shared.options import Assignments, WorkloadOptions, assignment, hyperparameters, parse, prepared
from fairstep.cli.shared.published_run import published_run
from fairstep.optim.catalogue.contained import printing_to_stderr
from fairstep.runs import Execution, ForeignModelSpec, Run, RunSpec, Store
from fairstep.study.published_runs import is_run_preset, run_preset
from fairstep.train.ranks.started import rank_and_size, speaks

if TYPE_CHECKING:
    from fairstep.train.ranks.world import World


@dataclass(frozen=True)
class TrainOptions:
    """Train one model with one optimizer to the end of its schedule.

    The same command goes on with a run that was stopped. Several processes train one run together under torchrun.

    Example: fairstep train muon --lr 0.02 --model 106k --tokens 500k
    Example: torchrun --nproc-per-node 2 -m fairstep train adamw --model 6.8M
    Example: fairstep train --model semenov/124m/soap --data hf:HuggingFaceFW/fineweb --tokenizer gpt2
    """

    groups: ClassVar[Mapping[str, str]] = {"lr": "optimizer", "store": "files", "dynamics": "measuring and ranks"}
    optimizer: tyro.conf.Positional[str] = ""
    """Name of the optimizer; `fairstep optimizers` lists them. A published run (--model wen/130m/muon) has its own."""
    lr: float | None = None
    """Peak learning rate, in the optimizer's own unit. Default: the optimizer's."""
    set: Assignments = ()
    """Another hyperparameter, for example --set beta2=0.98; may be given several times."""
    variant: Literal["code", "paper"] = "code"
    """Which of them a published run follows where S's paper and its released code differ."""
    seed: int = 0
    """Seeds the initialisation and the order of the data."""
    store: Path = Path("runs/train")
    """Folder of the runs; a run that is already there is not trained again."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; 0 writes one only when the run is told to stop."""
    checkpoint_steps: int = 0
    """Steps between checkpoints, beside the minutes."""
    keep_checkpoints: int = 2
    """How many checkpoints are kept while the run goes on."""
    asynchronous: bool = False
    """Write checkpoints while training goes on (takes the memory of a copy)."""
    save_weights: bool = True
    """Keep the final weights as weights.safetensors."""
    dynamics: bool = False
    """Also measure the angles by which weights turn."""
    parallel: Literal["ddp-sharded", "ddp", "fsdp"] = "ddp-sharded"
    """Whether several processes share the optimizer's work and state, repeat it, or divide the weights too."""
    compile_optimizer: Literal["auto", "yes", "no"] = "auto"
    """Has no effect any more: the steps of optimizers are not compiled."""
    trackers: tuple[Literal["wandb", "trackio", "tensorboard"], ...] = ()
    """Where the numbers are sent beside the run's files: wandb, trackio, tensorboard (extra: track)."""
    json: bool = False
    """Print the result as JSON."""
    workload: Annotated[WorkloadOptions, tyro.conf.arg(name="")] = field(default_factory=WorkloadOptions)


def main(arguments: list[str]) -> int:
    """Of several processes under torchrun one speaks."""
    if speaks():
        return train_one(arguments)
    try:
        return train_one(arguments)
    except (ValueError, OSError):
        return 2


def train_one(arguments: list[str]) -> int:
    options = parse(TrainOptions, "train", arguments)
    name = optimizer_of(options)
    given = dict(assignment(text) for text in options.set)
    if options.lr is not None:
        given["lr"] = options.lr
    if options.compile_optimizer != "auto":
        screen.say("--compile-optimizer has no effect any more: the steps of optimizers are not compiled")
    hyperparameters(name, given)  # refused before any text is prepared
    store = Store(options.store).writable()
    with _together() as world:
        first = world is None or world.first
        if world and not first:
            world.agree_later(None)  # until the first process has prepared the text
        spec = specification(options, name, given)
        check_memory(spec, world.size if world else 1)
        if first and (said := changed_code(store, spec)):
            screen.say(said)
        if world and first:
            world.agree_later(None)
        from fairstep.train import train  # loads torch

        with screen.training(name, spec.steps) if first else nullcontext() as show, printing_to_stderr():
            run = train(spec, store, show)
    return report(run, name, options.json) if first else 0


def report(run: Run, name: str, as_json: bool) -> int:
    """Print how the run ended; returns the exit code."""
    summary = run.summary
    assert summary is not None
    if as_json:
        print(json.dumps({"run": run.id, "directory": str(run.directory), **summary.model_dump(mode="json")}))
    elif summary.status == "done":
        bits = "" if summary.bits_per_byte is None else f" ({summary.bits_per_byte:.4f} bits per byte)"
        screen.out(f"{name}: final loss {summary.final_loss:.4f} nats per token{bits}")
        screen.out(
            f"{summary.steps} steps, {summary.tokens:,} tokens, {summary.train_seconds:.1f} s, "
            f"{summary.tokens_per_second:,.0f} tokens/s; {run.directory}"
        )
        load = [row["expert_load"] for row in run.metrics() if "expert_load" in row][-1:]
        for layer, shares in enumerate(load[0] if load else []):
            screen.out(f"layer {layer}: share of tokens by expert {' '.join(f'{share:.3f}' for share in shares)}")
    else:
        screen.out(f"{name}: {summary.status}: {summary.message}; {run.directory}")
    return 0 if summary.status == "done" else 1


def optimizer_of(options: TrainOptions) -> str:
    """The optimizer's own name. Raises ValueError when none is named, or two are."""
    published = is_run_preset(options.workload.model)
    if published:
        run_preset(options.workload.model, options.workload.chinchilla or 1, options.variant)
    if published and options.optimizer:
        raise ValueError(f"{options.workload.model} has its own optimizer; leave {options.optimizer!r} out")
    if not published and not options.optimizer:
        raise ValueError("name an optimizer, such as fairstep train muon, or a run with --model wen/130m/muon")
    return optim.get(options.workload.model.rpartition("/")[2] if published else options.optimizer).name


def specification(options: TrainOptions, name: str, given: dict[str, Any]) -> RunSpec:
    """The run that the options ask for; the text is prepared if it was not yet."""
    if is_run_preset(options.workload.model):
        spec = published_run(options.workload, given, options.seed, options.variant)
    else:
        workload, _, _ = prepared(options.workload)
        spec = workload.spec(name, hyperparameters(name, given), options.seed)
    changes = {
        "checkpoint_every_seconds": 60 * options.checkpoint_minutes,
        "checkpoint_every_steps": options.checkpoint_steps,
        "keep_checkpoints": options.keep_checkpoints,
        "asynchronous": options.asynchronous,
        "save_weights": options.save_weights,
        "dynamics": options.dynamics,
        "parallel": options.parallel,
        "trackers": options.trackers,
    }
    execution = Execution.model_validate(spec.execution.model_dump() | changes)
    return spec.model_copy(update={"execution": execution})


def changed_code(store: Store, spec: RunSpec) -> str:
    """That a store has this run by other code of its own model; empty if not. A run that cannot be read is none."""
    model = spec.model
    if not isinstance(model, ForeignModelSpec) or store.run(spec).exists:
        return ""
    for run in store.runs():
        with suppress(ValueError, OSError):
            earlier = run.own_spec
            if not isinstance(earlier.model, ForeignModelSpec) or earlier.model.code == model.code:
                continue
            same = earlier.model.model_copy(update={"code": model.code})
            if earlier.model_copy(update={"model": same}).identity == spec.identity:
                return (
                    f"the model {model.preset} is other code (or another Transformers) than run {run.id} was "
                    "trained with; this run begins anew, and that one stays as it is"
                )
    return ""


@contextmanager
def _together() -> Iterator[World | None]:
    """The processes that torchrun started, or None if this one is alone. If one of them dies, the others end with one
    sentence between them."""
    if rank_and_size()[1] == 1:
        yield None
        return
    from fairstep.train.ranks.world import RankError, joined  # loads torch

    try:
        with joined() as world:
            yield world
    except RankError as error:
        if error.spokesman:
            screen.say(f"fairstep: {error}")
        raise SystemExit(1) from None
