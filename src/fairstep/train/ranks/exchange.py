"""How the ranks of a run come to one gradient and one set of weights: what a training step asks of any mode.

    ddp           every rank has the whole gradient and takes the whole optimizer step
    ddp-sharded   every rank steps what it owns and hands the new weights to the others (``sharded``)
    fsdp          as ddp-sharded, and no rank has all weights (``fsdp``)

``Exchange`` is one process, or ddp; ``Divided`` is what the other two have in common.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fairstep.optim.engine.state import state_bytes
from fairstep.train.ranks.world import World


class Exchange:
    """One process, or ddp. ``forward`` is the model to call; its backward pass averages gradients over the ranks."""

    mode = "ddp"

    def __init__(self, world: World, model: nn.Module, forward: Any, optimizer: torch.optim.Optimizer) -> None:
        self.world, self.model, self.optimizer = world, model, optimizer
        self.forward = self._wrapped(forward)
        self.seconds = 0.0  # waited for other ranks since ``take_seconds``, where that can be told apart

    def _wrapped(self, forward: Any) -> Any:
        """With gradients averaged over the ranks in its backward pass, and rank 0's weights everywhere."""
        if self.world.size == 1:
            return forward
        device = next(self.model.parameters()).device
        return nn.parallel.DistributedDataParallel(forward, device_ids=[device] if device.type == "cuda" else None)

    def backward_pass(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around each micro-batch; gradients of all but the last stay on their rank."""
        divides = isinstance(self.forward, nn.parallel.DistributedDataParallel)
        return self.forward.no_sync() if divides and not last else contextlib.nullcontext()

    def clip(self, limit: float) -> Tensor:
        """Norm of the whole batch's gradient before it is clipped to ``limit``. To be called before each step."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit or math.inf)

    def collect(self) -> None:
        """Bring all parameters of this rank up to date with their owners' after a change."""

    def due(self) -> dict[str, list[str]]:
        """Signals that the optimizer needs for the coming step, on any rank, with the names of the parameters."""
        return self.optimizer.due() if hasattr(self.optimizer, "due") else {}

    def state_bytes(self) -> int:
        """Bytes of optimizer state, on all ranks together where they share it."""
        return state_bytes(self.optimizer)

    def weights(self) -> dict[str, Tensor]:
        """The model's whole weights by name, for the first rank. To be called by all ranks."""
        return self.model.state_dict()

    @contextlib.contextmanager
    def plain_model(self) -> Iterator[Any]:
        """A model with the present weights of which any derivative can be taken; None: the one that is trained."""
        yield None

    def take_seconds(self) -> dict[str, float]:
        """Seconds of communication that nothing else hid, since this was last asked."""
        return {}


class Divided(Exchange):
    """Each rank has a part of the work and of the state of an optimizer of ours."""

    def _wrapped(self, forward: Any) -> Any:
        return forward

    def due(self) -> dict[str, list[str]]:
        if not self.optimizer.spec.signals:  # type: ignore[attr-defined]
            return {}
        found: dict[str, set[str]] = {}
        for due in self.world.gather(super().due()):
            for signal, names in due.items():
                found.setdefault(signal, set()).update(names)
        order = [name for name, _ in self.optimizer.named_parameters()]  # type: ignore[attr-defined]
        return {signal: [name for name in order if name in found[signal]] for signal in sorted(found)}

    def _clipped(self, gradients: list[Tensor], limit: float) -> Tensor:
        """Norm of all ranks' parts of the gradient, of which these are this rank's; clips them."""
        squares = torch.zeros((), dtype=torch.float64, device=next(self.model.parameters()).device)
        for gradient in gradients:
            squares += torch.linalg.vector_norm(gradient).double().square()
        norm = self.world.total(squares).sqrt()
        if limit:
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0).item())
        return norm

    def state_bytes(self) -> int:
        return sum(self.world.gather(super().state_bytes()))

    def take_seconds(self) -> dict[str, float]:
        seconds, self.seconds = self.seconds, 0.0
        return {"communication": seconds}
