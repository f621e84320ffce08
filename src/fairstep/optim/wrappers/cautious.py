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
from fairstep.optim.rule import Context, RowSharding, call
from fairstep.optim.sharding.row_sums import total
from fairstep.optim.spec import Hyperparameter
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor


class CautiousRule(WrappedRule):
    suffix = "cautious"
    flops_per_element = 4
    elementwise = False  # the scale looks across a tensor

    def update(
        self, grad: Tensor, state: dict[str, Any], param: Tensor, step: int, *, cautious_scale: str, context: Context
    ) -> Tensor | None:
        direction = call(self.inner.update, context, grad, state, param, step)
        if direction is None:
            return None
        agrees = torch.mul(direction, grad).gt_(0)  # 1 or 0: masks of another type cost a CPU twice the time
        count = agrees.sum((-2, -1), keepdim=True)
        elements = torch.full_like(count, grad.shape[-2] * grad.shape[-1])
        count, elements = total(torch.stack((count, elements)), context.rows)  # (s, 1, 1) each
        factor = elements / (count + 1) if cautious_scale == "count" else 1 / (count / elements).clamp_(min=1e-3)
        return agrees.mul_(direction).mul_(factor)

    def row_sharding(self, o: int, i: int, *, context: Context) -> RowSharding | None:
        return RowSharding() if self.inner.elementwise else call(self.inner.row_sharding, context, o, i)


def cautious_scale(default: str) -> Hyperparameter:
    """The wrapper's hyperparameter; the authors' files have another default for AdamW than for Lion."""
    source = "the authors' file, github.com/kyleliang919/C-Optim"
    return Hyperparameter(default, "factor s that makes up for masked elements", source, ("mean", "count"))


CAUTIOUS = Wrapper(
    name="cautious",
    title="cautious update",
    reference="Liang et al. 2024, https://arxiv.org/abs/2411.16085",
    order=10,
    hyperparameters={"cautious_scale": cautious_scale("mean")},
    wrap=lambda spec: replace(spec, parts=wrap_parts(spec, CautiousRule)),
)
