"""Parameters that are DTensors: FSDP2 (``fully_shard``) gives each rank a block of rows of every parameter, its shard.

A rank steps its shard alone where the rule allows it (elementwise rules, rows apart, whole experts). A matrix that a
rule needs whole has an owner, who keeps its state. Before a step, one all-to-all brings the shards' weights and
gradients to the owners; after it, another takes the new weights back. Between steps the shards alone are the weights,
so that whatever a training loop does to them counts. On a mesh with replicas (HSDP) each replica does the same work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from fairstep.optim.engine.local_dtensors import local_gradient
from fairstep.optim.engine.orientation import Orientation
from fairstep.optim.engine.owned import OwnedShards, unpack
from fairstep.optim.sharding.partition import divide_shards, shard
from fairstep.optim.sharding.step_cost import Ownership, Piece, StepCost

Pairs = Sequence[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
"""(this rank's shards, its pieces) of tensors that travel together, by parameter name."""


class DTensorShards(OwnedShards):
    """What this rank steps of DTensors: its shards, and the matrices that it owns, ``gathered`` from all shards.

    ``orientations``: of weights that are stored otherwise than their rules see them. Their rows are not the rule's
    rows, so these weights stay whole; experts with a dimension of their own are divided. Parameters that ``before``
    divided already keep their owners. Building one communicates nothing; the methods without an underscore are
    for all ranks at once. Raises ValueError with the name of a parameter that is not sharded by rows.
    """

    by_caller = False

    def __init__(
        self,
        parameters: Mapping[str, Any],
        works: Iterable[StepCost],
        orientations: Mapping[str, Orientation],
        before: OwnedShards | None,
    ) -> None:
        self.mesh, self.placements, dim = _sharding(parameters)
        self.group, self.rank, self.ranks = self.mesh.get_group(dim), self.mesh.get_local_rank(dim), self.mesh.size(dim)
        works = [_whole(work) if _needs_all(work, orientations.get(work.name)) else work for work in works]
        known = before if isinstance(before, DTensorShards) and before.ranks == self.ranks else None
        self.shapes = {name: p.shape for name, p in parameters.items()}
        kept = {name for name, shape in self.shapes.items() if known and known.shapes.get(name) == shape}
        ownership, gathered = divide_shards([w for w in works if w.name not in kept], self.shapes, self.ranks)
        if known:
            earlier = ({n: p for n, p in pieces.items() if n in kept} for pieces in known.ownership)
            ownership = tuple({**a, **b} for a, b in zip(earlier, ownership, strict=True))
            gathered |= known.gathered & kept
        self.ownership: Ownership = ownership
        self.gathered: frozenset[str] = gathered
        # Rows of what is gathered, by owner: (name, first row, last row + 1) of the parameter as it is stored.
        self.of = [[(n, *self._rows(n, piece)) for n, piece in pieces.items() if n in gathered] for pieces in ownership]
        kinds = {work.name: work.kind for work in works}
        total = partial(_total, self.group if self.ranks > 1 else None)  # no method, which would hold the groups longer
        super().__init__(parameters, kinds, ownership[self.rank], total, {})
        self.shards: dict[str, Tensor] = {}
        self._find_shards()
        self.device = next(iter(self.shards.values())).device
        for name, first, last in self.of[self.rank]:
            p = parameters[name]
            self.tensors[name] = torch.empty((last - first, *p.shape[1:]), dtype=p.dtype, device=self.device)
        self.absent = {
            name: torch.empty(p.shape, dtype=p.dtype, device="meta")
            for name, p in parameters.items()
            if name not in self.owned
        }
        self._fetched: set[str] = set()

    @torch.no_grad()
    def fetch(self, gradients: bool) -> None:
        self._find_shards()
        present = {name: p.grad for name, p in self.parameters.items() if p.grad is not None} if gradients else {}
        local = {name: local_gradient(name, self.parameters[name], gradient) for name, gradient in present.items()}
        self._fetched = {name for name in self.gathered if name in local or not gradients}
        own = {name for name, *_ in self.of[self.rank]} & local.keys()
        arriving = {name: torch.empty_like(self.tensors[name]) for name in own}
        self._move([(self.shards, self.tensors), (local, arriving)], towards_owner=True)
        for name, tensor in self.tensors.items() if gradients else ():
            gradient = (arriving if name in self.gathered else local).get(name)
            tensor.grad = None if gradient is None else gradient.view(tensor.shape)

    @torch.no_grad()
    def collect(self) -> None:
        for tensor in self.tensors.values():
            tensor.grad = None
        self._move([(self.shards, self.tensors)], towards_owner=False)

    def cut_signals(self, supplied: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        found: dict[str, dict[str, Tensor]] = {}
        for signal, values in supplied.items():
            found[signal] = {}
            for name in filter(values.__contains__, self.parameters):
                value: Any = values[name]
                if isinstance(value, DTensor) and name not in self.gathered:
                    value = value.to_local()
                else:
                    value = value.full_tensor() if isinstance(value, DTensor) else value
                    value = self.cut(name, value) if name in self.owned else value
                if name in self.owned:
                    found[signal][name] = value
        return found

    def anywhere(self, here: bool) -> bool:
        return bool(self.total(torch.tensor(float(here), device=self.device), True))

    def _rows(self, name: str, piece: Piece) -> tuple[int, int]:
        return (0, self.shapes[name][0]) if piece.whole else (piece.start, piece.stop)

    @torch.no_grad()
    def _find_shards(self) -> None:
        """Follow shards to other memory: loading, converting and moving a model may replace it."""
        for name, p in self.parameters.items():
            assert isinstance(p, DTensor)
            own = p.to_local()
            if name in self.shards and _memory(self.shards[name]) == _memory(own):
                continue
            own = self.shards[name] = own.detach()
            if name in self.owned and name not in self.gathered:
                flat = self.kinds[name] == "elements" and not self.owned[name].whole
                self.tensors[name] = own.view(-1) if flat else own

    def _move(self, pairs: Pairs, towards_owner: bool) -> None:
        """Rows of what is fetched, from all ranks' shards to the pieces of their owners or back; an all-to-all a
        dtype."""
        for dtype in sorted({self.parameters[name].dtype for name in self._fetched}, key=str):
            chosen = {name for name in self._fetched if self.parameters[name].dtype == dtype}
            items = [[item for item in owned if item[0] in chosen] for owned in self.of]
            mine = [self._views(pairs, owned, self.rank, of_shard=True) for owned in items]
            own = [self._views(pairs, items[self.rank], source, of_shard=False) for source in range(self.ranks)]
            sent, received = (mine, own) if towards_owner else (own, mine)
            parts = [view.reshape(-1) for views in sent for view in views]
            outgoing = torch.cat(parts) if parts else torch.empty(0, dtype=dtype, device=self.device)
            sizes, expected = ([sum(v.numel() for v in views) for views in side] for side in (sent, received))
            incoming = torch.empty(sum(expected), dtype=dtype, device=self.device)
            dist.all_to_all_single(incoming, outgoing, expected, sizes, group=self.group)
            unpack(incoming, (view for views in received for view in views))

    def _views(self, pairs: Pairs, items: Iterable[tuple[str, int, int]], source: int, of_shard: bool) -> list[Tensor]:
        """Of an owner's items, the rows that are in a source's shard, as views into that shard or into the pieces."""
        views = []
        for name, begin, end in items:
            start, stop = shard(self.shapes[name][0], source, self.ranks)
            first, last = max(start, begin), min(stop, end)
            if first < last:
                base = start if of_shard else begin
                views += [pair[not of_shard][name][first - base : last - base] for pair in pairs if name in pair[0]]
        return views


def _total(group: Any, part: Tensor, largest: bool = False, /) -> Tensor:
    if group is not None:
        dist.all_reduce(part, op=dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=group)
    return part


def _sharding(parameters: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...], int]:
    """(mesh, placements, the mesh dimension that divides rows) of all parameters. Raises ValueError."""
    if problem := undivided(parameters):
        raise ValueError(problem)
    first: Any = next(iter(parameters.values()))
    return first.device_mesh, first.placements, first.placements.index(Shard(0))


def _needs_all(work: StepCost, seen_as: Orientation | None) -> bool:
    """Whether no rank can step its own rows of a weight, because they are not rows to the rule."""
    return seen_as is not None and (work.kind == "rows" or seen_as.experts > 0)


def _whole(work: StepCost) -> StepCost:
    return replace(work, kind="whole", unit=work.rows)


def undivided(parameters: Mapping[str, Any]) -> str:
    """Why parameters are not all divided by rows on one mesh, as FSDP2 does it; empty if they are."""
    first = next(name for name, p in parameters.items() if isinstance(p, DTensor))
    mesh = parameters[first].device_mesh
    for name, p in parameters.items():
        if not isinstance(p, DTensor):
            return (
                f"parameter {name} is a plain tensor, and {first} is a DTensor; shard all parameters of an optimizer, "
                "or give it the plain ones apart"
            )
        if p.device_mesh != mesh:
            return (
                f"parameter {name} is on {p.device_mesh}, and {first} on {mesh}; an optimizer steps parameters of one "
                "mesh, so build one for each"
            )
        if [placement for placement in p.placements if placement != Replicate()] != [Shard(0)]:
            return (
                f"parameter {name} is placed as {p.placements} on the mesh; a rule that looks across a tensor steps "
                "DTensors that FSDP2 (fully_shard) divides by rows, Shard(0), with replicas or without; tensor "
                "parallel ones are for rules that look at every element alone (adamw, lion)"
            )
    return ""


def _memory(tensor: Tensor) -> tuple[int, torch.Size]:
    return tensor.data_ptr(), tensor.shape


def alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether they are the same parameters, by name."""
    return [(name, id(p)) for name, p in one.items()] == [(name, id(p)) for name, p in other.items()]
