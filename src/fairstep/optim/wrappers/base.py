"""What a wrapper is: a function from one optimizer's spec to another spec, and a rule around a rule.

A wrapper adds its hyperparameters to the spec and replaces rules by rules that call them. This file does not import
torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Context, RowSharding, Rule, call
from fairstep.optim.spec import Hyperparameter, OptimizerSpec, Part


class WrappedRule(Rule):
    """A rule around another one, which it is equal to in everything that a subclass does not change.

    ``call(self.inner.update, context, ...)`` passes the hyperparameters of the rule inside. A method of the wrapper
    names the wrapper's hyperparameters. ``suffix`` names the wrapper. ``floats_per_element`` and ``flops_per_element``
    are what it adds; a subclass with other counts also says them in words, as ``state_formula`` and ``flops_formula``.
    """

    suffix: str
    floats_per_element = 0
    flops_per_element: ClassVar[float] = 0
    elementwise = True
    """Whether the wrapper itself may see elements without their tensor."""

    def __init__(self, inner: Rule) -> None:
        self.inner = inner
        self.name = f"{inner.name}+{self.suffix}"
        self.state_formula = " + ".join(filter(None, (inner.state_formula, self.state_formula)))
        self.flops_formula = " + ".join(filter(None, (inner.flops_formula, self.flops_formula)))
        self.decays_after_step = inner.decays_after_step
        self.elementwise = inner.elementwise and type(self).elementwise
        self.one_lr = inner.one_lr
        self.written = (*inner.written, *type(self).written)
        self.decayed = inner.decayed and type(self).decayed

    @functools.cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.inner.hyperparameters, *self._named())))

    @property
    def common(self) -> tuple[str, ...]:
        return self.inner.common

    def row_sharding(self, o: int, i: int, *, context: Context) -> RowSharding | None:
        """For wrappers that are elementwise; others say it themselves."""
        if not type(self).elementwise:
            return None
        return RowSharding() if self.inner.elementwise else call(self.inner.row_sharding, context, o, i)

    def state_floats(self, o: int, i: int, *, context: Context) -> int:
        return call(self.inner.state_floats, context, o, i) + self.floats_per_element * o * i

    def flops(self, o: int, i: int, *, context: Context) -> float:  # type: ignore[override]
        return call(self.inner.flops, context, o, i) + float(self.flops_per_element) * o * i


def _asks_inside(name: str) -> Callable[..., Any]:
    def method(self: WrappedRule, *arguments: Any, context: Context) -> Any:
        return call(getattr(self.inner, name), context, *arguments)

    return method


for _name in Rule.methods:
    if _name not in vars(WrappedRule):
        setattr(WrappedRule, _name, _asks_inside(_name))


@dataclass(frozen=True, eq=False)
class Wrapper:
    """One wrapper by name. ``order`` says which of several stands inside: the one with the smaller number."""

    name: str
    title: str
    reference: str
    order: int
    hyperparameters: Mapping[str, Hyperparameter]
    wrap: Callable[[OptimizerSpec], OptimizerSpec]
    """Everything but names, texts and the wrapper's own hyperparameters, which ``derive`` adds."""
    aliases: tuple[str, ...] = ()
    decides: str = ""
    """What it settles alone, in words: of two wrappers that settle the same thing one must go."""
    module: str = ""
    """Of another package's wrapper, the module that it is from; empty for ours."""

    def derive(self, spec: OptimizerSpec) -> OptimizerSpec:
        """The spec of ``spec`` with this wrapper around it. A hyperparameter that both have is one."""
        name = f"{spec.name}+{self.name}"
        own = {n: value for n, value in self.hyperparameters.items() if n not in spec.hyperparameters}
        wrapped = self.wrap(replace(spec, hyperparameters={**spec.hyperparameters, **own}))
        return replace(
            wrapped,
            name=name,
            class_name=name,
            aliases=(),
            title=f"{spec.title} + {self.title}",
            reference=f"{spec.reference}; {self.reference}",
            documented_in=(*spec.modules, self.wrap.__module__),
        )


def wrap_parts(
    spec: OptimizerSpec, around: Callable[[Rule], Rule], roles: Collection[str] = ROLES, lr_ratio: str | None = None
) -> tuple[Part, ...]:
    """The parts of ``spec`` with rules wrapped for ``roles``; a part with other roles too is split in two.

    ``lr_ratio`` names the hyperparameter that scales the learning rate of parts left as they are and without one.
    """
    parts = []
    for part in spec.parts:
        taken = tuple(role for role in part.roles if role in roles)
        left = tuple(role for role in part.roles if role not in roles)
        if left:  # first, because parts that yield their roles yield them to the first part
            parts.append(replace(part, roles=left, lr_ratio=part.lr_ratio or lr_ratio))
        if taken:
            parts.append(replace(part, roles=taken, rule=around(part.rule)))
    return tuple(parts)
