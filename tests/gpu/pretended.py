"""An accelerator for tests on machines without one: tensors that say they are on it, their numbers on the processor.

``pretended()`` makes the device, by torch's open registration of devices. In it every operation of torch is looked at:
one that mixes tensors of both places raises as on CUDA, except for numbers (0-dim tensors on the processor, which CUDA
takes too). Numbers are computed by the processor's kernels, so that branches on values go as they would, and results
can be compared to the bit. What only a GPU's own kernels can show (rounding, speed, memory) is not shown. What is done
for the device type "cuda" alone is not done.

torch's fake tensors have no numbers: an optimizer that asks for one (Prodigy's d, a norm that is zero) cannot take a
step on them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

CPU = torch.device("cpu")
NAME = "pretended"
COPIES = {"aten::copy_", "aten::_foreach_copy_", "aten::_to_copy"}
"""Operations that carry numbers from one place to the other."""


class Elsewhere(Tensor):
    """A tensor on the pretended device; ``here`` has its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )
        made.here = here
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({self.here})"

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, with its result where the device would have it. Raises RuntimeError for a mixture of places."""
    name = func._schema.name
    if name == "aten::_fused_sdp_choice":
        return 0  # attention by products and a softmax: fused kernels are of one device
    flat = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = [x for x in flat if isinstance(x, Elsewhere)]
    device = kwargs.get("device")
    if there and name not in COPIES:
        strays = [x for x in flat if not isinstance(x, Elsewhere) and x.ndim]
        if strays:
            raise RuntimeError(f"{name}: {tuple(strays[0].shape)} on the processor among tensors on the device")
    placed = bool(there) if device is None else torch.device(device).type == NAME
    generator = kwargs.get("generator")
    if generator is not None and placed and generator._cdata not in _there:
        raise RuntimeError(f"{name}: a generator on the processor for tensors on the device")
    if name in ("aten::copy_", "aten::_foreach_copy_"):
        first = args[0] if isinstance(args[0], Tensor) else args[0][0]
        placed = isinstance(first, Elsewhere)
    inside_args, inside = tree_map_only(Elsewhere, lambda x: x.here, (args, dict(kwargs)))
    if device is not None and placed:
        inside["device"] = CPU
    result = func(*inside_args, **inside)
    if not placed:
        return result
    wrapped = tree_map_only(Tensor, Elsewhere, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


_there: set[int] = set()
"""Addresses of generators that were asked for on the device."""


class _Generator(torch.Generator):
    """A processor's generator, of which is known where it was asked for."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls)
        (_there.add if torch.device(device).type == NAME else _there.discard)(made._cdata)
        return made


class _Module(_DummyBackendModule):
    """What autocast asks a device's module for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


@functools.cache
def _register() -> None:
    """For this process; it cannot be undone, and torch takes the device for the machine's accelerator from then on."""
    _setup_privateuseone_for_python_backend(NAME, _Module())


@contextlib.contextmanager
def pretended() -> Iterator[torch.device]:
    """The device, for as long as the context lasts."""
    _register()
    with (
        mock.patch("torch.Generator", _Generator),
        # A module that moves keeps its tied weights tied only so: their memory cannot be exchanged, as with CUDA.
        mock.patch("torch.__future__.get_swap_module_params_on_conversion", lambda: True),
        torch.autograd.set_multithreading_enabled(False),  # no thread of the engine belongs to the device
        _Mode(),
    ):
        yield torch.device(NAME, 0)
