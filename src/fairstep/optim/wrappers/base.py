"""What a wrapper is: a function from one optimizer's spec to another's, and the rule that stands around a rule.

A wrapper adds its hyperparameters to the spec and replaces rules by rules that call them. This file does not import
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fairstep.optim.rule import Apart, Hyper, Rule
from fairstep.optim.spec import ROLES, Hyperparameter, OptimizerSpec, Part

if TYPE_CHECKING:
    from torch import Tensor

    from fairstep.optim.routing import Named


class WrappedRule(Rule):
    """A rule around another one, which it is equal to in everything that a subclass does not change.

    ``suffix`` names the wrapper, ``own_uses`` the hyperparameters that it reads beside those of the rule inside, and
    ``own_state`` and ``own_flops`` say what it adds to the formulas of the costs.
    """

    suffix: str
    own_uses: tuple[str, ...] = ()
    own_state: str = ""
    own_flops: str = ""
    elementwise = True
    """Whether the wrapper itself may see elements without their tensor."""

    def __init__(self, inner: Rule) -> None:
        self.inner = inner
        self.name = f"{inner.name}+{self.suffix}"
        self.uses = (*inner.uses, *(name for name in self.own_uses if name not in inner.uses))  # type: ignore[misc]
        self.state_formula = inner.state_formula + (f" + {self.own_state}" if self.own_state else "")
        self.flops_formula = inner.flops_formula + (f" + {self.own_flops}" if self.own_flops else "")
        self.decays_after_step = inner.decays_after_step  # type: ignore[misc]
        self.elementwise = inner.elementwise and type(self).elementwise  # type: ignore[misc]
        self.decayed = inner.decayed and type(self).decayed  # type: ignore[misc]

    def settings(self, item: Named, hyper: Hyper) -> dict[str, Any]:
        return self.inner.settings(item, hyper)

    def init(self, param: Tensor, hyper: Hyper) -> dict[str, Any]:
        return self.inner.init(param, hyper)

    def update(self, grad: Tensor, state: dict[str, Any], param: Tensor, hyper: Hyper, step: int) -> Tensor | None:
        return self.inner.update(grad, state, param, hyper, step)

    def due(self, hyper: Hyper, step: int) -> tuple[str, ...]:
        return self.inner.due(hyper, step)

    def move(
        self, weights: Tensor, step: Callable[[Tensor], None], state: dict[str, Any], hyper: Hyper, count: int
    ) -> None:
        self.inner.move(weights, step, state, hyper, count)

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], hyper: Hyper, count: int) -> Tensor:
        return self.inner.evaluation_weights(weights, state, hyper, count)

    def shared(self, hyper: Hyper) -> dict[str, float]:
        return self.inner.shared(hyper)

    def measure(self, grad: Tensor, state: dict[str, Any], param: Tensor, hyper: Hyper) -> Tensor:
        return self.inner.measure(grad, state, param, hyper)

    def agree(self, sums: Sequence[float], hyper: Hyper) -> dict[str, float]:
        return self.inner.agree(sums, hyper)

    def rows_apart(self, o: int, i: int, hyper: Hyper) -> Apart | None:
        """For wrappers that are elementwise; others say it themselves."""
        if not type(self).elementwise:
            return None
        return Apart() if self.inner.elementwise else self.inner.rows_apart(o, i, hyper)

    def lr_factor(self, hyper: Hyper) -> float:
        return self.inner.lr_factor(hyper)

    def state_floats(self, o: int, i: int, hyper: Hyper) -> int:
        return self.inner.state_floats(o, i, hyper)

    def flops(self, o: int, i: int, hyper: Hyper) -> float:
        return self.inner.flops(o, i, hyper)

    def product_flops(self, o: int, i: int, hyper: Hyper) -> float:
        return self.inner.product_flops(o, i, hyper)

    def decomposition_flops(self, o: int, i: int, hyper: Hyper) -> float:
        return self.inner.decomposition_flops(o, i, hyper)


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

    def derive(self, spec: OptimizerSpec) -> OptimizerSpec:
        """The spec of ``spec`` with this wrapper around it. A hyperparameter that both have is one."""
        name, wrapped = f"{spec.name}+{self.name}", self.wrap(spec)
        own = {n: value for n, value in self.hyperparameters.items() if n not in wrapped.hyperparameters}
        return replace(
            wrapped,
            name=name,
            class_name=name,
            aliases=(),
            title=f"{spec.title} + {self.title}",
            reference=f"{spec.reference}; {self.reference}",
            hyperparameters={**wrapped.hyperparameters, **own},
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
