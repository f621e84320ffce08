"""What one process steps where several share the optimizer's work: ``Engine.share``, and ``dtensors``.

Where the state of a piece lies in the state of its whole parameter is in ``state_shards``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import Tensor

from fairstep.optim.rule import RowShard, Total
from fairstep.optim.sharding.step_cost import Kind, Piece


class OwnedShards:
    """``tensors``, by name: the parameters that this process steps, and of divided ones views of its pieces.

    ``kinds``: of the parameters' ``StepCost``. ``tensors`` that are given are a subclass's, which has other memory.
    Raises ValueError for a parameter that cannot be divided because it is not contiguous.
    """

    by_caller: ClassVar[bool] = True
    """Whether the caller exchanges gradients and weights with the other processes."""
    absent: Mapping[str, Tensor] = {}
    """Parameters of which this process steps nothing, without memory, if their state is described here too."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        kinds: Mapping[str, Kind],
        owned: Mapping[str, Piece],
        total: Total,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.parameters, self.kinds, self.owned, self.total = parameters, kinds, owned, total
        if tensors is not None:
            self.tensors = dict(tensors)
            return
        self.tensors = {
            name: parameters[name] if piece.whole else self.cut(name, parameters[name].detach(), piece)
            for name, piece in owned.items()
        }
        for name, tensor in self.tensors.items():
            if not tensor.numel() or _memory(tensor) != _memory(parameters[name]):
                raise ValueError(f"parameter {name} cannot be divided, because its memory is not contiguous")

    def cut(self, name: str, tensor: Tensor, piece: Piece | None = None) -> Tensor:
        """The piece, by default ours, of a tensor of the parameter's shape; a view where that is contiguous."""
        piece = piece or self.owned[name]
        if piece.whole:  # its rule may see it the other way round, and count other rows
            return tensor
        return (tensor.reshape(-1) if self.kinds[name] == "elements" else tensor)[piece.start : piece.stop]

    def row_shard(self, name: str) -> RowShard | None:
        """Which rows of a matrix this process has, where all share its rows and so step it together."""
        piece = self.owned.get(name)
        if piece is None or piece.whole or self.kinds[name] != "rows":
            return None
        return RowShard(piece.start, piece.rows, self.total)

    def fetch(self, gradients: bool) -> None:
        """Bring the pieces up to date with their parameters: all, or those that have gradients, and these too."""
        for name, tensor in self.tensors.items():
            parameter = self.parameters[name]
            if _memory(tensor) != _memory(parameter):
                raise ValueError(f"parameter {name} has other memory than when the work was shared; share it again")
            if tensor is not parameter:
                tensor.grad = None if parameter.grad is None else self.cut(name, parameter.grad)

    def collect(self) -> None:
        """Bring the parameters up to date with the pieces that were fetched."""

    def cut_signals(self, supplied: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Tensors of the parameters' shapes, by signal and name, for the pieces."""
        return {
            signal: {name: self.cut(name, value) for name, value in values.items() if name in self.owned}
            for signal, values in supplied.items()
        }

    def anywhere(self, here: bool) -> bool:
        """Whether something is so in any process that answers this now."""
        return here


def unpack(flat: Tensor, views: Iterable[Tensor]) -> None:
    """The values of one vector into tensors that lie end to end in it."""
    for view in views:
        values, flat = flat[: view.numel()], flat[view.numel() :]
        if values.data_ptr() != view.data_ptr():
            view.copy_(values.view(view.shape))


def any_dtensor(tensors: Iterable[Tensor]) -> bool:
    """Whether one of them is a DTensor, whose module takes most of a second to load."""
    # A module that another thread is loading has no DTensor yet, and there is none of it.
    dtensor = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return dtensor is not None and any(issubclass(kind, dtensor) for kind in set(map(type, tensors)))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
