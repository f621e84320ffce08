"""What one process steps where several share the optimizer's work (``Engine.share``).

Where the state of a piece lies in the state of its whole parameter is in ``state_shards``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fairstep.optim.rule import RowShard, Total
from fairstep.optim.sharding.step_cost import Kind, Piece


class OwnedShards:
    """``tensors``, by name: the parameters that this process steps, and of divided ones views of its pieces.

    ``kinds``: of the parameters' ``StepCost``. ``tensors`` that are given are memory of the caller's, who also gives
    them their gradients. Raises ValueError for a parameter that cannot be divided because it is not contiguous.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        kinds: Mapping[str, Kind],
        owned: Mapping[str, Piece],
        total: Total,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.parameters, self.kinds, self.owned, self.total = parameters, kinds, owned, total
        self.given = tensors is not None
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
        return (tensor.reshape(-1) if self.kinds[name] == "elements" else tensor)[piece.start : piece.stop]

    def row_shard(self, name: str) -> RowShard | None:
        """Which rows of a matrix this process has, where all share its rows and so step it together."""
        piece = self.owned.get(name)
        if piece is None or piece.whole or self.kinds[name] != "rows":
            return None
        return RowShard(piece.start, piece.rows, self.total)

    def cut_gradients(self) -> None:
        """Bring the pieces' gradients up to date with their parameters'."""
        for name, tensor in () if self.given else self.tensors.items():
            parameter = self.parameters[name]
            if _memory(tensor) != _memory(parameter):
                raise ValueError(f"parameter {name} has other memory than when the work was shared; share it again")
            if tensor is not parameter:
                tensor.grad = None if parameter.grad is None else self.cut(name, parameter.grad)

    def cut_signals(self, supplied: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Tensors of the parameters' shapes, by signal and name, for the pieces."""
        return {
            signal: {name: self.cut(name, value) for name, value in values.items() if name in self.owned}
            for signal, values in supplied.items()
        }


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
