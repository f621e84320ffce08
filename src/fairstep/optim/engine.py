"""The engine: a torch optimizer that runs any rule over any model.

It does once, for every contestant alike, what is not the contestant's idea: routing parameters to rules, stacking
them, the step with its weight decay (``descent``), signals, evaluation weights (``modes``), saving and loading.
"""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fairstep.optim import descent, modes, pieces, routing, sharing, signals, state
from fairstep.optim.across import Total
from fairstep.optim.routing import Named, Roles
from fairstep.optim.rule import Rule
from fairstep.optim.spec import DECAYS, ROLES, Decay, OptimizerSpec, Part, Role, _nearest
from fairstep.optim.stacks import Layout, Member, Scratch, Stack, compute_dtype, cut, most_elements
from fairstep.optim.work import Piece

UNDECAYED: tuple[Role, ...] = ("vector", "embedding")
"""Roles without weight decay unless told otherwise, as in W: norms and the embedding; the head is decayed."""


class Engine(torch.optim.Optimizer):
    """Base class of all our optimizers; a subclass is a ``spec``.

    ``params`` is a module, an iterable of (name, parameter) or of parameters, or an iterable of param groups: dicts
    with "params" and any hyperparameters of their own. A module is best: roles are inferred from its layers
    (``routing.infer_roles``); ``roles`` overrides them. Other arguments:

    * ``decay``: form of weight decay, by default the spec's. ``undecayed``: roles that get none.
    * ``stacked=False`` handles every parameter by itself: slower, same results up to rounding.

    * the optimizer's hyperparameters (``help`` of the class lists them).

    A param group of ours has one rule and one weight decay, so the groups given are split. Learning-rate schedulers
    work as with any torch optimizer; a companion's lower learning rate is its group's own, so scale each group's
    ``initial_lr`` instead of setting one number everywhere.

    Raises ValueError or TypeError for an empty list, unknown or impossible hyperparameters, and parameters that
    cannot be routed; ``step`` raises ValueError for sparse gradients.
    """

    spec: ClassVar[OptimizerSpec]
    _supplied: signals.Supplied

    ownership: pieces.Owned | None = None
    """What this process steps, where several share the work; None: everything."""

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        *,
        roles: Roles = None,
        decay: Decay | None = None,
        undecayed: Collection[str] = UNDECAYED,
        stacked: bool = True,
        **hyper: Any,
    ) -> None:
        self.decay = decay or self.spec.decay
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {', '.join(DECAYS)}, not {decay!r}")
        for role in undecayed:
            if role not in ROLES:
                raise ValueError(
                    f"undecayed: unknown role {role!r}{_nearest(role, ROLES)}; roles are {', '.join(ROLES)}"
                )
        self.undecayed = frozenset(undecayed)
        self.stacked = stacked
        if hyper.pop("compiled", False):
            warnings.warn(
                "compiled=True has no effect any more: every step is eager; leave it out",
                DeprecationWarning,
                stacklevel=2,
            )
        self.hyper = self.spec.validate(hyper)
        self.roles: dict[str, Role] = {}
        self._user_roles = roles
        self._forget_stacks()
        super().__init__(_as_groups(params), {"lr": self.hyper["lr"], "weight_decay": self.hyper["weight_decay"]})
        routing.check_patterns(self.roles, roles)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show a subclass's hyperparameters with their defaults in ``help`` and editors."""
        super().__init_subclass__(**kwargs)
        if "spec" in vars(cls):
            general = inspect.signature(Engine.__init__).parameters.values()
            own = [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=hyper.default)
                for name, hyper in cls.spec.hyperparameters.items()
            ]
            shown = [p for p in general if p.name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD]
            cls.__signature__ = inspect.Signature([*shown, *own])  # type: ignore[attr-defined]

    @property
    def rules(self) -> dict[str, Rule]:
        """The spec's rules by name."""
        return {part.rule.name: part.rule for part in self.spec.parts}

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Route the parameters of a group and add them, as one group per rule and weight decay."""
        items = param_group["params"]
        if not (items and isinstance(items, list) and isinstance(items[0], Named)):
            items = routing.named_parameters(items)
            if all(item.name == str(n) for n, item in enumerate(items)):  # unnamed: count on from earlier groups
                items = [Named(str(len(self.roles) + n), item.tensor) for n, item in enumerate(items)]
        hyper = self.spec.validate({**self.hyper, **{k: v for k, v in param_group.items() if k != "params"}})
        roles = routing.assign(items, self._user_roles)
        for name in roles:
            if name in self.roles:
                raise ValueError(f"parameter {name} is in two param groups; each may be in one")
        buckets: dict[tuple[str, bool, tuple[tuple[str, Any], ...]], list[Named]] = {}
        for item in items:
            part = self.spec.part(roles[item.name], hyper)
            own = tuple(part.rule.settings(item, part.hyper(hyper)).items())
            buckets.setdefault((part.rule.name, roles[item.name] in self.undecayed, own), []).append(item)
        added: list[dict[str, Any]] = []
        for (rule, undecayed, own), members in buckets.items():
            part = self._part(rule)
            settings = {**part.hyper(hyper), **dict(own)}
            shared = next((g["shared"] for g in self.param_groups if g["rule"] == rule and "shared" in g), None)
            shared = shared or part.rule.shared(settings)
            added.append(
                {
                    "params": [(item.name, item.tensor) for item in members],
                    "rule": rule,
                    "decay": self.decay,
                    **settings,
                    "weight_decay": 0.0 if undecayed or not part.rule.decayed else settings["weight_decay"],
                    "initial_lr": settings["lr"],
                    **({"shared": shared} if shared else {}),
                }
            )
        for group in added:
            super().add_param_group(group)
        routing.prove_partition(((item.name, item.tensor) for item in items), added)
        self.roles.update(roles)
        self._forget_stacks()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient. Gradients are neither changed nor kept.

        Raises ValueError, before anything is changed, if a signal that is due was not supplied, and between ``eval``
        and ``train`` where those change the weights.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._evaluating:
            raise ValueError("the parameters hold weights to evaluate; call optimizer.train() before the next step")
        stacks, supplied, total = self._current_stacks(), self._supplied, None
        if self.ownership:
            self.ownership.cut_gradients()
            supplied, total = self.ownership.cut_signals(supplied), self.ownership.total
        signals.check(self, stacks, supplied)
        sharing.agree(stacks, self.param_groups, supplied, self.rules, total)
        descent.advance(stacks, supplied)
        self._supplied = {}
        return loss

    def share(
        self,
        owned: Mapping[str, Piece],
        total: Total,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """From now on step these pieces of the parameters alone, and keep their state alone; other processes have the
        others (``ownership.divide`` of ``pieces.works``). The parameters may not be moved or replaced afterwards.

        ``total`` adds a tensor up over all processes; all of them call it equally often. The caller sees to it that
        gradients of what is owned are the whole batch's before ``step``, and collects the parameters behind it.

        ``tensors``: the pieces themselves, where they are not views of the parameters (FSDP); their ``grad`` counts.
        ``state_dict`` then has what this process steps, as portions (``portion``) of the tensors of one process alone.
        """
        self.ownership = pieces.Owned(self, owned, total, tensors)
        self._forget_stacks()

    def members(self) -> Iterator[tuple[dict[str, Any], Member]]:
        """(param group, parameter or the piece of it that this process steps) of all that it steps."""
        rules = self.rules
        for group in self.param_groups:
            rule = rules[group["rule"]]
            for name, p in zip(group["param_names"], group["params"], strict=True):
                whole = Layout.of(rule, self.roles[name], p)
                own = self.ownership.tensors.get(name) if self.ownership else p
                if own is not None:
                    layout = whole if own is p else Layout.of(rule, self.roles[name], own)
                    across = self.ownership.across(name) if self.ownership else None
                    yield group, Member(name, own, layout, self.state[p], across)

    def eval(self) -> None:
        """Put the weights to evaluate and export into the parameters, if they are others than those trained."""
        modes.evaluate(self)
        self._evaluating = modes.evaluating(self.state)

    def train(self) -> None:
        """Put the training weights back, to the bit, after ``eval``."""
        modes.resume(self)
        self._evaluating = False

    def due(self) -> dict[str, list[str]]:
        """Signal -> names of the parameters that need it in the coming step; mostly nothing (see ``signals``)."""
        return signals.due(self)

    def supply(self, signal: str, values: Mapping[str, Tensor]) -> None:
        """Give a due signal to the coming step, by parameter name. Raises ValueError if it is not due or misshapen."""
        self._supplied[signal] = signals.accept(self, signal, values)

    def previous_weights(self) -> AbstractContextManager[None]:
        """With the weights before the last step in the parameters, as exact MARS needs them for its signal."""
        return signals.previous_weights(self)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, parameter) of all param groups in their order."""
        for group in self.param_groups:
            yield from zip(group["param_names"], group["params"], strict=True)

    def routing_table(self) -> str:
        """One line per parameter: name, shape, role, rule, learning rate, weight decay."""
        return routing.table(self.param_groups, self.roles)

    def state_dict(self) -> dict[str, Any]:
        """State and settings by parameter name (see ``state``)."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        saved = state.dump(self)
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, saved)
            saved = saved if changed is None else changed
        return saved

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, to the bit. Raises ValueError if it is of another optimizer or model."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, dict(state_dict))
            state_dict = state_dict if changed is None else changed
        state.load(self, state_dict)
        self._forget_stacks()
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("decay", "undecayed", "stacked", "hyper", "roles")}
        kept["_user_roles"] = routing.picklable(self._user_roles)
        # Copies, because a pickled view would drag its whole stack along once per parameter.
        own = {p: {k: v.clone() if isinstance(v, Tensor) else v for k, v in s.items()} for p, s in self.state.items()}
        return {**super().__getstate__(), **kept, "state": defaultdict(dict, own)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget_stacks()

    def _part(self, rule: str) -> Part:
        return next(part for part in self.spec.parts if part.rule.name == rule)

    def _forget_stacks(self) -> None:
        self._present: list[bool] = []
        self._stacks: list[Stack] = []
        self._evaluating = modes.evaluating(getattr(self, "state", {}))
        self._supplied = {}

    def _current_stacks(self) -> list[Stack]:
        """Stacks of the parameters that have a gradient, formed anew whenever that set changes."""
        present = [p.grad is not None for group in self.param_groups for p in group["params"]]
        if present != self._present:
            self._stacks = self._form_stacks()
            self._present = present
        return self._stacks

    def _form_stacks(self) -> list[Stack]:
        rules, gradients = self.rules, {name: p.grad for name, p in self.named_parameters()}
        buckets: dict[tuple[Any, ...], tuple[dict[str, Any], list[Member]]] = {}
        for group, member in self.members():
            grad = gradients[member.name]
            if grad is None:
                continue
            if grad.layout != torch.strided:
                raise ValueError(
                    f"parameter {member.name} has a sparse gradient; build its embedding with sparse=False"
                )
            alone = member.name if not self.stacked or member.across else None
            p = member.tensor
            key = (id(group), member.layout.tail, p.dtype, p.device, member.numbers, alone)
            buckets.setdefault(key, (group, []))[1].append(member)
        runs: list[tuple[dict[str, Any], Sequence[Member]]] = []
        scratch = Scratch()
        for (_, _, dtype, device, *_), (group, members) in buckets.items():
            for run in cut(members, most_elements(device, rules[group["rule"]])):
                runs.append((group, run))
                if len(run) > 1:
                    scratch.reserve(device, compute_dtype(dtype), sum(member.tensor.numel() for member in run))
        return [Stack(rules[group["rule"]], group, run, scratch) for group, run in runs]


def _as_groups(params: nn.Module | Iterable[Any]) -> list[dict[str, Any]]:
    """Param groups as torch expects them; those of a module carry its layers along."""
    if not isinstance(params, nn.Module | Tensor | set):
        params = list(params)
        if params and all(isinstance(group, Mapping) for group in params):
            return [dict(group) for group in params]
    return [{"params": routing.named_parameters(params)}]
