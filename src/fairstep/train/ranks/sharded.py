"""ddp-sharded: every rank steps what it owns of the parameters, for an optimizer of ours.

Owned are pieces of parameters (``optim.ownership``). Pieces of one owner travel together in buckets. The backward pass
reduces each bucket of gradients to its owner as soon as the bucket is complete; after the step, the owner broadcasts
the bucket of new weights. Both send as many bytes as a reduce-scatter and an all-gather, work for pieces of any size,
and with gloo for every dtype.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fairstep.optim.engine import Engine
from fairstep.optim.engine.owned import unpack
from fairstep.optim.sharding.partition import divide
from fairstep.optim.sharding.step_cost import Piece
from fairstep.train.ranks.exchange import Divided
from fairstep.train.ranks.world import World

BUCKET_BYTES = 25 * 2**20
"""A bucket is closed when it has so many, as in torch's DistributedDataParallel."""

IN_FLIGHT = 8
"""Buckets that may be under way at once; bounds the memory of their copies."""


@dataclass
class Bucket:
    """Pieces of one owner that travel together: (name, piece)."""

    owner: int
    pieces: list[tuple[str, Piece]] = field(default_factory=list)
    bytes: int = 0
    missing: set[str] = field(default_factory=set)
    """Parameters whose gradient the running backward pass does not have yet."""
    sent: bool = False


class Sharded(Divided):
    """ddp-sharded, for an optimizer of ours. Divides its work and takes hold of the parameters' gradients."""

    mode = "ddp-sharded"

    def __init__(self, world: World, model: nn.Module, forward: Any, optimizer: Engine) -> None:
        super().__init__(world, model, forward, optimizer)
        self.device = next(model.parameters()).device
        ownership = divide(optimizer.step_costs(), world.size)
        self.parameters: dict[str, Tensor] = dict(optimizer.named_parameters())
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
        assert optimizer.ownership is not None
        self._cut = optimizer.ownership.cut
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
            unpack(flat.div_(self.world.size), self._gradients(bucket.pieces))
            return
        for name, _ in bucket.pieces:
            if name not in self.owned and all(bucket.sent for bucket in self.of[name]):
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
            flat = _flat(self._weights(bucket))
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
        if bucket.owner != self.world.rank:
            unpack(flat, self._weights(bucket))

    def _weights(self, bucket: Bucket) -> list[Tensor]:
        return [self._cut(name, self.parameters[name].detach(), piece) for name, piece in bucket.pieces]


def _flat(parts: list[Tensor]) -> Tensor:
    """One vector of all; a single contiguous tensor's own memory."""
    return parts[0].reshape(-1) if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])
