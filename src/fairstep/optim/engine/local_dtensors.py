"""DTensors in any placement, such as tensor parallel ones, and plain tensors beside them, for elementwise rules.

A rank steps what it has of each parameter as it lies, so that nothing travels. The state has the parameter's placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from fairstep.optim.engine.owned import OwnedShards
from fairstep.optim.sharding.step_cost import Piece


class LocalDTensors(OwnedShards):
    """The local part of every parameter, as if it were a parameter of its own; ``absent`` where it has no element."""

    by_caller = False

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(parameters, {}, {}, lambda part, *_: part, {})
        for name, own in ((name, _local(p)) for name, p in parameters.items()):
            if own.numel():
                self.owned = {**self.owned, name: Piece(0, own.numel(), own.numel())}
            else:
                self.absent = {**self.absent, name: torch.empty_like(own, device="meta")}
        self.fetch(gradients=False)

    @torch.no_grad()
    def fetch(self, gradients: bool) -> None:
        for name in self.owned:
            p = self.parameters[name]
            own = _local(p)
            if name not in self.tensors or self.tensors[name].data_ptr() != own.data_ptr():
                self.tensors[name] = own.detach()  # loading, converting and moving a model may replace its memory
            if gradients:
                self.tensors[name].grad = None if p.grad is None else local_gradient(name, p, p.grad)

    def collect(self) -> None:
        for tensor in self.tensors.values():
            tensor.grad = None

    def cut_signals(self, supplied: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        return {
            signal: {name: self._part(name, value) for name, value in values.items() if name in self.owned}
            for signal, values in supplied.items()
        }

    def distribute(self, state: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """State by name, whose tensors are local parts, with DTensors for DTensors."""
        return {
            name: {k: self._whole(name, v) if isinstance(v, Tensor) else v for k, v in entry.items()}
            for name, entry in state.items()
        }

    def localise(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter's saved state, of DTensors in any placement, whole tensors or local parts, as local parts."""
        shape = self.parameters[name].shape
        return {
            key: self._part(name, value) if isinstance(value, Tensor) and value.shape == shape else value
            for key, value in entry.items()
        }

    def _whole(self, name: str, part: Tensor) -> Tensor:
        p = self.parameters[name]
        if not isinstance(p, DTensor):
            return part
        part = torch.empty_like(part, device=p.to_local().device) if part.is_meta else part
        return DTensor.from_local(part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride())

    def _part(self, name: str, value: Tensor) -> Tensor:
        """What this rank has of a tensor of the parameter's shape."""
        p = self.parameters[name]
        if not isinstance(p, DTensor):
            return value.full_tensor() if isinstance(value, DTensor) else value
        if isinstance(value, DTensor) and (value.device_mesh, value.placements) == (p.device_mesh, p.placements):
            return value.to_local()
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        return distribute_tensor(whole.to(p.device), p.device_mesh, p.placements, src_data_rank=None).to_local()


def local_gradient(name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
    """What this rank has of a gradient. Raises ValueError if it does not lie as the parameter does."""
    wanted = parameter.placements if isinstance(parameter, DTensor) else None
    have = gradient.placements if isinstance(gradient, DTensor) else None
    if have != wanted:
        here = f"placed as {have}" if have else "a plain tensor"
        raise ValueError(
            f"the gradient of {name} is {here}, and the parameter is {f'placed as {wanted}' if wanted else 'one'}; "
            "reduce the gradient to the parameter's placement before the step"
        )
    return _local(gradient)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
