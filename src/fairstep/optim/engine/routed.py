"""Param groups by role: which parameter has which rule, hyperparameters and weight decay, and what is stepped here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fairstep.optim.engine import routing, torch_forms
from fairstep.optim.engine.live_groups import LiveGroups
from fairstep.optim.engine.named_parameters import named_parameters
from fairstep.optim.engine.orientation import AS_STORED, Orientation, orientation
from fairstep.optim.engine.owned import OwnedShards, any_dtensor
from fairstep.optim.engine.part_entry import PartEntry
from fairstep.optim.engine.said_roles import Roles, check_patterns
from fairstep.optim.engine.stacks import Member, parts_of
from fairstep.optim.roles import NORMALISED, ROLES, Named, Role
from fairstep.optim.roles import UNDECAYED as UNDECAYED
from fairstep.optim.rule import Context, Rule, call
from fairstep.optim.sharding.step_cost import StepCost
from fairstep.optim.spec import DECAYS, Decay, OptimizerSpec, did_you_mean
from fairstep.optim.spec.overrides import is_override
from fairstep.optim.splits import SPLITS

_ADD_PARAM_GROUP = inspect.unwrap(torch.optim.Optimizer.add_param_group)
"""torch's, without the wrapper that loads its compiler, which takes seconds in a process that compiles nothing."""


class Routed(torch.optim.Optimizer):
    """A torch optimizer whose param groups each have one rule and one weight decay, by the roles of their parameters.

    It has no ``step``: ``Engine`` does. Arguments as of ``Engine``.
    """

    spec: ClassVar[OptimizerSpec]
    _ownership: OwnedShards | None = None
    _ratios: Mapping[str, float] = {}
    """Of each parameter, its group's learning rate over the one that the user gave; none: an optimizer pickled before.
    Groups may be deleted and put in another order."""

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        roles: Roles,
        decay: Decay | None,
        undecayed: Collection[str],
        hyper: Mapping[str, Any],
    ) -> None:
        self.decay = self.spec.decay if decay is None else decay
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {', '.join(DECAYS)}, not {decay!r}")
        if isinstance(undecayed, str) or not isinstance(undecayed, Collection):
            raise TypeError(f"undecayed must be a tuple of roles, such as ('vector', 'embedding'), not {undecayed!r}")
        for role in undecayed:
            if role not in ROLES:
                raise ValueError(
                    f"undecayed: unknown role {role!r}{did_you_mean(role, ROLES)}; roles are {', '.join(ROLES)}"
                )
        self.undecayed = frozenset(undecayed)
        self.hyper = torch_forms.validate(self.spec, torch_forms.numbers(self.spec, hyper))
        self.roles: dict[str, Role] = {}
        self.orientations: dict[str, Orientation] = {}
        """How rules see weights, by name, that are stored otherwise than they see them."""
        self._user_roles = roles
        super().__init__(_as_groups(params), {"lr": self.hyper["lr"], "weight_decay": self.hyper["weight_decay"]})
        check_patterns(self.roles, roles)
        self.spec.check_overrides(self.hyper, self.roles)

    @property
    def in_by_out(self) -> set[str]:
        """Names of weights whose matrices are stored as input x output."""
        return {name for name, one in self.orientations.items() if one.in_by_out}

    @property
    def rules(self) -> dict[str, Rule]:
        """The spec's rules by name."""
        return {part.rule.name: part.rule for part in self.spec.parts}

    @functools.cached_property
    def live_groups(self) -> LiveGroups:
        """Whether param groups, which anyone may change, have settings that their rules can read."""
        return LiveGroups(self.spec)

    def check_groups(self) -> None:
        """Raises ValueError if a param group has settings that its rule cannot read."""
        self.live_groups.check(self.param_groups)

    def forget_groups(self) -> None:
        """The param groups have the settings of another optimizer now, which count from here on."""
        self.__dict__.pop("live_groups", None)

    @property
    def ownership(self) -> OwnedShards | None:
        """What this process steps, where several share the work; None: everything. Follows the parameters."""
        if any_dtensor(p for group in self.param_groups for p in group["params"]):
            from fairstep.optim.engine.dtensors import DTensorShards, alike, undivided  # loads what few need
            from fairstep.optim.engine.local_dtensors import LocalDTensors

            parameters, before = dict(self.named_parameters()), self._ownership
            apart = all(self.rules[group["rule"]].elementwise and "shared" not in group for group in self.param_groups)
            local = apart and undivided(parameters)
            kind: type[OwnedShards] = LocalDTensors if local else DTensorShards
            if not (isinstance(before, kind) and alike(before.parameters, parameters)):
                self._ownership = (
                    LocalDTensors(parameters)
                    if local
                    else DTensorShards(parameters, self.step_costs(), self.orientations, before)
                )
        return self._ownership

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Route the parameters of a group and add them, as one group per rule and weight decay."""
        if "params" not in param_group:
            raise ValueError(f"a param group must have params, and one has only {', '.join(param_group) or 'nothing'}")
        items = param_group["params"]
        if isinstance(items, Tensor):
            items = [items]
        if not (isinstance(items, list) and items and isinstance(items[0], Named)):
            items = self._named_in_group(items)
        own, kept = torch_forms.of_group(self.spec, param_group)
        hyper = torch_forms.validate(self.spec, {**self.hyper, **own})
        first, *others = self.spec.parts
        roles = routing.assign(items, self._user_roles, matters=bool(others) or not first.rule.elementwise)
        if self.spec.part("matrix", hyper) not in (self.spec.part("embedding", hyper), self.spec.part("head", hyper)):
            routing.refuse_untold(self.spec, items, roles, self._user_roles)
        there = {id(p): name for name, p in self.named_parameters()}
        for item in items:
            other = there.get(id(item.tensor), item.name)
            if other != item.name:
                raise ValueError(f"{other} and {item.name} are the same parameter; give a shared weight once")
            if id(item.tensor) in there:
                raise ValueError(f"parameter {item.name} is in two param groups; each may be in one")
            if item.name in self.roles:
                raise ValueError(
                    f"two parameters have the name {item.name}; give names of the whole model, as in "
                    'model.layer.named_parameters("layer")'
                )
        buckets = self._buckets(items, roles, hyper)
        added: list[dict[str, Any]] = []
        for _, settings, members in buckets:
            rule = self.rules[settings["rule"]]
            shared = next((g["shared"] for g in self.param_groups if g["rule"] == rule.name and "shared" in g), None)
            shared = shared or call(rule.shared, Context(settings))
            added.append(
                {
                    **kept,
                    "params": [(item.name, item.tensor) for item in members],
                    **settings,
                    "peak_lr": settings["lr"],
                    **({"shared": shared} if shared else {}),
                }
            )
        for group in added:
            _ADD_PARAM_GROUP(self, group)
        ratios = {item.name: ratio for ratio, _, members in buckets for item in members}
        self._ratios = {**self._ratios, **ratios}
        routing.prove_partition(((item.name, item.tensor) for item in items), added)
        self.roles.update(roles)
        self.check_groups()

    def _buckets(
        self, items: Sequence[Named], roles: Mapping[str, Role], hyper: Mapping[str, Any]
    ) -> Collection[tuple[float, dict[str, Any], list[Named]]]:
        """(learning rate over the one that the user gave, settings, members) of the param groups that items make."""
        buckets: dict[tuple[Any, ...], tuple[float, dict[str, Any], list[Named]]] = {}
        apart = any(map(is_override, hyper))
        for item in items:
            role = roles[item.name]
            rule = self.spec.part(role, hyper).rule
            if not rule.elementwise and (seen_as := orientation(item, role)) != AS_STORED:
                self.orientations[item.name] = seen_as
            own = self.spec.overridden(role, hyper, item.name)
            settings: dict[str, Any] = self.spec.settings(role, hyper, own)
            ratio = float(self.spec.settings(role, {**hyper, "lr": 1.0}, own)["lr"])
            shape = self.seen_shape(item.name, item.tensor.shape)
            seen = item if shape == item.tensor.shape else replace(item, tensor=torch.empty(shape, device="meta"))
            settings |= call(rule.settings, Context(settings), seen)
            if not rule.elementwise:
                if role == "matrix" and SPLITS not in settings:
                    routing.refuse_flat_experts(item, self._user_roles)
                routing.check_splits(seen, role, settings.get(SPLITS, 1))
            if not rule.decayed or (role in self.undecayed and "weight_decay" not in own):
                settings["weight_decay"] = 0.0
            decay = "decoupled" if self.decay == "corrected" and role not in NORMALISED else self.decay
            settings = {"rule": rule.name, "decay": decay, **settings, **({"role": role} if apart else {})}
            alike = role in self.undecayed, ratio, *settings.items()  # a ratio of lr 0 is in the ratio alone
            buckets.setdefault(alike, (ratio, settings, []))[-1].append(item)
        return buckets.values()

    def _named_in_group(self, params: Any) -> list[Named]:
        """Parameters of a param group with names that no earlier group has: numbers count on, layers are of a group."""
        items = named_parameters(params)
        if not any(item.telling or item.layer for item in items):
            return [replace(item, name=str(len(self.roles) + n)) for n, item in enumerate(items)]
        if isinstance(params, nn.Module):  # its names begin at itself, and say less than a whole model's
            items = [replace(item, telling=item.telling and "." in item.name) for item in items]
            if any(item.name in self.roles for item in items):
                items = [replace(item, name=f"group{len(self.param_groups)}.{item.name}") for item in items]
        return items

    def members(self, absent: bool = False) -> Iterator[tuple[dict[str, Any], Member]]:
        """(param group, parameter or the piece of it that this process steps) of all that it steps, or ``absent``.

        A matrix that is split into parts of several sizes is there once for each run of equal ones.
        """
        self.check_groups()
        rules, ownership = self.rules, self.ownership
        tensors = (ownership.absent if absent else ownership.tensors) if ownership else {} if absent else None
        for group in self.param_groups:
            rule = rules[group["rule"]]
            for name, p in zip(group["param_names"], group["params"], strict=True):
                tensor = p if tensors is None else tensors.get(name)
                if tensor is not None:
                    seen_as = self.orientations.get(name, AS_STORED)
                    shard = ownership.row_shard(name) if ownership else None
                    first = ownership.owned[name].start if ownership and not absent else 0
                    entry, splits = self.state.setdefault(p, {}), group.get(SPLITS, 1)
                    layouts = parts_of(rule, self.roles[name], seen_as.seen(tensor), splits)
                    for number, (layout, part) in enumerate(layouts):
                        own = PartEntry(entry, number) if part else entry
                        yield group, Member(name, tensor, layout, own, shard, seen_as, first, part)

    def step_costs(self) -> list[StepCost]:
        """What a step consists of, parameter by parameter, for ``partition.divide``."""
        self.check_groups()
        rules = self.rules
        return [
            StepCost.of(name, rules[group["rule"]], self.roles[name], self.seen_shape(name, p.shape), group)
            for group in self.param_groups
            for name, p in zip(group["param_names"], group["params"], strict=True)
        ]

    def oriented(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of a parameter's shape as the parameter's rule sees it (``orientation``), a view."""
        return self.orientations.get(name, AS_STORED).seen(tensor)

    def seen_shape(self, name: str, shape: Sequence[int]) -> Sequence[int]:
        """The shape that the rule of a parameter sees."""
        return self.orientations[name].shape(shape) if name in self.orientations else shape

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, parameter) of all param groups in their order."""
        self.check_groups()
        for group in self.param_groups:
            yield from zip(group["param_names"], group["params"], strict=True)

    def routing_table(self) -> str:
        """One line per parameter: name, shape, role, rule, learning rate, its peak over lr, weight decay."""
        self.check_groups()
        return routing.table(self.param_groups, self.roles, float(self.hyper["lr"]))


def _as_groups(params: nn.Module | Iterable[Any]) -> list[dict[str, Any]]:
    """Param groups as torch expects them; the group of a module carries its layers along."""
    if isinstance(params, Iterable) and not isinstance(params, nn.Module | Tensor | set | Mapping):
        params = list(params)
        if params and all(isinstance(group, Mapping) for group in params):
            return [dict(group) for group in params]
        if any(isinstance(group, Mapping) for group in params):
            raise TypeError("params must be param groups or parameters, not both; give every group as a dict")
    return [{"params": named_parameters(params)}]
