"""Pieces of parameters and of their state: cutting them out, and putting saved ones together for other owners.

A state dict of an optimizer that shares its work (``Engine.share``) has the state of its own pieces and says under
"pieces" which they are. Those of all processes, as the list "parts", are the whole: it loads at any division.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairstep.optim.across import Across, Total
from fairstep.optim.ownership import Piece, Work
from fairstep.optim.rule import Apart

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
        """Which rows of a matrix are ours, where all processes share its rows, and so must step it together."""
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


def assemble(
    name: str,
    shape: torch.Size,
    elementwise: bool,
    wanted: Piece,
    parts: Sequence[Mapping[str, Any]],
    apart: Apart,
) -> dict[str, Any]:
    """The state of one piece of a parameter of this shape, from saved parts; nothing if no part has any.

    ``apart`` says which state belongs to the whole parameter, so that every part with a piece has it.

    Raises ValueError if some of it is missing.
    """
    found: list[tuple[Piece, Mapping[str, Any]]] = []
    for part in parts:
        if part["state"].get(name):
            have = Piece(*part.get("pieces", {}).get(name, (0, wanted.rows, wanted.rows)))
            if have == wanted:
                return dict(part["state"][name])
            if have.start < wanted.stop and wanted.start < have.stop:
                found.append((have, part["state"][name]))
    if not found:
        if all("pieces" in part and name not in part["pieces"] for part in parts):
            raise ValueError(f"the saved state of {name} is incomplete: rows from 0 to {wanted.rows} are missing")
        return {}
    found.sort(key=lambda item: item[0].start)
    place = wanted.start
    for have, _ in found:
        if have.rows != wanted.rows or have.start > place:
            raise ValueError(f"the saved state of {name} is incomplete: rows from {place} to {have.start} are missing")
        place = have.stop
    if place < wanted.stop:
        raise ValueError(f"the saved state of {name} is incomplete: rows from {place} to {wanted.stop} are missing")
    lead = shape if elementwise and wanted.whole else (-1,)
    whole = {}
    for key, value in found[0][1].items():
        whole[key] = value
        if isinstance(value, Tensor) and key not in apart.repeated:
            second = key in apart.second
            own = [(have, entry[key].transpose(0, 1) if second else entry[key]) for have, entry in found]
            rows = torch.cat([_cut(part, have, wanted, elementwise, shape) for have, part in own])
            tail = _rest(own[0][1], found[0][0], elementwise, shape)
            whole[key] = rows.transpose(0, 1).contiguous() if second else rows.reshape(*lead, *tail)
    return whole


def _rest(value: Tensor, have: Piece, elementwise: bool, shape: torch.Size) -> torch.Size:
    """Dimensions of a state tensor behind those of its rows."""
    return value.shape[len(shape) if elementwise and have.whole else 1 :]


def _cut(value: Tensor, have: Piece, wanted: Piece, elementwise: bool, shape: torch.Size) -> Tensor:
    """The wanted rows of a state tensor, as far as this piece has them. It may have fewer rows than the parameter,
    such as one for each block of rows."""
    rows = value.reshape(-1, *_rest(value, have, elementwise, shape))
    start, stop = max(have.start, wanted.start), min(have.stop, wanted.stop)
    length = have.stop - have.start
    first, last = ((edge - have.start) * len(rows) // length for edge in (start, stop))
    return rows[first:last]
