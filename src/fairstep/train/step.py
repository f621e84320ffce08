"""Model, optimizer and batches of a run, and one step of them. ``loop`` decides when steps happen."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from fairstep import optim
from fairstep.data import Batches, open_corpus, validation_windows
from fairstep.model import build
from fairstep.runs import RunSpec
from fairstep.train.annealing import Annealer
from fairstep.train.checkpoints import content
from fairstep.train.compilation import can_compile, compile_soundly
from fairstep.train.evaluate import evaluate, evaluation_weights, evenly
from fairstep.train.measure import Sizes, Stopwatch
from fairstep.train.objective import Objective
from fairstep.train.ranks.choose import exchange
from fairstep.train.ranks.world import ALONE, World
from fairstep.train.setup import autocast, prepare_process
from fairstep.train.signals import Signals


class Trainer:
    """Model, optimizer and data of a run on this process's device, as its spec says.

    Raises DataError when the corpus is missing, ValueError for what the optimizer, the schedule or the number of
    processes cannot do.
    """

    def __init__(self, spec: RunSpec, world: World = ALONE) -> None:
        self.spec, self.world = spec, world
        self.device = prepare_process(spec, world)
        self.micro = world.check(spec.batch_sequences, spec.execution.micro_batch_sequences)
        corpus = open_corpus(spec.data.fingerprint, spec.data.vocabulary)
        context = spec.model.context
        self.bytes_per_token = corpus.bytes_per_token
        self.batches = Batches(
            corpus.train(), batch_sequences=spec.batch_sequences, context=context, seed=spec.data_seed
        )
        (_, self.final_windows), *further = (
            (name, validation_windows(tokens, context=context, max_tokens=spec.evaluation.final_tokens))
            for name, tokens in corpus.validation_sets().items()
        )
        self.further_windows = dict(further)  # validation sets beside the corpus's own
        self.windows = evenly(self.final_windows, max(1, spec.evaluation.tokens // context))

        torch.manual_seed(spec.init_seed)
        self.trained = build(spec.model).to(self.device)
        self.model = self.trained.network  # whose parameters are trained, under their own names
        self.objective = Objective(spec.model, self.device, spec.data_seed)
        self.evaluation_objective = Objective(spec.model, self.device)
        hyperparameters: dict[str, Any] = dict(spec.optimizer.hyperparameters)
        for name in optim.get(spec.optimizer.name).product_dtypes:
            if hyperparameters.get(name, "auto") == "auto":  # specs of earlier versions left it to the device
                hyperparameters[name] = "float32" if self.device.type == "cpu" else "bfloat16"
        if spec.optimizer.undecayed is not None:
            hyperparameters["undecayed"] = spec.optimizer.undecayed
        fully_sharded = spec.execution.parallel == "fsdp" and world.size > 1
        self.compiled = spec.execution.compile and can_compile(self.device.type)
        if self.compiled:
            compile_soundly()
        if fully_sharded:
            from fairstep.train.ranks.fsdp import shard_model  # loads what takes most of a second, and few runs need

            if spec.execution.dynamics:
                raise ValueError("angles of updates need whole weights; leave dynamics out, or --parallel fsdp")
            shard_model(world, self.model, self.device, self.compiled)
        optim.check_version(spec.optimizer.name, spec.optimizer.version)
        roles = self.trained.roles
        self.optimizer = optim.build(spec.optimizer.name, self.model, roles=roles, **hyperparameters)
        if isinstance(self.optimizer, optim.Engine):
            self.optimizer.spec.check_model(self.optimizer.roles.values())
        self.annealer = Annealer(spec.schedule, self.optimizer, spec.steps)
        whole = self.compiled and not fully_sharded
        self.forward: Any = torch.compile(self.trained, dynamic=False) if whole else self.trained
        self.exchange = exchange(spec.execution.parallel, world, self.model, self.forward, self.optimizer)

        seeds = spec.init_seed, spec.data_seed
        self.signals = Signals(self.optimizer, self.loss, self.logits, self.micro, seeds, self.exchange, self.trained)
        self.watch = Stopwatch(self.device)
        self.sizes = Sizes(self.model, spec.execution.dynamics, roles)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, model: Any = None) -> torch.Tensor:
        """Mean cross-entropy of (B, T) tokens and targets, in nats per token. ``model``: another than the trained."""
        with autocast(self.spec, self.device):
            return (model or self.forward)(tokens, targets)

    def logits(self, tokens: torch.Tensor, model: Any = None) -> torch.Tensor:
        """Scores (B, T, V) of (B, T) tokens, uncompiled: curvature is estimated from other losses and derivatives."""
        with autocast(self.spec, self.device):
            return (model or self.trained).logits(tokens)

    def step(self, step: int, measure: bool = False) -> tuple[float, float, dict[str, Any]]:
        """One optimizer step: the batch's mean loss, the gradient's norm before clipping, and with ``measure`` sizes.

        The loss is the one that is trained: the model's auxiliary terms are in it, and not in an evaluation's.

        A loss or a gradient that is not finite is not learned from: no optimizer is asked to decompose what is not a
        number, and none (clipping makes all gradients NaN) can pass over it.
        """
        began = time.perf_counter()
        first = step * self.spec.batch_sequences
        inputs, targets = map(self.world.share, self.objective(self.batches.batch(step), first))
        fetched = time.perf_counter()
        parts = len(inputs) // self.micro
        if measure:
            self.trained.reset_measurements()
        total = torch.zeros((), device=self.device)
        for part, (x, y) in enumerate(zip(inputs.split(self.micro), targets.split(self.micro), strict=True), 1):
            with self.exchange.backward_pass(last=part == parts):
                with autocast(self.spec, self.device):
                    loss = self.exchange.forward(x, y) / parts
                loss.backward()
            total += loss.detach()
        mean = self.world.mean(total).item()
        if not math.isfinite(mean):
            return mean, math.nan, {}
        model_measures = self.trained.measurements() if measure else {}
        self.annealer.apply(step)
        norm = self.exchange.clip(self.spec.clip_norm)
        size = norm.item()
        if not math.isfinite(size):
            return mean, size, {}
        if measure:
            self.sizes.before()
        clip = self.spec.clip_norm
        scale = (clip / (norm + 1e-6)).clamp(max=1.0) if clip else 1.0
        signals = self.signals.supply(step, inputs, targets, scale, mean)
        before = self.watch.now()
        self.optimizer.step()
        after = self.watch.now()
        self.exchange.collect()
        sizes = model_measures | self.sizes.after() if measure else {}
        self.model.zero_grad(set_to_none=True)  # as the optimizer would, which loads torch's compiler for it
        whole = time.perf_counter() - began
        other = self.exchange.take_seconds()
        self.watch.add(step=whole, data=fetched - began, signals=signals, optimizer=after - before, **other)
        return mean, size, sizes

    def rates(self) -> dict[str, float]:
        """lr of the first param group, and effective_lr where the optimizer multiplies it by what it estimates."""
        effective = getattr(self.optimizer, "effective_lr", None)
        lr = {"lr": self.optimizer.param_groups[0]["lr"]}
        return lr if effective is None else {**lr, "effective_lr": effective}

    def evaluate(self, windows: np.ndarray) -> float:
        """Mean cross-entropy of the weights that the optimizer would hand over, in nats per token."""
        self.trained.eval()
        try:
            with self.evaluation_weights():
                return evaluate(self.loss, self.evaluation_objective, windows, self.micro, self.device, self.world)
        finally:
            self.trained.train()

    def evaluation_weights(self) -> AbstractContextManager[None]:
        """With the weights that the optimizer would hand over in the model, on every rank."""
        return evaluation_weights(self.optimizer, self.exchange.collect)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as this rank has it. The tensors are the live ones."""
        return content.dump(self.model, self.optimizer, self.spec.optimizer.name, self.world)

    def allocate_like(self, described: dict[str, Any]) -> dict[str, Any]:
        """Where a saved state is to be read to. Raises ValueError for another model's."""
        return content.allocate_like(self.model, self.optimizer, described)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a state that was read into ``allocate_like``. Raises ValueError for another optimizer's."""
        content.load(self.model, self.optimizer, self.spec.optimizer.name, saved)
