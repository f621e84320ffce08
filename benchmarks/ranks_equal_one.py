"""Is an optimizer's result the same on several ranks as in one process? The table of docs/results/ranks.md.

    torchrun --nproc-per-node 2 benchmarks/ranks_equal_one.py                  every optimizer, every mode, float64
    torchrun --nproc-per-node 4 benchmarks/ranks_equal_one.py muon soap --dtype float32 --json

Each optimizer trains a small model on random tokens; the same steps are taken by this process alone. What is compared
are all weights, and the weights to evaluate, at the end: the largest difference over the largest weight of the tensor.

Ranks that share a batch add its gradient up in another order than one process, and what rounding does to an optimizer
is in the first two modes. In same-gradient (ddp-sharded) every rank has the gradients that one process had, step by
step: the mean of 2^n equal numbers is exact, so that what is left is the sharing of the work alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fairstep import optim
from fairstep.model import build
from fairstep.optim.sharding.partition import shard
from fairstep.train.evaluate import evaluation_weights
from fairstep.train.ranks.choose import exchange
from fairstep.train.ranks.fsdp import shard_model
from fairstep.train.ranks.world import ALONE, World, joined
from fairstep.train.signals import Signals

MODES = ("ddp", "ddp-sharded", "same-gradient", "fsdp", "fsdp, same gradient")
STEPS, SEQUENCES, CONTEXT, VOCABULARY = 20, 8, 16, 128
MICRO = 2
"""Sequences of a micro-batch, the same on any number of ranks: a mixture's balance loss is a function of it."""

MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "moe": {"layers": 1, "moe": {"experts": 4, "experts_per_token": 2}},
}
VARIANTS = (
    "mars-adamw form=exact",
    "mars-adamw clip=global",
    "soap precondition_frequency=3",
    "soap block_size=12",
    "adamw+hyperball",
    "muon+ema+cautious-decay",
    "adamw+schedule-free+ema-nesterov",
    "lion+tail",
)
"""Beside every optimizer of the library with its defaults: forms with global quantities, and wrappers."""


Gradients = list[list[Tensor]]
"""The parameters' gradients in each step."""


def possible(name: str, kind: str, mode: str) -> bool:
    """Second derivatives of grouped experts do not exist, and Sophia-G's estimate depends on the whole batch's size."""
    return not ((kind == "moe" and name == "sophia-h") or (mode.endswith("gradient") and name == "sophia-g"))


@dataclass(frozen=True)
class Difference:
    """``training`` and ``evaluation``: largest difference of weights, relative to the tensor's largest."""

    optimizer: str
    model: str
    mode: str
    processes: int
    dtype: str
    training: float
    evaluation: float

    @property
    def largest(self) -> float:
        return max(self.training, self.evaluation)


def differences(
    world: World, names: Sequence[str], models: Sequence[str], modes: Sequence[str], dtype: torch.dtype
) -> list[Difference]:
    """Each optimizer, written as ``name key=value ...``, on every model, in every mode."""
    rows = []
    size = str(dtype).removeprefix("torch.")
    for kind in models:
        # Each rank trains some alone, all of them at the same time.
        modes_of = [[mode for mode in modes if possible(name, kind, mode)] for name in names]
        own = [n for n in range(world.rank, len(names), world.size) if modes_of[n]]
        gradients: dict[int, Gradients] = {n: [] for n in own}
        alone = {n: trained(names[n], kind, dtype, ALONE, "ddp", gradients[n]) for n in own}
        for n, name in enumerate(names):
            given: Gradients = []
            if any(mode.endswith("gradient") for mode in modes_of[n]):
                given = world.gather(gradients.get(n))[n % world.size]
            for mode in modes_of[n]:
                found = trained(name, kind, dtype, world, mode, given)
                if len(set(world.gather(_digest(found)))) > 1:
                    raise AssertionError(f"{name}, {mode}: the ranks do not have the same weights")
                worst = [_largest(a, b) for a, b in zip(alone[n], found, strict=True)] if n in alone else None
                worst = world.gather(worst)[n % world.size]
                rows.append(Difference(name, kind, mode, world.size, size, *worst))
    return rows


def trained(
    name: str, kind: str, dtype: torch.dtype, world: World, mode: str, gradients: Gradients, nudge: float = 0.0
) -> tuple[list[Tensor], list[Tensor]]:
    """(weights, weights to evaluate) after the steps. ``nudge``: relative change of the weights at the start.

    One process adds its ``gradients``, and same-gradient modes take them instead of their own.
    """
    torch.manual_seed(0)
    shape = {"architecture": "llama", "layers": 2, "width": 24, "heads": 2, "mlp_width": 32}
    model = build({**shape, "vocabulary": VOCABULARY, "context": CONTEXT, **MODELS[kind]}).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + nudge * torch.randn_like(p))
    if mode.startswith("fsdp"):
        shard_model(world, model, torch.device("cpu"))
    chosen, hyper = _parse(name)
    optimizer = optim.build(chosen, model, **hyper)
    same = mode.endswith("gradient")
    run = exchange("ddp-sharded" if mode == "same-gradient" else mode.split(",")[0], world, model, model, optimizer)
    share = (lambda batch: batch) if same else world.share

    def loss(tokens: Tensor, targets: Tensor, other: Any = None) -> Tensor:
        return (other or model)(tokens, targets)

    def logits(tokens: Tensor, other: Any = None) -> Tensor:
        return (other or model).logits(tokens)

    signals = Signals(optimizer, loss, logits, MICRO, (0,), run, model)
    draw = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        tokens = torch.randint(model.config.vocabulary, (SEQUENCES, CONTEXT + 1), generator=draw)
        inputs, targets = share(tokens[:, :-1]), share(tokens[:, 1:])
        parts = list(zip(inputs.split(MICRO), targets.split(MICRO), strict=True))
        given = gradients[step] if same else None
        total = torch.zeros((), dtype=dtype)
        with _replaced(model, given, len(parts)):
            for part, (x, y) in enumerate(parts, 1):
                with run.backward_pass(last=part == len(parts)):
                    of_part = run.forward(x, y) / len(parts)
                    of_part.backward()
                total += of_part.detach()
        if world.size == 1:
            gradients.append([p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
        norm = run.clip(1.0)
        signals.supply(step, inputs, targets, (1.0 / (norm + 1e-6)).clamp(max=1.0), world.mean(total).item())
        optimizer.step()
        run.collect()
        optimizer.zero_grad(set_to_none=True)
    weights = _copies(model)
    with evaluation_weights(optimizer, run.collect):
        chosen_weights = _copies(model)
    assert all(torch.equal(a, b) for a, b in zip(weights, _copies(model), strict=True))  # given back to the bit
    return weights, chosen_weights


@contextlib.contextmanager
def _replaced(model: nn.Module, given: Sequence[Tensor] | None, parts: int) -> Iterator[None]:
    """Backward passes, 2^n parts of a batch, that end with the given gradients, if any."""
    pairs = list(zip(model.parameters(), given or (), strict=False))
    hooks = [p.register_hook(lambda _, g=g: g / parts) for p, g in pairs if not isinstance(p, DTensor)]
    yield
    for hook in hooks:
        hook.remove()
    for p, g in pairs:
        if isinstance(p, DTensor) and p.grad is not None:
            start, stop = shard(len(p), dist.get_rank(), dist.get_world_size())
            p.grad.to_local().copy_(g[start:stop])  # type: ignore[attr-defined]


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    name, *settings = text.split()
    known = optim.get(name).hyperparameters
    hyper: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        hyper[key] = value if isinstance(known[key].default, str) else json.loads(value)
    return name, hyper


def _copies(model: nn.Module) -> list[Tensor]:
    return [p.full_tensor() if isinstance(p, DTensor) else p.clone() for p in (p.detach() for p in model.parameters())]


def _digest(weights: tuple[list[Tensor], list[Tensor]]) -> str:
    return hashlib.sha256(b"".join(w.numpy().tobytes() for part in weights for w in part)).hexdigest()


def _largest(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(some, others, strict=True))


def built_in() -> list[str]:
    return [*(name for name in optim.names() if optim.get(name).parts), *VARIANTS]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ranks_equal_one.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("optimizers", nargs="*", help="default: all, and some of their forms")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with joined() as world:
        dtype = getattr(torch, options.dtype)
        rows = differences(world, options.optimizers or built_in(), options.models, options.modes, dtype)
    if not world.first:
        return 0
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return 0
    print(f"| optimizer | {' | '.join(f'{kind}, {mode}' for kind in options.models for mode in options.modes)} |")
    print("|---" * (1 + len(options.models) * len(options.modes)) + "|")
    for name in dict.fromkeys(row.optimizer for row in rows):
        found = {(row.model, row.mode): f"{row.largest:.1e}" for row in rows if row.optimizer == name}
        cells = [found.get((kind, mode), "") for kind in options.models for mode in options.modes]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
