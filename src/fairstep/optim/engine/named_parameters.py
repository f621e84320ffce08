"""Parameters with their names and layers, from whatever form torch's optimizers take them in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fairstep.optim.roles import AROUND, Named


def named_parameters(params: Any) -> list[Named]:
    """Parameters of a module, of (name, parameter) pairs, or of an iterable of parameters (named by position).

    The "_orig_mod." that torch.compile puts into names is taken out. Raises TypeError for anything else and ValueError
    for an empty list, a repeated name or parameter, and parameters that are complex or have no elements.
    """
    if isinstance(params, nn.Module):
        layers = {}
        for module in params.modules():
            for tensor in module.parameters(recurse=False):
                # A tied weight belongs to its embedding, whichever of its layers comes first.
                if id(tensor) not in layers or isinstance(module, nn.Embedding):
                    layers[id(tensor)] = module
        items = [
            Named(name, tensor, *_holders(params, name, layers[id(tensor)]))
            for name, tensor in params.named_parameters()
        ]
    elif isinstance(params, Tensor):
        raise TypeError("params must be a module or an iterable of parameters, not one tensor; write [parameter]")
    elif isinstance(params, set):
        raise TypeError("params must have an order that is the same in every run; a set has none, so give a list")
    elif isinstance(params, Mapping):
        raise TypeError(
            "params must be a module or an iterable of parameters, not a dict; give its .items(), or a list of param "
            "groups"
        )
    elif not isinstance(params, Iterable):
        raise TypeError(f"params must be a module or an iterable of parameters, not {params!r}")
    else:
        items = [_named(number, item) for number, item in enumerate(params)]
    if not items:
        raise ValueError("the parameter list is empty; give a module with parameters, or named parameters")
    items = [replace(item, name=item.name.replace("_orig_mod.", "")) for item in items if not _is_frozen_code(item)]
    if not items:
        raise ValueError("all parameters are frozen and no floating-point numbers; nothing is left to train")
    for item in items:
        if nn.parameter.is_lazy(item.tensor):
            raise ValueError(f"parameter {item.name} has no shape yet; run its lazy module once before")
        if not item.tensor.numel():
            shape = " x ".join(map(str, item.tensor.shape))
            raise ValueError(f"parameter {item.name} has no elements ({shape}); leave it out")
        if item.tensor.is_complex():
            raise ValueError(f"parameter {item.name} is complex; give its real view (torch.view_as_real)")
        if not item.tensor.is_floating_point():
            raise ValueError(
                f"parameter {item.name} has dtype {item.tensor.dtype}; only floating-point ones are trained"
            )
        if item.tensor.requires_grad and item.tensor.layout == torch.strided and _overlaps(item.tensor):
            raise ValueError(f"parameter {item.name} has elements that share memory (expand); give a clone of it")
        if not (item.tensor.is_leaf or item.tensor.retains_grad):
            raise ValueError(
                f"parameter {item.name} is computed from other tensors (not a leaf); give those, or an nn.Parameter"
            )
    names: dict[int, str] = {}
    for item in items:
        other = names.setdefault(id(item.tensor), item.name)
        if other != item.name:
            raise ValueError(f"{other} and {item.name} are the same parameter; give a shared weight once")
    for repeated, count in Counter(item.name for item in items).items():
        if count > 1:
            raise ValueError(f"the name {repeated} is given {count} times; names must be unique")
    return items


def _holders(root: nn.Module, name: str, layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The layer of a parameter, of a parametrized one's too, and the module that has the layer by its name."""
    *path, _ = name.split(".")
    if isinstance(layer, nn.utils.parametrize.ParametrizationList):
        path = path[: path.index("parametrizations")]
        layer = root.get_submodule(".".join(path))
    while path and (path[-1] in AROUND or "modules_to_save" in path[-2:-1]):
        path = path[:-1] if path[-1] in AROUND else path[:-2]
    return layer, root.get_submodule(".".join(path[:-1]))


def _named(number: int, item: Any) -> Named:
    """A parameter of a list, with or without its name."""
    pair = isinstance(item, tuple)
    name, tensor = item if pair and len(item) == 2 else (str(number), item)
    if not isinstance(name, str):
        raise TypeError(f"parameter {number} must have a text as its name, not {name!r}")
    if not isinstance(tensor, Tensor):
        kind = type(tensor).__name__
        told = "; give {'params': module} for a param group" if isinstance(tensor, nn.Module) else ""
        raise TypeError(f"parameter {name} must be a tensor, not {kind}{told}")
    return Named(name, tensor, telling=pair)


def _overlaps(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _is_frozen_code(item: Named) -> bool:
    """Whether these are a frozen layer's quantised weights, which no optimizer ever steps."""
    tensor = item.tensor
    if not isinstance(tensor, nn.Parameter) or tensor.requires_grad:
        return False
    return not (tensor.is_floating_point() or tensor.is_complex())
