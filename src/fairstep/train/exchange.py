"""How the ranks of a run come to one gradient and one set of weights.

    ddp           every rank has the whole gradient and takes the whole optimizer step
    ddp-sharded   every rank gets the gradient of what it owns, steps that, and hands the new weights to the others
    fsdp          as ddp-sharded, and no rank has all weights: ``train.fsdp``

Owned are pieces of parameters (``optim.ownership``). Pieces of one owner travel together in buckets: gradients by a
reduce to the owner, each as soon as the backward pass has its bucket, weights by a broadcast from it. Both send as many
bytes as a reduce-scatter and an all-gather, work for pieces of any size, and with gloo for every dtype.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fairstep.optim.engine import Engine
from fairstep.optim.engine.state import state_bytes
from fairstep.optim.sharding.partition import divide
from fairstep.optim.sharding.step_cost import Piece
from fairstep.train.parallel import World

BUCKET_BYTES = 25 * 2**20
"""A bucket is closed when it has so many, as in torch's DistributedDataParallel."""

IN_FLIGHT = 8
"""Buckets that may be under way at once; bounds the memory of their copies."""


class Exchange:
    """One process, or ddp. ``forward`` is the model to call; its backward pass averages gradients over the ranks."""

    mode = "ddp"

    def __init__(self, world: World, model: nn.Module, forward: Any, optimizer: torch.optim.Optimizer) -> None:
        self.world, self.model, self.optimizer = world, model, optimizer
        self.forward = self._wrapped(forward)
        self.seconds = 0.0  # waited for other ranks since ``take_seconds``, where that can be told apart

    def _wrapped(self, forward: Any) -> Any:
        if self.world.size == 1:
            return forward
        return self.world.wrap(forward, next(self.model.parameters()).device)

    def backward_pass(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around each micro-batch; gradients of all but the last stay on their rank."""
        return self.world.alone(self.forward, last)

    def clip(self, limit: float) -> Tensor:
        """Norm of the whole batch's gradient before it is clipped to ``limit``. To be called before each step."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit or math.inf)

    def collect(self) -> None:
        """Bring all parameters of this rank up to date with their owners' after a change."""

    def due(self) -> dict[str, list[str]]:
        """Signals that the optimizer needs for the coming step, on any rank, with the names of the parameters."""
        return self.optimizer.due() if hasattr(self.optimizer, "due") else {}

    def state_bytes(self) -> int:
        """Bytes of optimizer state, those of all ranks together where they share it."""
        return state_bytes(self.optimizer)

    def weights(self) -> dict[str, Tensor]:
        """The model's whole weights by name, for the first rank. To be called by all ranks."""
        return self.model.state_dict()

    def weights_were_read(self) -> None:
        """Every rank has read what it has of the model's weights from a checkpoint. To be called by all ranks."""

    @contextlib.contextmanager
    def plain_model(self) -> Iterator[Any]:
        """A model with the present weights of which any derivative can be taken; None: the one that is trained."""
        yield None

    def take_seconds(self) -> dict[str, float]:
        """Seconds of communication that nothing else hid, since this was last asked."""
        return {}


@dataclass
class Bucket:
    """Pieces of one owner that travel together: (name, piece)."""

    owner: int
    pieces: list[tuple[str, Piece]] = field(default_factory=list)
    bytes: int = 0
    missing: set[str] = field(default_factory=set)
    """Parameters whose gradient the running backward pass does not have yet."""
    sent: bool = False


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


class Sharded(Divided):
    """ddp-sharded, for an optimizer of ours. Divides its work and takes hold of the parameters' gradients."""

    mode = "ddp-sharded"

    def __init__(self, world: World, model: nn.Module, forward: Any, optimizer: Engine) -> None:
        super().__init__(world, model, forward, optimizer)
        self.device = next(model.parameters()).device
        tasks = optimizer.step_costs()
        ownership = divide(tasks, world.size)
        self.parameters: dict[str, Tensor] = dict(optimizer.named_parameters())
        self.elementwise = {work.name for work in tasks if work.kind == "elements"}
        self.owned = ownership[world.rank]
        self.buckets = self._fill(ownership)
        self.of: dict[str, list[Bucket]] = {name: [] for name in self.parameters}
        for bucket in self.buckets:
            for name, _ in bucket.pieces:
                self.of[name].append(bucket)
        self.flying: deque[tuple[dist.Work, Tensor, Bucket]] = deque()
        self.launched = 0
        self.armed = False
        optimizer.share(self.owned, world.total)
        for name, p in self.parameters.items():
            p.register_post_accumulate_grad_hook(lambda p, name=name: self._ready(name))
        self.collect()  # every rank begins with the owners' weights

    def _fill(self, ownership: Any) -> list[Bucket]:
        """Buckets in about the order in which a backward pass has their gradients: the last parameters first."""
        closed: list[Bucket] = []
        filling: dict[tuple[int, torch.dtype], Bucket] = {}
        for name, p in reversed(self.parameters.items()):
            for owner, pieces in enumerate(ownership):
                if name not in pieces:
                    continue
                piece = pieces[name]
                bucket = filling.setdefault((owner, p.dtype), Bucket(owner))
                bucket.pieces.append((name, piece))
                bucket.bytes += p.numel() * p.element_size() * (piece.stop - piece.start) // piece.rows
                if bucket.bytes >= BUCKET_BYTES:
                    closed.append(filling.pop((owner, p.dtype)))
        return [*closed, *filling.values()]

    def _cut(self, name: str, tensor: Tensor, piece: Piece) -> Tensor:
        return (tensor.reshape(-1) if name in self.elementwise else tensor)[piece.start : piece.stop]

    @contextlib.contextmanager
    def backward_pass(self, last: bool) -> Iterator[None]:
        if last:
            self.armed, self.launched = True, 0
            for bucket in self.buckets:
                bucket.missing, bucket.sent = {name for name, _ in bucket.pieces}, False
        try:
            yield
        finally:
            self.armed = False

    def _ready(self, name: str) -> None:
        """A gradient is whole: send what is complete, in the one order that all ranks have in common."""
        if not self.armed:
            return
        for bucket in self.of[name]:
            bucket.missing.discard(name)
        while self.launched < len(self.buckets) and not self.buckets[self.launched].missing:
            self._send_gradients(self.buckets[self.launched])

    def _send_gradients(self, bucket: Bucket) -> None:
        self.launched += 1
        bucket.sent = True
        parts = self._gradients(bucket.pieces)
        if not parts:
            return
        flat = _flat(parts)
        work = dist.reduce(flat, dst=bucket.owner, async_op=True)
        assert work is not None
        self.flying.append((work, flat, bucket))
        if len(self.flying) >= IN_FLIGHT:
            self._receive_gradients()

    def _gradients(self, pieces: Iterable[tuple[str, Piece]]) -> list[Tensor]:
        """Those that there are."""
        found = ((name, piece, self.parameters[name].grad) for name, piece in pieces)
        return [self._cut(name, gradient, piece) for name, piece, gradient in found if gradient is not None]

    def _receive_gradients(self) -> None:
        work, flat, bucket = self.flying.popleft()
        work.wait()
        if bucket.owner == self.world.rank:
            flat.div_(self.world.size)
        for name, piece in bucket.pieces:
            gradient = self.parameters[name].grad
            if gradient is None:
                continue
            if bucket.owner == self.world.rank:
                own = self._cut(name, gradient, piece)
                values, flat = flat[: own.numel()], flat[own.numel() :]
                if values.data_ptr() != own.data_ptr():
                    own.copy_(values.view(own.shape))
            elif name not in self.owned and all(bucket.sent for bucket in self.of[name]):
                self.parameters[name].grad = None

    def clip(self, limit: float) -> Tensor:
        began = time.perf_counter()
        while self.launched < len(self.buckets):  # parameters that the pass did not reach
            self._send_gradients(self.buckets[self.launched])
        while self.flying:
            self._receive_gradients()
        norm = self._clipped(self._gradients(self.owned.items()), limit)
        self.seconds += time.perf_counter() - began
        return norm

    @torch.no_grad()
    def collect(self) -> None:
        began = time.perf_counter()
        arriving: deque[tuple[dist.Work, Tensor, Bucket]] = deque()
        for bucket in self.buckets:
            flat = _flat([self._cut(name, self.parameters[name].detach(), piece) for name, piece in bucket.pieces])
            work = dist.broadcast(flat, src=bucket.owner, async_op=True)
            assert work is not None
            arriving.append((work, flat, bucket))
            if len(arriving) >= IN_FLIGHT:
                self._receive_weights(*arriving.popleft())
        for arrival in arriving:
            self._receive_weights(*arrival)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - began

    def _receive_weights(self, work: dist.Work, flat: Tensor, bucket: Bucket) -> None:
        work.wait()
        if bucket.owner == self.world.rank:
            return
        for name, piece in bucket.pieces:
            own = self._cut(name, self.parameters[name].detach(), piece)
            values, flat = flat[: own.numel()], flat[own.numel() :]
            if values.data_ptr() != own.data_ptr():
                own.copy_(values.view(own.shape))


def _flat(parts: list[Tensor]) -> Tensor:
    """One vector of all; a single contiguous tensor's own memory."""
    return parts[0].reshape(-1) if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])


def exchange(mode: str, world: World, model: nn.Module, forward: Any, optimizer: torch.optim.Optimizer) -> Exchange:
    """The exchange of that mode. Optimizers that are not ours cannot be divided; one process has nothing to divide.

    For fsdp the model is one that ``fsdp.shard_model`` divided. Raises ValueError if the optimizer is not ours.
    """
    if mode == "fsdp" and world.size > 1:
        if not isinstance(optimizer, Engine):
            raise ValueError(
                f"--parallel fsdp needs an optimizer of fairstep's, not {type(optimizer).__name__}; use --parallel ddp"
            )
        from fairstep.train.fsdp import FullySharded

        return FullySharded(world, model, forward, optimizer)
    if mode == "ddp-sharded" and world.size > 1 and isinstance(optimizer, Engine):
        return Sharded(world, model, forward, optimizer)
    return Exchange(world, model, forward, optimizer)
