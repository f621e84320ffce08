"""Cautious update: steps that go against the current gradient are left out.

With u the direction of the rule inside, g the gradient, and d the elements of the tensor:

    phi = 1 where u g > 0, else 0
    s   = 1 / max(mean(phi), 1e-3)          cautious_scale "mean"
    s   = d / (sum(phi) + 1)                cautious_scale "count"
    W  <- (1 - lr lambda) W - lr s phi u

K. Liang et al., "Cautious Optimizers: Improving Training with One Line of Code", arXiv 2411.16085. No state of its own.

The inequality is strict, so that an element without gradient stays where it is. Decay is not masked ("cautious weight
decay" is another algorithm). Every tensor, and every expert, has its own scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.across import total
from fairstep.optim.rule import Apart, Hyper
from fairstep.optim.spec import Hyperparameter, OptimizerSpec
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor


class CautiousRule(WrappedRule):
    suffix = "cautious"
    own_flops = "4 N"
    own_uses = ("cautious_scale",)
    elementwise = False  # the scale looks across a tensor

    def update(self, grad: Tensor, state: dict[str, Any], param: Tensor, hyper: Hyper, step: int) -> Tensor | None:
        direction = self.inner.update(grad, state, param, hyper, step)
        if direction is None:
            return None
        agrees = torch.mul(direction, grad).gt_(0)  # 1 or 0: masks of another type cost a CPU twice the time
        count = agrees.sum((-2, -1), keepdim=True)
        count, elements = total(torch.stack((count, torch.full_like(count, grad.shape[-2] * grad.shape[-1]))), hyper)
        by_count = hyper["cautious_scale"] == "count"
        factor = elements / (count + 1) if by_count else 1 / (count / elements).clamp_(min=1e-3)
        return agrees.mul_(direction).mul_(factor)

    def rows_apart(self, o: int, i: int, hyper: Hyper) -> Apart | None:
        return Apart() if self.inner.elementwise else self.inner.rows_apart(o, i, hyper)

    def flops(self, o: int, i: int, hyper: Hyper) -> float:
        return self.inner.flops(o, i, hyper) + 4.0 * o * i


def cautious_scale(default: str) -> Hyperparameter:
    """The wrapper's hyperparameter; the authors' files have another default for AdamW than for Lion."""
    source = "the authors' file, github.com/kyleliang919/C-Optim"
    return Hyperparameter(default, "factor s that makes up for masked elements", source, ("mean", "count"))


def cautious(spec: OptimizerSpec) -> OptimizerSpec:
    return replace(spec, parts=wrap_parts(spec, CautiousRule))


CAUTIOUS = Wrapper(
    name="cautious",
    title="cautious update",
    reference="Liang et al. 2024, https://arxiv.org/abs/2411.16085",
    order=10,
    hyperparameters={"cautious_scale": cautious_scale("mean")},
    wrap=cautious,
)
