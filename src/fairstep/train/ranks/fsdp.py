"""fsdp: weights, gradients and the optimizer's state divided over the ranks, by torch's FSDP2 (``fully_shard``).

Each rank keeps a block of rows of every parameter, its shard. The optimizer steps them, as in anybody's loop
(``optim.engine.dtensors``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from fairstep.model.factory import blocks, build_empty
from fairstep.optim.engine import Engine
from fairstep.train.ranks.exchange import Divided
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

    def clip(self, limit: float) -> Tensor:
        began = time.perf_counter()
        norm = self._clipped([p.grad.to_local() for p in self.parameters.values() if p.grad is not None], limit)
        self.seconds += time.perf_counter() - began
        return norm

    def collect(self) -> None:
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # weights gathered for an evaluation are old now

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

    @contextlib.contextmanager
    def plain_model(self) -> Iterator[Any]:
        """A whole model apart: FSDP2's gradients cannot be differentiated, nor taken without the step's."""
        model = build_empty(self.forward.config, next(iter(self.parameters.values())).device)
        divided: dict[str, Any] = dict(self.model.named_parameters())
        with torch.no_grad():
            for mine, other in zip(model.buffers(), self.model.buffers(), strict=True):
                mine.copy_(other)
            for name, p in model.network.named_parameters():
                p.data = divided[name].detach().full_tensor()
        yield model.train(self.forward.training)
