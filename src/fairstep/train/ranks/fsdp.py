"""fsdp: weights, gradients and the optimizer's state divided over the ranks, by torch's FSDP2 (``fully_shard``).

Each rank keeps a block of rows of every parameter, its shard. A rank steps a shard alone where the rule allows it
(elementwise rules, rows apart, whole experts). A matrix that a rule needs whole has an owner, as in ddp-sharded, and
the owner keeps the whole matrix. One all-to-all brings the shards' gradients to the owners; another takes the new
weights back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from fairstep.model.factory import blocks, build_empty
from fairstep.optim.engine import Engine
from fairstep.optim.sharding.partition import divide_shards, shard
from fairstep.optim.sharding.step_cost import Piece
from fairstep.train.ranks.exchange import Divided, unpack
from fairstep.train.ranks.world import World
from fairstep.train.weights import kept_buffers


def shard_model(world: World, model: Any, device: torch.device, compiled: bool = False) -> None:
    """Divide rank 0's weights of a model over the ranks. To be called before the model's optimizer is built.

    A block's weights are whole only while it works. Blocks are compiled one by one, between the hooks that gather them.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    mesh = dist.init_device_mesh(device.type, (world.size,))
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
        if compiled:
            block.forward = torch.compile(block.forward, dynamic=False)
    if len({p.dtype for p in model.parameters()}) > 1:  # FSDP2 gathers parameters of one dtype at a time
        fully_shard(model.embedding, mesh=mesh)
    fully_shard(model, mesh=mesh)


class FullySharded(Divided):
    """fsdp, for an optimizer of ours over a model that ``shard_model`` divided."""

    mode = "fsdp"

    def __init__(self, world: World, model: nn.Module, forward: Any, optimizer: Engine) -> None:
        super().__init__(world, model, forward, optimizer)
        self.parameters: dict[str, Any] = dict(optimizer.named_parameters())  # DTensors
        # This rank's rows of every parameter: FSDP2's own memory, which stays where it is.
        self.shards = {name: p.detach().to_local() for name, p in self.parameters.items()}
        self.device = next(iter(self.shards.values())).device
        tasks = optimizer.step_costs()
        ownership, gathered = divide_shards(tasks, {n: p.shape for n, p in self.parameters.items()}, world.size)
        elements = {work.name for work in tasks if work.kind == "elements"}
        self.owned = ownership[world.rank]
        self.whole = {name: piece for name, piece in self.owned.items() if name in gathered}
        # (name, piece) of what its owner steps whole, by owner; and all ranks' rows of each.
        self.of = [[(n, p) for n, p in pieces.items() if n in gathered] for pieces in ownership]
        self.tensors: dict[str, Tensor] = {}
        for name, piece in self.owned.items():
            p = self.parameters[name]
            if name in self.whole:
                rows = piece.stop - piece.start
                self.tensors[name] = torch.empty((rows, *p.shape[1:]), dtype=p.dtype, device=self.device)
            else:
                own = self.shards[name]
                self.tensors[name] = own.view(-1) if name in elements and not piece.whole else own
        self._to_owners(self.shards, self.tensors)
        optimizer.share(self.owned, world.total, self.tensors)

    def clip(self, limit: float) -> Tensor:
        began = time.perf_counter()
        gradients = {n: p.grad.to_local() for n, p in self.parameters.items() if p.grad is not None}
        norm = self._clipped(list(gradients.values()), limit)
        arrived = {name: torch.empty_like(self.tensors[name]) for name in self.whole if name in gradients}
        self._to_owners(gradients, arrived)
        for name, tensor in self.tensors.items():
            gradient = (arrived if name in self.whole else gradients).get(name)
            tensor.grad = None if gradient is None else gradient.view(tensor.shape)
        self.seconds += time.perf_counter() - began
        return norm

    @torch.no_grad()
    def collect(self) -> None:
        began = time.perf_counter()
        self._move(self.shards, self.tensors, towards_owner=False)
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # weights gathered for an evaluation are old now
        self.seconds += time.perf_counter() - began

    def weights(self) -> dict[str, Tensor]:
        names: dict[Any, list[str]] = {}
        for name, p in self.model.named_parameters(remove_duplicate=False):  # a tied weight has two names
            names.setdefault(p, []).append(name)
        whole: dict[str, Tensor] = {}
        for p, own in names.items():
            tensor = p.detach().full_tensor()
            if self.world.first:
                whole |= dict.fromkeys(own, tensor.cpu())
        return whole | ({n: b.cpu() for n, b in kept_buffers(self.model).items()} if self.world.first else {})

    def weights_were_read(self) -> None:
        self._to_owners(self.shards, self.tensors)

    @contextlib.contextmanager
    def plain_model(self) -> Iterator[Any]:
        """A whole model apart: FSDP2's gradients cannot be differentiated, nor taken without the step's."""
        model = build_empty(self.forward.config, self.device)
        divided: dict[str, Any] = dict(self.model.named_parameters())
        with torch.no_grad():
            for mine, other in zip(model.buffers(), self.model.buffers(), strict=True):
                mine.copy_(other)
            for name, p in model.network.named_parameters():
                p.data = divided[name].detach().full_tensor()
        yield model.train(self.forward.training)

    def _to_owners(self, shards: Mapping[str, Tensor], pieces: Mapping[str, Tensor]) -> None:
        """Rows of shards into the pieces of their owners; only names that are in ``shards`` on all ranks."""
        self._move(shards, pieces, towards_owner=True)

    def _move(self, shards: Mapping[str, Tensor], pieces: Mapping[str, Tensor], towards_owner: bool) -> None:
        """One all-to-all for each dtype."""
        for dtype in sorted({p.dtype for p in self.parameters.values()}, key=str):
            rank, ranks = self.world.rank, range(self.world.size)
            mine = [self._rows(shards, self.of[owner], rank, dtype, of_shard=True) for owner in ranks]
            own = [self._rows(pieces, self.of[rank], source, dtype, of_shard=False) for source in ranks]
            _all_to_all(*((mine, own) if towards_owner else (own, mine)), dtype, self.device)

    def _rows(
        self,
        tensors: Mapping[str, Tensor],
        items: list[tuple[str, Piece]],
        source: int,
        dtype: torch.dtype,
        of_shard: bool,
    ) -> list[Tensor]:
        """Of an owner's items, the rows that are in a source's shard, as views into that shard or into the pieces."""
        views = []
        for name, piece in items:
            p = self.parameters[name]
            if p.dtype != dtype or name not in tensors:
                continue
            start, stop = shard(len(p), source, self.world.size)
            first, last = max(start, piece.start), min(stop, piece.stop)
            if first < last:
                base = start if of_shard else piece.start
                views.append(tensors[name][first - base : last - base])
        return views


def _all_to_all(
    sent: list[list[Tensor]], received: list[list[Tensor]], dtype: torch.dtype, device: torch.device
) -> None:
    """``sent[r]`` to rank r, whose own lie in its ``received``, view by view."""
    parts = [view.reshape(-1) for views in sent for view in views]
    outgoing = torch.cat(parts) if parts else torch.empty(0, dtype=dtype, device=device)
    sizes, expected = ([sum(v.numel() for v in views) for views in side] for side in (sent, received))
    incoming = torch.empty(sum(expected), dtype=dtype, device=device)
    dist.all_to_all_single(incoming, outgoing, expected, sizes)
    unpack(incoming, (view for views in received for view in views))
