"""Optimizer state by parameter name: saving, checked loading, and how many bytes it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairstep.optim.modes import KEPT
from fairstep.optim.ownership import Piece, apart
from fairstep.optim.pieces import assemble
from fairstep.optim.rule import Apart
from fairstep.optim.spec import _nearest
from fairstep.optim.stacks import Member, compute_dtype

if TYPE_CHECKING:
    from fairstep.optim.engine import Engine

FORMAT = 1
"""Version of the state dict; a reader refuses a higher one instead of guessing."""
_NOT_SETTINGS = ("params", "param_names")


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the tensors that an optimizer keeps per parameter; any torch optimizer.

    Tensors in nested containers count, a tensor that is met twice counts once, and parameters do not count.
    """
    seen = {id(p) for group in optimizer.param_groups for p in group["params"]}
    total = 0
    for tensor in _tensors(optimizer.state.values()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            total += tensor.numel() * tensor.element_size()
    return total


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def dump(optimizer: Engine) -> dict[str, Any]:
    """State and settings by parameter name. The tensors are the optimizer's own, as with any torch optimizer."""
    groups = [
        {"params": list(group["param_names"])} | {k: v for k, v in group.items() if k not in _NOT_SETTINGS}
        for group in optimizer.param_groups
    ]
    state = {name: dict(optimizer.state[p]) for name, p in optimizer.named_parameters() if optimizer.state.get(p)}
    saved = {"format": FORMAT, "optimizer": optimizer.spec.name, "state": state, "param_groups": groups}
    if optimizer.ownership:
        saved["pieces"] = {name: (p.start, p.stop, p.rows) for name, p in optimizer.ownership.owned.items()}
    return saved


def load(optimizer: Engine, saved: Mapping[str, Any]) -> None:
    """Replace state and settings by saved ones, keeping their dtypes and moving them to the parameters' devices.

    Of a state in "parts" (see ``pieces``) this optimizer takes what it steps. Everything is checked before anything is
    changed. Raises ValueError for the state of another optimizer or model.
    """
    _check_origin(optimizer, saved)
    entries = _entries(optimizer, saved)
    for group, other in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        group.update({k: v for k, v in other.items() if k != "params"})
    for name, p in optimizer.named_parameters():
        optimizer.state[p] = {
            key: value.to(p.device) if isinstance(value, Tensor) else value
            for key, value in entries.get(name, {}).items()
        }


def _entries(optimizer: Engine, saved: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The state of what the optimizer steps, by name, checked."""
    parts, found = saved.get("parts", [saved]), {}
    known = dict(optimizer.named_parameters())
    settings = {other["params"][0]: other for other in saved["param_groups"]}
    owned = optimizer.ownership.owned if optimizer.ownership else {}
    for group, member in optimizer.members():
        name, p = member.name, known[member.name]
        elementwise = optimizer.rules[group["rule"]].elementwise
        rows = p.numel() if elementwise else len(p) if p.ndim else 1
        wanted = owned.get(name, Piece(0, rows, rows))
        divided = apart(optimizer.rules[group["rule"]], optimizer.roles[name], p.shape, group)
        found[name] = assemble(name, p.shape, elementwise, wanted, parts, divided or Apart())
        _check_shapes(optimizer, member, found[name], {**group, **settings[group["param_names"][0]]})
    return found


def _check_origin(optimizer: Engine, saved: Mapping[str, Any]) -> None:
    ours = optimizer.spec.name
    if not {"format", "optimizer", "param_groups"} <= set(saved) or not {"state", "parts"} & set(saved):
        raise ValueError(f"this is not a state dict of fairstep's {ours}: it has the keys {', '.join(map(str, saved))}")
    if saved["format"] > FORMAT:
        raise ValueError(f"this state dict has format {saved['format']}; this version reads up to {FORMAT}")
    if saved["optimizer"] != ours:
        raise ValueError(f"this is a state dict of {saved['optimizer']}, which {ours} cannot load")
    known = dict(optimizer.named_parameters())
    stored = [name for group in saved["param_groups"] for name in group["params"]]
    for name in stored:
        if name not in known:
            raise ValueError(
                f"the state dict is of another model: it has a parameter {name}, and this one has not"
                f"{_nearest(name, tuple(known))}"
            )
    for name in known:
        if name not in stored:
            raise ValueError(f"the state dict is of another model: it lacks the parameter {name}")
    for group, other in zip(optimizer.param_groups, saved["param_groups"], strict=False):
        if group["param_names"] != other["params"] or group["rule"] != other["rule"]:
            raise ValueError(
                f"the state dict groups its parameters differently, from {other['params'][0]} on; build the optimizer "
                "with the same param groups, roles and undecayed as the saved one"
            )


def _check_shapes(optimizer: Engine, member: Member, entry: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    """``group``: the saved settings, which are loaded as well and may decide over shapes."""
    if not entry:
        return
    rule, name, layout, p = optimizer.rules[group["rule"]], member.name, member.layout, member.tensor
    items = torch.empty((layout.rows, *layout.tail), dtype=compute_dtype(p.dtype), device="meta")
    fresh = rule.init(items, {**group, **member.further})
    expected = {
        key: (*layout.lead, *value.shape[1:]) if isinstance(value, Tensor) else () for key, value in fresh.items()
    }
    found = {
        key: tuple(value.shape) if isinstance(value, Tensor) else ()
        for key, value in entry.items()
        if key not in ("step", KEPT)
    }
    if expected != found:
        raise ValueError(
            f"the state dict is of another model: the state of {name} has the shapes {found}, and not {expected}"
        )
    for key, value in fresh.items():
        if isinstance(value, Tensor) and value.dtype != entry[key].dtype:
            raise ValueError(
                f"the state dict has the {key} of {name} in {entry[key].dtype}, where a parameter in {p.dtype} has it "
                f"in {value.dtype}; convert the model to the dtype that it was trained in"
            )
