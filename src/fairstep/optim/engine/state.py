"""Optimizer state by parameter name: saving, checked loading, and how many bytes it takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from fairstep.optim.engine import by_number
from fairstep.optim.engine.part_entry import KEPT
from fairstep.optim.engine.routed import Routed
from fairstep.optim.engine.stacks import Member, compute_dtype
from fairstep.optim.rule import Context, RowSharding, call
from fairstep.optim.sharding.state_shards import ShardLayout, StateShard
from fairstep.optim.sharding.step_cost import Piece, row_sharding
from fairstep.optim.spec import did_you_mean

FORMAT = 1
"""Version of the state dict; a reader refuses a higher one instead of guessing."""
_NOT_SETTINGS = ("params", "param_names", "in_by_out")


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the tensors that an optimizer keeps per parameter; any torch optimizer.

    Tensors in nested containers count, a tensor that is met twice counts once. Parameters do not, nor tensors without
    memory (meta).
    """
    seen = {id(p) for group in optimizer.param_groups for p in group["params"]}
    total = 0
    for tensor in _tensors(optimizer.state.values()):
        if id(tensor) not in seen and not tensor.is_meta:
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


def dump(optimizer: Routed) -> dict[str, Any]:
    """State and settings by parameter name. The tensors are the live ones, as with any torch optimizer.

    An optimizer that shares its work has the state of what it steps, with a ``StateShard`` for each divided tensor.
    torch.distributed.checkpoint gets the state of DTensors as DTensors, from all ranks together.
    """
    groups = [
        {"params": list(group["param_names"])}
        | {k: v for k, v in group.items() if k not in _NOT_SETTINGS}
        | ({"in_by_out": turned} if (turned := by_number.in_by_out(optimizer, group)) else {})
        for group in optimizer.param_groups
    ]
    state = {name: dict(optimizer.state[p]) for name, p in optimizer.named_parameters() if optimizer.state.get(p)}
    layouts, asked, ownership = dict(_layouts(optimizer)), by_number.asked(), optimizer.ownership
    for name in state if ownership else ():
        if name in layouts:
            layout = layouts[name]
            state[name] = {k: layout.shard(k, v) if isinstance(v, Tensor) else v for k, v in state[name].items()}
        elif not asked:
            state[name] = {"step": state[name]["step"]}
    if asked and ownership and not ownership.by_caller:
        state = _dtensor_state().distribute(ownership, state, layouts)
    saved = {"format": FORMAT, "optimizer": optimizer.spec.name, "state": state, "param_groups": groups}
    return by_number.numbered(saved) if asked else saved


def check(optimizer: Routed, keys: Collection[object] | None = None) -> None:
    """Raise ValueError if ``optimizer.state`` or the param groups, which anyone may change, fit the rules no more.

    ``keys``: of the members whose state is looked at; None: all.
    """
    optimizer.check_groups()
    for group in optimizer.param_groups:
        if len(group["params"]) != len(group["param_names"]):
            raise ValueError(
                f"a param group was changed from outside: it has {len(group['params'])} parameters and the names of "
                f"{len(group['param_names'])}; parameters are added with add_param_group"
            )
    for key in optimizer.state:
        if not isinstance(key, Tensor):
            raise ValueError(f"optimizer.state has an entry for {key!r}, which is no parameter; keep it elsewhere")
    if not any(optimizer.state.values()):
        return
    if optimizer.ownership:
        for name, p in optimizer.named_parameters():
            if optimizer.ownership.parameters[name] is not p:
                raise ValueError(f"parameter {name} was replaced after the work was shared; share it again")
    known: _Known = {}
    for group, member in optimizer.members():
        if keys is not None and member.key not in keys:
            continue
        problem = _problem(optimizer, member, member.entry, group, known, member.tensor.device)
        if problem:
            raise ValueError(f"optimizer.state was changed from outside: {problem}")


def load(optimizer: Routed, saved: Mapping[str, Any]) -> None:
    """Replace state and settings by saved ones, keeping their dtypes and moving them to the parameters' devices.

    Of whole tensors this optimizer takes what it steps. A ``StateShard`` must be of the piece that it steps.
    Everything is checked before anything is changed. Raises ValueError for the state of another optimizer or model.
    """
    _check_form(optimizer, saved)
    optimizer.check_groups()
    saved = by_number.named(optimizer, saved)
    _check_origin(optimizer, saved)
    entries = _entries(optimizer, saved)
    left_out = (*_NOT_SETTINGS, *optimizer.spec.retired)
    settings = [{k: v for k, v in other.items() if k not in left_out} for other in saved["param_groups"]]
    for number, (group, given) in enumerate(zip(optimizer.param_groups, settings, strict=True)):
        optimizer.live_groups.check_one(number, group | given)
    for group, other, given in zip(optimizer.param_groups, saved["param_groups"], settings, strict=True):
        group.update(given)
        name_peak(group, other)
    optimizer.forget_groups()
    optimizer.state.clear()
    for name, p in optimizer.named_parameters():
        if entries.get(name):
            optimizer.state[p] = {
                key: int(value) if key == "step" else value.to(p.device) if isinstance(value, Tensor) else value
                for key, value in entries[name].items()
            }
    for group, member in optimizer.members(absent=True):
        if entry := saved["state"].get(member.name):
            kept = {KEPT: member.tensor} if KEPT in entry else {}
            items = member.entry_in(entry).items()
            numbers = {key: value for key, value in items if not isinstance(value, Tensor | NoneType)}
            member.entry.update(_fresh(optimizer, group, member) | numbers | kept | {"step": int(entry["step"])})


def describe_absent(optimizer: Routed) -> None:
    """Give parameters that have a gradient and that other ranks step the entries of a first step, without memory."""
    parameters = optimizer.named_parameters()
    new = {name for name, p in parameters if p.grad is not None and not optimizer.state.get(p)}
    for group, member in optimizer.members(absent=True):
        if member.name in new:
            member.entry.update({"step": 0} | _fresh(optimizer, group, member))


def count_absent(optimizer: Routed) -> None:
    """Count a step of the parameters that have a gradient and that other ranks step."""
    parameters = dict(optimizer.named_parameters())
    entries = {member.name: member.entry for _, member in optimizer.members(absent=True)}  # one for all parts
    for name, entry in entries.items():
        if parameters[name].grad is not None:
            entry["step"] += 1


def name_peak(group: dict[str, Any], saved: Mapping[str, Any]) -> None:
    """Give a param group its peak learning rate from a saved one, which called it initial_lr in earlier versions."""
    group["peak_lr"] = saved["peak_lr"] if "peak_lr" in saved else saved.get("initial_lr", group["lr"])


def allocate_like(optimizer: Routed, described: Mapping[str, Any]) -> dict[str, Any]:
    """Memory for what this optimizer takes of a state dict, to be filled and loaded; what is no tensor is None.

    ``described``: the state dict of all processes together, with tensors on the meta device. Raises ValueError if it
    is of another model or optimizer.
    """
    state = {}
    for name, layout in _layouts(optimizer):
        entry = described.get("state", {}).get(name, {})
        for key, value in entry.items():
            if isinstance(value, Tensor) and not layout.fits(key, value.shape):
                raise ValueError(
                    f"the state dict is of another model or optimizer: the {key} of {name} has the shape "
                    f"{tuple(value.shape)}, where the parameter has {tuple(layout.shape)}"
                )
        state[name] = {k: layout.allocate_like(k, v) if isinstance(v, Tensor) else None for k, v in entry.items()}
    for _, member in optimizer.members(absent=True):
        entry = described.get("state", {}).get(member.name, {})
        state[member.name] = {key: None for key, value in entry.items() if not isinstance(value, Tensor)}
    return {**{key: None for key in described if key != "state"}, "state": state}


def _layouts(optimizer: Routed) -> Iterator[tuple[str, ShardLayout]]:
    """(name, where the state of what the optimizer steps lies in the state of the whole parameter)."""
    owned = optimizer.ownership.owned if optimizer.ownership else {}
    parameters = dict(optimizer.named_parameters())
    for group, member in optimizer.members():
        p, rule, role = parameters[member.name], optimizer.rules[group["rule"]], optimizer.roles[member.name]
        rows = p.numel() if rule.elementwise else len(p) if p.ndim else 1
        piece = owned.get(member.name, Piece(0, rows, rows))
        yield (
            member.name,
            ShardLayout(piece, p.shape, rule.elementwise, row_sharding(rule, role, p.shape, group) or RowSharding()),
        )


def _entries(optimizer: Routed, saved: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The state of what the optimizer steps, by name, checked."""
    entries = {}
    settings = {other["params"][0]: other for other in saved["param_groups"]}
    layouts, ownership = dict(_layouts(optimizer)), optimizer.ownership
    known: _Known = {}
    members: dict[str, list[tuple[dict[str, Any], Member]]] = {}
    for placed in optimizer.members():
        members.setdefault(placed[1].name, []).append(placed)
    for name, _ in optimizer.named_parameters():
        entry = saved["state"].get(name, {})
        if ownership and not ownership.by_caller:
            entry = _dtensor_state().localise(ownership, name, entry, layouts.get(name))
        if name not in members:
            continue
        entries[name] = {key: _own_part(name, layouts[name], key, value) for key, value in entry.items()}
        for group, member in members[name]:
            own = member.entry_in(entries[name])
            problem = _problem(optimizer, member, own, {**group, **settings[group["param_names"][0]]}, known)
            if problem:
                raise ValueError(f"the state dict is of another model: {problem}")
    return entries


def _own_part(name: str, layout: ShardLayout, key: str, value: Any) -> Any:
    """What a piece has of saved state."""
    if isinstance(value, StateShard):
        if value.piece != layout.piece:
            have, wanted = value.piece, layout.piece
            raise ValueError(
                f"the saved state of {name} is incomplete: it has rows {have.start} to {have.stop} of {have.rows}, and "
                f"{wanted.start} to {wanted.stop} are wanted"
            )
        return value.local
    if not isinstance(value, Tensor) or layout.piece.whole:
        return value
    return layout.cut(key, value).clone() if layout.fits(key, value.shape) else value


def _check_form(optimizer: Routed, saved: Any) -> None:
    """Raise ValueError for what is no state dict of any optimizer."""
    groups = saved.get("param_groups", []) if isinstance(saved, Mapping) else None
    if not isinstance(groups, list | tuple) or not all(isinstance(g, Mapping) and "params" in g for g in groups):
        found = "a param group in it has no params" if isinstance(groups, list | tuple) else f"it is {saved!r}"[:100]
        raise ValueError(f"this is not a state dict of fairstep's {optimizer.spec.name}: {found}")


def _check_origin(optimizer: Routed, saved: Mapping[str, Any]) -> None:
    ours = optimizer.spec.name
    if not {"format", "optimizer", "param_groups", "state"} <= set(saved):
        keys = f"it has the keys {', '.join(map(str, saved))}" if saved else "it is empty"
        raise ValueError(f"this is not a state dict of fairstep's {ours}: {keys}")
    if saved["format"] > FORMAT:
        raise ValueError(f"this state dict has format {saved['format']}; this version reads up to {FORMAT}")
    if saved["optimizer"] != ours:
        raise ValueError(f"this is a state dict of {saved['optimizer']}, which {ours} cannot load")
    for group in saved["param_groups"]:
        optimizer.spec.check_retired(group)
    known = dict(optimizer.named_parameters())
    stored = [name for group in saved["param_groups"] for name in group["params"]]
    for name in stored:
        if name not in known:
            raise ValueError(
                f"the state dict is of another model: it has a parameter {name}, and this one has not"
                f"{did_you_mean(name, tuple(known))}"
            )
    for name in known:
        if name not in stored:
            raise ValueError(f"the state dict is of another model: it lacks the parameter {name}")
    for group, other in zip(optimizer.param_groups, saved["param_groups"], strict=False):
        if group["param_names"] != other["params"] or group["rule"] != other.get("rule"):
            raise ValueError(
                f"the state dict groups its parameters differently, from {other['params'][0]} on; build the optimizer "
                "with the same param groups, roles, overrides and undecayed as the saved one"
            )
        if differing := set(by_number.in_by_out(optimizer, group)) ^ set(other.get("in_by_out", ())):
            name = group["param_names"][min(differing)]
            raise ValueError(
                f"the state dict has the state of {name} the other way round: a weight stored as in x out is now "
                "stepped as out x in, and this state is of an earlier version or of another model; begin with a new "
                "optimizer"
            )


_Known = dict[tuple[Any, ...], dict[str, Any]]


def _problem(
    optimizer: Routed,
    member: Member,
    entry: Mapping[str, Any],
    group: Mapping[str, Any],
    known: _Known,
    device: torch.device | None = None,
) -> str:
    """Why the rule cannot go on from this state with these settings, which may decide over shapes; empty: it can.

    ``known``: fresh state of members that were looked at before, which members that are alike have in common.
    """
    if not entry:
        return ""
    name, p = member.name, member.tensor
    if not isinstance(entry, Mapping) or not isinstance(entry.get("step"), int | Tensor):
        return f"the state of {name} does not say how many steps were taken"
    alike = group["param_names"][0], member.layout, p.dtype, member.shard
    if alike not in known:
        known[alike] = _fresh(optimizer, group, member)
    fresh = known[alike]
    expected = {key: _shape(value) for key, value in fresh.items()}
    given = {key: _shape(value) for key, value in entry.items() if key not in ("step", KEPT)}
    if expected != given:
        return f"the state of {name} has the shapes {given}, and not {expected}"
    for key, value in fresh.items():
        if isinstance(value, Tensor) and value.dtype != entry[key].dtype:
            return (
                f"the {key} of {name} is in {entry[key].dtype}, where a parameter in {p.dtype} has it in "
                f"{value.dtype}; convert the model to the dtype that it was trained in, or the state"
            )
        if device and isinstance(value, Tensor) and entry[key].device != device:
            return f"the {key} of {name} is on {entry[key].device}, and the parameter on {device}"
    return ""


def _fresh(optimizer: Routed, group: Mapping[str, Any], member: Member) -> dict[str, Any]:
    """Its state before the first step, as its entry shows it, without memory."""
    rule, layout = optimizer.rules[group["rule"]], member.layout
    items = torch.empty((layout.rows, *layout.tail), dtype=compute_dtype(member.tensor.dtype), device="meta")
    state = call(rule.init, Context(group, member.shard), items)
    return {key: x.new_empty((*layout.lead, *x.shape[1:])) if isinstance(x, Tensor) else x for key, x in state.items()}


def _dtensor_state() -> Any:
    from fairstep.optim.engine import dtensor_state  # loads what few need

    return dtensor_state


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else "number"
