"""The coordinate check: how large activations are after some steps, to compare over widths (arXiv 2203.03466, D.1).

The text is a Markov chain, the same for every model: each of its tokens has ``SUCCESSORS`` likely successors, so that
every layer has something to learn within ten steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fairstep import optim
from fairstep.model import LanguageModel, ModelConfig, build
from fairstep.model.factory import blocks
from fairstep.runs import OptimizerChoice

SUCCESSORS = 4


def coordinates(
    config: ModelConfig, choice: OptimizerChoice, steps: int, sequences: int, seed: int
) -> dict[str, float]:
    """Root mean squares after ``steps`` steps at the constant learning rate of ``choice``, in float32 on the CPU.

    By name: "embedding", "block 1", ... (their outputs), and "logits" (what the steps changed of them). All are of one
    further batch of ``sequences`` sequences of ``config.context`` tokens.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config)
    assert isinstance(model, LanguageModel)
    batches = _batches(config, sequences, seed)
    probe, _ = next(batches)
    first = _activations(model, probe)
    hyperparameters: dict[str, Any] = dict(choice.hyperparameters)
    optimizer = optim.build(choice.name, model, **hyperparameters)
    for _ in range(steps):
        tokens, targets = next(batches)
        optimizer.zero_grad()
        model(tokens, targets).backward()
        optimizer.step()
    last = _activations(model, probe)
    last["logits"] = last["logits"] - first["logits"]
    return {name: float(x.square().mean().sqrt()) for name, x in last.items()}


@torch.no_grad()
def _activations(model: LanguageModel, tokens: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    watched = {"embedding": model.embedding, **{f"block {n}": one for n, one in enumerate(blocks(model), 1)}}
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: found.update(
                {name: output[0] if name.startswith("block") else output}
            )
        )
        for name, module in watched.items()
    ]
    found["logits"] = model.logits(tokens)
    for hook in hooks:
        hook.remove()
    return {**{name: found[name] for name in watched}, "logits": found["logits"]}


def _batches(config: ModelConfig, sequences: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets) of (sequences, context) tokens."""
    generator = torch.Generator().manual_seed(seed)
    likely = torch.randint(config.vocabulary, (config.vocabulary, SUCCESSORS), generator=generator)
    while True:
        columns = [torch.randint(config.vocabulary, (sequences,), generator=generator)]
        for _ in range(config.context):
            choice = torch.randint(SUCCESSORS, (sequences,), generator=generator)
            columns.append(likely[columns[-1], choice])
        tokens = torch.stack(columns, dim=1)
        yield tokens[:, :-1], tokens[:, 1:]
