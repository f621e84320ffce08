"""What ``gpu.py`` holds against the processor: losses, steps, compilation, bf16, memory, resumption, a contest.

Every check gives rows: what was compared, by how much it differs, and the limit with its reason. A check is a function
of the place and joins ``CHECKS`` by its name.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairstep import optim
from fairstep.cost.devices import Device
from fairstep.cost.run_cost import cost
from fairstep.data import Corpus, prepare
from fairstep.model import ModelConfig, build, preset
from fairstep.optim.engine.signals import in_form
from fairstep.runs import (
    DataSpec,
    EvaluationSpec,
    Execution,
    OptimizerChoice,
    Run,
    RunSpec,
    ScheduleSpec,
    Store,
)
from fairstep.train import Progress, train
from fairstep.train.compilation import can_compile

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("adamw", "muon", "soap", "schedule-free-adamw")
DRAWS = ("kron", "sophia-h")
"""Optimizers in whose training random numbers are drawn where the parameters are: another device's generator gives
others, so their losses are told and not judged."""
WITHOUT_DRAWS: dict[str, dict[str, float]] = {"kron": {"damping": 0.0}}
"""Settings with which a step has no random numbers in it; Sophia-H's come with the signal."""
SMALL = ModelConfig(layers=2, width=32, heads=2, mlp_width=32, vocabulary=64, context=32)


@dataclass(frozen=True)
class Place:
    """Where and how thoroughly. ``folder``: for runs and texts, empty."""

    device: str
    quick: bool
    folder: Path

    @property
    def optimizers(self) -> tuple[str, ...]:
        return QUICK if self.quick else tuple(sorted(optim.names()))


class NotRun(Exception):
    """Why a check, or the rest of it, cannot be run here."""


@dataclass(frozen=True)
class Row:
    """``found`` may be at most ``limit``; without a limit it is told and not judged."""

    what: str
    found: float
    limit: float | None = None

    @property
    def passed(self) -> bool:
        return self.limit is None or self.found <= self.limit


def losses(place: Place) -> Iterator[Row]:
    """The golden run here and on the processor: largest relative difference of a loss, limits as between processors."""
    sys.path.append(str(ROOT))
    golden = importlib.import_module("tests.train.test_golden")
    for name in place.optimizers:
        mine, theirs = golden.golden_losses(name, place.device), golden.golden_losses(name)
        found = max(abs(a - b) / b for a, b in zip(mine, theirs, strict=True))
        limit = golden.DOUBLE_TOLERANCE if name in golden.DOUBLE else golden.TOLERANCE
        yield Row(f"losses of {name}", found, None if name in DRAWS else limit)


def steps(place: Place) -> Iterator[Row]:
    """Five steps in float64: largest difference of a weight over the largest change of a weight.

    Rounding of a step is 1e-16; matrices are square, so that no decomposition has a null space to choose a basis of.
    SOAP-Muon whitens small elements and orthogonalises them, which amplifies rounding tenfold in three steps.
    """
    for name in place.optimizers:
        mine, theirs = _stepped(name, place.device), _stepped(name, "cpu")
        first = _model("cpu", torch.float64)
        change = max((a - b).abs().max().item() for a, b in zip(theirs, first.parameters(), strict=True))
        found = max((a.cpu() - b).abs().max().item() for a, b in zip(mine, theirs, strict=True)) / change
        limit = 1e-4 if name == "soap-muon" else 1e-7
        yield Row(f"steps of {name}", found, limit)


def _model(device: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return build(SMALL).to(dtype).to(device)


def _stepped(name: str, device: str) -> list[Tensor]:
    model = _model(device, torch.float64)
    dtypes = dict.fromkeys(optim.get(name).product_dtypes, "float64")
    optimizer: Any = optim.build(name, model, **dtypes, **WITHOUT_DRAWS.get(name, {}))
    parameters = dict(model.named_parameters())
    for step in range(5):
        generator = torch.Generator().manual_seed(step)

        def noise(p: Tensor, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device)

        for p in parameters.values():
            p.grad = noise(p)
        for signal, names in optimizer.due().items():
            optimizer.supply(signal, in_form(signal, {n: noise(parameters[n]) for n in names}))
        optimizer.step()
    return [p.detach() for p in parameters.values()]


def compiled(place: Place) -> Iterator[Row]:
    """The first gradient's norm, and the loss after ten steps of AdamW: eager and compiled, float32 and bf16.

    float32 differs by the order of sums (1e-7 an operation, grown over ten steps); bf16 has 8 bits.
    """
    reference = _trained("cpu", False, False, place.quick)
    eager = {bf16: _trained(place.device, bf16, False, place.quick) for bf16 in (False, True)}
    for bf16, found in eager.items():
        yield from _differences(f"eager {'bf16' if bf16 else 'float32'}", found, reference, 3e-2 if bf16 else 1e-4)
    if not place.quick and not can_compile(place.device):
        raise NotRun("torch.compile needs triton on CUDA, a C++ compiler on a processor")
    for bf16, found in eager.items():
        faster = _trained(place.device, bf16, True, place.quick)
        yield from _differences(f"compiled {'bf16' if bf16 else 'float32'}", faster, found, 3e-2 if bf16 else 1e-4)


def _differences(what: str, a: tuple[float, float], b: tuple[float, float], limit: float) -> Iterator[Row]:
    for name, mine, theirs in zip(("first gradient norm", "tenth loss"), a, b, strict=True):
        yield Row(f"{name}, {what}", abs(mine - theirs) / theirs, limit)


def _trained(device: str, bf16: bool, compile: bool, quick: bool) -> tuple[float, float]:
    """Quick: without kernels of the compiler, which take a minute on a processor; its graphs are made all the same."""
    model = _model(device)
    forward = torch.compile(model, dynamic=False, backend="aot_eager" if quick else "inductor") if compile else model
    optimizer = optim.build("adamw", model, lr=1e-2)
    tokens = torch.randint(0, 64, (8, 33), generator=torch.Generator().manual_seed(1)).to(device)
    norms = []
    loss = torch.zeros(())
    for _ in range(10):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            loss = forward(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        optimizer.zero_grad()
    return norms[0].item(), loss.item()


def text(folder: Path) -> Path:
    """Sentences of a small grammar, so that there is something to learn; the pattern of the files."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)
    subjects, verbs = ["the cat", "a dog", "our model", "the optimizer"], ["sees", "likes", "follows", "forgets"]
    for number in range(40):
        lines = [f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(subjects)}." for _ in range(150)]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder / "*.txt"


def spec_of(place: Place, corpus: Corpus, size: str, steps: int, sequences: int, **execution: Any) -> RunSpec:
    return RunSpec(
        model=preset(size).config(300),
        data=DataSpec(name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=300),
        optimizer=OptimizerChoice(name="adamw", hyperparameters=optim.get("adamw").validate({"lr": 1e-3})),
        schedule=ScheduleSpec(warmup_steps=3),
        evaluation=EvaluationSpec(every_steps=steps, tokens=256, final_tokens=2000),
        batch_sequences=sequences,
        tokens=sequences * preset(size).context * steps,
        precision="float32" if place.quick else "bf16",
        execution=Execution(device=place.device, threads=1, compile=False, **execution),
    )


def resumption(place: Place) -> Iterator[Row]:
    """A run that dies at step 10 of 20 and goes on from step 7: its losses differ from an undisturbed run's by 0."""
    corpus = prepare(str(text(place.folder / "text")), vocabulary=300)
    spec = spec_of(place, corpus, "106k", 20, 8, checkpoint_every_steps=7)
    whole = train(spec, Store(place.folder / "whole"))

    def die(event: Progress) -> None:
        if event.step >= 10 and not event.note:
            raise InterruptedError

    store = Store(place.folder / "cut")
    with contextlib.suppress(InterruptedError):
        train(spec, store, die)
    cut = store.run(spec)
    yield Row("runs that had ended before the interruption", float(cut.finished), 0.0)
    resumed = train(spec, store)
    files = [(run.directory / "metrics.jsonl").read_bytes() for run in (whole, resumed)]
    yield Row("metrics.jsonl differs after a resumption", float(files[0] != files[1]), 0.0)
    yield Row("final loss after a resumption", abs(_final(whole) - _final(resumed)), 0.0)


def _final(run: Run) -> float:
    assert run.summary is not None and run.summary.final_loss is not None
    return run.summary.final_loss


def memory(place: Place) -> Iterator[Row]:
    """Peak memory of a short run over the plan's: the plan may be short by a tenth, for the allocator's blocks."""
    corpus = prepare(str(text(place.folder / "text")), vocabulary=300)
    spec = spec_of(place, corpus, "106k" if place.quick else "semenov/124m", 5 if place.quick else 12, 8)
    planned = cost(spec, Device(place.device, 1.0, 0, 1.0, "this")).memory
    run = train(spec, Store(place.folder / "memory"))
    assert run.summary is not None
    # The plan is of one process; on an accelerator the process itself is not in the device's memory.
    expected = planned.total - (planned.process if place.device == "cuda" else 0)
    ratio = run.summary.peak_memory_bytes / expected
    yield Row(f"peak memory over plan, {spec.model.preset}", ratio, 1.1 if place.device == "cuda" else None)


def contest(place: Place) -> Iterator[Row]:
    """AdamW against Lion from the command to the page, in the fewest trials that have an interval; on the device that
    is found."""
    store = place.folder / "contest"
    command = [sys.executable, "-m", "fairstep", "compare", "adamw", "lion", "--data", str(text(place.folder / "text"))]
    command += ["--vocabulary", "300", "--tokens", "31k", "--seeds", "2", "--points", "3", "--extensions", "0"]
    command += ["--budgets", "0.5", "--budget-seeds", "1", "--no-refine", "--no-compile", "--evaluation-tokens", "2000"]
    command += ["--precision", "float32", "--workers", "1", "--store", str(store), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    yield Row("exit code of a contest", float(done.returncode), 0.0)
    runs = [run for run in Store(store).runs() if run.status == "done"] if store.exists() else []
    yield Row("trials short of three", float(max(0, 3 - len(runs))), 0.0)
    devices = {json.loads((run.directory / "env.json").read_text())["device"] for run in runs}
    name = torch.cuda.get_device_name() if place.device == "cuda" else "cpu"
    yield Row(f"trials elsewhere than on {name}", float(len(devices - {name})), 0.0)
    yield Row("pages missing", float(not (store / "report.html").exists()), 0.0)


CHECKS: dict[str, Callable[[Place], Iterator[Row]]] = {
    check.__name__: check for check in (steps, losses, compiled, resumption, memory, contest)
}
