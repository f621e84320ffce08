"""Pieces of parameters: what one process steps of those that several share (``Engine.share``). Where their state lies
in that of the whole parameters is in ``portion``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from fairstep.optim.across import Across, Total
from fairstep.optim.work import Piece, Work

if TYPE_CHECKING:
    from fairstep.optim.engine import Engine


def works(optimizer: Engine) -> list[Work]:
    """What a step consists of, parameter by parameter, for ``ownership.divide``."""
    rules = optimizer.rules
    return [
        Work.of(name, rules[group["rule"]], optimizer.roles[name], p.shape, group)
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    ]


class Owned:
    """What one process steps: ``tensors`` are its parameters and, of divided ones, views of its pieces, by name.

    ``tensors`` that are given are memory of the caller's, who also gives them their gradients.
    """

    def __init__(
        self,
        optimizer: Engine,
        owned: Mapping[str, Piece],
        total: Total,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.owned, self.total = owned, total
        self.parameters = parameters = dict(optimizer.named_parameters())
        self.kinds = {work.name: work.kind for work in works(optimizer)}
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

    def across(self, name: str) -> Across | None:
        """Which rows of a matrix are ours, where all processes share its rows, and so step it together."""
        piece = self.owned.get(name)
        if piece is None or piece.whole or self.kinds[name] != "rows":
            return None
        return Across(piece.start, piece.rows, self.total)

    def cut_gradients(self) -> None:
        """Bring the pieces' gradients up to date with their parameters'."""
        for name, tensor in () if self.given else self.tensors.items():
            parameter = self.parameters[name]
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
