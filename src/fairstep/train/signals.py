"""The signals that an optimizer asks for beside gradients, computed from the model and the batch of the step.

Each estimate is a function of the weights, the batch and (seeds, step). The micro-batch and the number of processes do
not enter, so a resumed run draws the same labels and probes. The optimizer's state keeps what must be remembered
between steps. ``fairstep.optim.signals`` says what the signals are, and how another training loop supplies them.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairstep.model.precision import wide
from fairstep.optim.engine.stacks import compute_dtype
from fairstep.train.evaluate import LossFunction
from fairstep.train.ranks.exchange import Exchange
from fairstep.train.ranks.world import ALONE

LogitsFunction = Callable[..., Tensor]
"""(B, T) tokens, and the model if it is not the trained one, to (B, T, V) scores."""


class Signals:
    """Supplies an optimizer with the signals that are due; an optimizer without ``due`` needs none.

    ``loss_function``: the loss that is trained. ``logits_function``: scores of the model, uncompiled, because curvature
    needs other losses and second derivatives of them. Both take another model as their last argument, for fsdp.
    ``micro``: sequences at a time. ``seeds``: the run's. ``exchange``: with the processes that share each batch.
    ``model``: whose attention is watched, where the optimizer asks for its logits. Raises ValueError if it cannot be.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        loss_function: LossFunction,
        logits_function: LogitsFunction,
        micro: int,
        seeds: Iterable[int],
        exchange: Exchange | None = None,
        model: Any = None,
    ) -> None:
        self.optimizer: Any = optimizer
        self.model = model
        spec = getattr(optimizer, "spec", None)
        if spec and "attention_logits" in spec.signals:
            if not hasattr(model, "watch_attention"):
                raise ValueError(
                    f"{spec.name} needs the largest attention logits of every head, and this model does not give them; "
                    "take a model of ours, or an optimizer without qk-clip"
                )
            model.watch_attention()
        self.loss_function, self.logits_function = loss_function, logits_function
        self.micro, self.seeds = micro, tuple(seeds)
        self.exchange = exchange or Exchange(ALONE, nn.Identity(), None, optimizer)
        self.world = self.exchange.world

    def supply(
        self,
        step: int,
        inputs: Tensor,
        targets: Tensor,
        gradient_scale: Tensor | float = 1.0,
        loss: float = math.nan,
    ) -> float:
        """Compute and hand over what the coming optimizer step needs; returns the seconds that it took.

        ``step`` counts from 0. ``inputs``, ``targets``: (B, T), this process's share of the step's batch.
        ``gradient_scale`` is what clipping multiplied its gradient by, which the previous gradient must share, lest
        their difference be one of scales. ``loss``: the mean of the whole batch, as it was trained. Gradients
        (``p.grad``) are left alone.
        """
        due = self.exchange.due()
        if not due:
            return 0.0
        own = self.optimizer.due()
        began = time.perf_counter()
        for signal, names in due.items():
            values: Any
            match signal:
                case "loss":
                    values = loss
                case "attention_logits":
                    found = self.model.take_attention_logits()
                    values = {name: self.world.total(found[name], True) for name in names}
                case "gauss_newton_diagonal":
                    values = self._gauss_newton(names, step, inputs, targets)
                case "hessian_diagonal":
                    values = self._hutchinson(names, step, inputs, targets)
                case "previous_gradient":
                    values = self._previous_gradient(names, inputs, targets)
                    values = {name: gradient_scale * g for name, g in values.items()}
                case _:
                    raise ValueError(f"the trainer cannot compute the signal {signal!r}")
            if signal in own:
                self.optimizer.supply(signal, values)
        if inputs.device.type == "cuda":
            torch.cuda.synchronize(inputs.device)
        return time.perf_counter() - began

    def _gauss_newton(self, names: list[str], step: int, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """B g^^2, with g^ the gradient of the mean loss over B tokens, with labels drawn from the model's softmax.

        Its mean over draws is the diagonal of the Gauss-Newton matrix of the mean loss (arXiv 2305.14342, Alg. 2).
        """
        size = self.world.size
        uniform = torch.rand((size * len(inputs), inputs.shape[1]), generator=self._generator(step, "labels", "cpu"))
        with self._model(names) as (parameters, more):
            total = _zeros(parameters)
            for x, u in self._parts(inputs, self.world.share(uniform).to(inputs.device)):
                logits = wide(self.logits_function(x, *more))
                labels = sample_labels(logits.detach(), u)
                loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten()) * (len(x) / len(inputs))
                _add(total, _gradients(loss, parameters.values()))
        means = [self.world.mean(g).square_().mul_(size * inputs.numel()) for g in total]
        return dict(zip(parameters, means, strict=True))

    def _hutchinson(self, names: list[str], step: int, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """z (H z) for the mean loss of the batch, with z Gaussian or of random signs (arXiv 2305.14342, Alg. 1)."""
        gaussian = self.optimizer.hyper["probe"] == "gaussian"
        probes = []
        with self._model(names) as (parameters, more):
            for name, p in parameters.items():
                z = torch.empty_like(p, dtype=compute_dtype(p.dtype), requires_grad=False)
                z.normal_(generator=self._generator(step, name, p.device))
                probes.append(z if gaussian else z.sign_())
            total = _zeros(parameters)
            for x, y in self._parts(inputs, targets):
                with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
                    logits = wide(self.logits_function(x, *more))
                    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten()) * (len(x) / len(inputs))
                    gradients = _gradients(loss, parameters.values(), create_graph=True)
                    product = torch.stack([(g * z).sum() for g, z in zip(gradients, probes, strict=True)]).sum()
                    _add(total, _gradients(product, parameters.values()))
        return {n: z.mul_(self.world.mean(hz)) for n, z, hz in zip(parameters, probes, total, strict=True)}

    def _previous_gradient(self, names: list[str], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The gradient of this batch's loss at the weights before the last step (exact MARS, arXiv 2411.10438)."""
        with self.optimizer.previous_weights():
            self.exchange.collect()
            with self._model(names) as (parameters, more):
                total = _zeros(parameters)
                for x, y in self._parts(inputs, targets):
                    loss = self.loss_function(x, y, *more) * (len(x) / len(inputs))
                    _add(total, _gradients(loss, parameters.values()))
        self.exchange.collect()
        return {name: self.world.mean(g) for name, g in zip(parameters, total, strict=True)}

    @contextmanager
    def _model(self, names: list[str]) -> Iterator[tuple[dict[str, Tensor], tuple[Any, ...]]]:
        """(the parameters of these names that are trained, further arguments of the functions): of the model itself, or
        of a whole one in its place."""
        with self.exchange.plain_model() as plain:
            found = dict((plain.network if plain else self.optimizer).named_parameters())
            wanted = {name: found[name] for name in names if name in found and found[name].requires_grad}
            yield wanted, (plain,) if plain is not None else ()

    def _parts(self, *batch: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(tensor.split(self.micro) for tensor in batch), strict=True)

    def _generator(self, step: int, purpose: str, device: torch.device | str) -> torch.Generator:
        """A different stream for every run, step and purpose."""
        words = ":".join(map(str, (*self.seeds, step, purpose)))
        seed = int.from_bytes(hashlib.blake2b(words.encode(), digest_size=7).digest())
        return torch.Generator(device).manual_seed(seed)


def sample_labels(logits: Tensor, draws: Tensor) -> Tensor:
    """A label of every token from its softmax, (B, T), by where a uniform draw falls in the cumulated probabilities.

    logits: (B, T, V); draws: (B, T) in [0, 1). One number per token, drawn for the whole batch, so that labels do not
    depend on how the batch is cut. Probabilities are counted in units of 2^-30, because sums of integers are the same
    in any order and sums of floats on an accelerator are not.
    """
    cumulated = torch.softmax(logits, dim=-1).mul_(2.0**30).round_().int().cumsum(-1, dtype=torch.int64)
    reached = cumulated <= (draws.double() * cumulated[..., -1]).floor_().long().unsqueeze(-1)
    return reached.sum(-1)


def _zeros(parameters: dict[str, Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p, dtype=compute_dtype(p.dtype), requires_grad=False) for p in parameters.values()]


def _gradients(loss: Tensor, parameters: Iterable[Tensor], create_graph: bool = False) -> list[Tensor]:
    parameters = list(parameters)
    return list(torch.autograd.grad(loss, parameters, create_graph=create_graph, materialize_grads=True))


def _add(total: list[Tensor], parts: list[Tensor]) -> None:
    for sum_, part in zip(total, parts, strict=True):
        sum_.add_(part.detach())
