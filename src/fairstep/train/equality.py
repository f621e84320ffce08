"""Is an optimizer's result the same on several ranks as in one process? The table of docs/distributed.md.

    torchrun --nproc-per-node 2 -m fairstep.train.equality                  every optimizer, both modes, float64
    torchrun --nproc-per-node 4 -m fairstep.train.equality muon soap --dtype float32 --json

Each optimizer trains a small model on random tokens; the same steps are taken by this process alone. What is compared
are all weights, and the weights to evaluate, at the end: the largest difference over the largest weight of the tensor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairstep import optim
from fairstep.model import build
from fairstep.train.evaluate import evaluation_weights
from fairstep.train.exchange import exchange
from fairstep.train.parallel import ALONE, World, joined
from fairstep.train.signals import Signals

MODES = ("ddp", "ddp-sharded")
STEPS, SEQUENCES, CONTEXT, VOCABULARY = 20, 8, 16, 96

MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "moe": {"moe": {"experts": 4, "experts_per_token": 2}},
}
VARIANTS = (
    "mars-adamw form=exact",
    "mars-adamw clip=global",
    "soap refresh=spread precondition_frequency=3",
    "soap block_size=12",
    "kron refresh=spread",
    "adamw+hyperball",
    "muon+ema+cautious-decay",
    "adamw+schedule-free+ema-nesterov",
    "lion+tail",
)
"""Beside every optimizer of the library with its defaults: forms with global quantities, and wrappers."""


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
    for kind in models:
        for name in names:
            alone = trained(name, kind, dtype, ALONE, "ddp")
            for mode in modes:
                found = trained(name, kind, dtype, world, mode)
                size = str(dtype).removeprefix("torch.")
                pair = [_largest(a, b) for a, b in zip(alone, found, strict=True)]
                worst = [max(each) for each in zip(*world.gather(pair), strict=True)]  # of all ranks
                rows.append(Difference(name, kind, mode, world.size, size, *worst))
    return rows


def trained(name: str, kind: str, dtype: torch.dtype, world: World, mode: str) -> tuple[list[Tensor], list[Tensor]]:
    """(weights, weights to evaluate) after the steps."""
    torch.manual_seed(0)
    shape = {"architecture": "llama", "layers": 2, "width": 24, "heads": 2, "mlp_width": 32}
    model = build({**shape, "vocabulary": VOCABULARY, "context": CONTEXT, **MODELS[kind]}).to(dtype)
    chosen, hyper = _parse(name)
    optimizer = optim.build(chosen, model, **hyper)
    run = exchange(mode, world, model, model, optimizer)
    signals = Signals(optimizer, model, model.logits, SEQUENCES // world.size // 2, (0,), run)
    draw = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        tokens = torch.randint(VOCABULARY, (SEQUENCES, CONTEXT + 1), generator=draw)
        inputs, targets = world.share(tokens[:, :-1]), world.share(tokens[:, 1:])
        for part, (x, y) in enumerate(zip(inputs.chunk(2), targets.chunk(2), strict=True)):
            with run.backward_pass(last=part == 1):
                (run.forward(x, y) / 2).backward()
        norm = run.clip(1.0)
        signals.supply(step, inputs, targets, (1.0 / (norm + 1e-6)).clamp(max=1.0))
        optimizer.step()
        run.collect()
        optimizer.zero_grad(set_to_none=True)
    weights = _copies(model)
    with evaluation_weights(optimizer, run.collect):
        chosen_weights = _copies(model)
    assert all(torch.equal(a, b) for a, b in zip(weights, _copies(model), strict=True))  # given back to the bit
    return weights, chosen_weights


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    name, *settings = text.split()
    known = optim.get(name).hyperparameters
    hyper: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        hyper[key] = value if isinstance(known[key].default, str) else json.loads(value)
    return name, hyper


def _copies(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def _largest(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(some, others, strict=True))


def built_in() -> list[str]:
    return [*(name for name in optim.names() if optim.get(name).parts), *VARIANTS]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fairstep.train.equality", description=(__doc__ or "").splitlines()[0])
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
        print(f"| {name} | {' | '.join(f'{row.largest:.1e}' for row in rows if row.optimizer == name)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
