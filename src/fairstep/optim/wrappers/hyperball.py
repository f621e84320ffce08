"""Hyperball: every hidden matrix keeps the Frobenius norm that it had at the start, and so does every step.

With R = |W_0| the norm of one matrix, u the direction of the rule inside, and N(x) = x / |x|:

    W <- R N(W - lr R N(u))

K. Wen et al., "Fantastic Pretraining Optimizers and Where to Find Them II: Hyperball Optimization", arXiv 2606.16899.
Optimizer state: 1 float per matrix more than the rule inside.

lr is the relative length of a step, about the angle in radians by which a matrix turns; the size of u does not matter,
so a rule's own scale (Muon's) has no effect. There is no weight decay on these matrices. Hidden matrices, experts and
routers are on their balls; embedding, head and vectors keep the rule inside with its weight decay, with a learning rate
of lr times outer_lr_ratio unless the optimizer has a ratio for them already. A matrix that is zero at the start has no
direction to keep: that is an error.

Differences from other implementations: W's authors' Levanter code puts the head on a ball too. heavyball.HyperBallAdamW
has every parameter of two or more dimensions on one. Some codes bound the norms from above instead of fixing them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = ("matrix", "expert", "router")
_TINY = 1e-30
"""Least norm that is divided by; a direction of zeros stays one."""


class HyperballRule(WrappedRule):
    suffix = "hyperball"
    state_formula = "1"
    flops_per_element = 6
    elementwise = False
    decayed = False

    def init(self, param: Tensor, *, context: Context) -> dict[str, Any]:
        radius = torch.linalg.matrix_norm(param)  # (s,)
        if param.device.type != "meta" and (radius == 0).any():
            shape = " x ".join(map(str, param.shape[-2:]))
            raise ValueError(
                f"hyperball keeps the norm that a matrix has at the start, and a matrix of shape {shape} is zero; "
                "initialise it with other values, or give its parameter the role head"
            )
        return {**call(self.inner.init, context, param), "radius": radius}

    def update(
        self, grad: Tensor, state: dict[str, Any], param: Tensor, step: int, *, context: Context
    ) -> Tensor | None:
        direction = call(self.inner.update, context, grad, state, param, step)
        return None if direction is None else direction * _ratio(state["radius"], direction)

    def move(
        self, weights: Tensor, descend: Callable[[Tensor], None], state: dict[str, Any], step: int, *, context: Context
    ) -> None:
        call(self.inner.move, context, weights, descend, state, step)
        weights.mul_(_ratio(state["radius"], weights))

    def state_floats(self, o: int, i: int, *, context: Context) -> int:
        return call(self.inner.state_floats, context, o, i) + 1


def _ratio(radius: Tensor, matrices: Tensor) -> Tensor:
    """R / |x| of every matrix of a stack, (s, 1, 1)."""
    return radius.view(-1, 1, 1) / torch.linalg.matrix_norm(matrices, keepdim=True).clamp_(min=_TINY)


def hyperball(spec: OptimizerSpec) -> OptimizerSpec:
    parts = wrap_parts(spec, HyperballRule, HIDDEN, lr_ratio="outer_lr_ratio")
    used = any(part.lr_ratio == "outer_lr_ratio" for part in parts)
    own = {name: value for name, value in _OWN.items() if used or name != "outer_lr_ratio"}
    return replace(
        spec,
        parts=parts,
        hyperparameters={**spec.hyperparameters, **own},
        search_space={**spec.search_space, "lr": _GRID},
        lr_unit="length of a hidden matrix's step over its norm, about the angle of the step in radians",
    )


_RECORD = "the authors' record, github.com/KellerJordan/modded-nanogpt/pull/272"
_OWN = {
    "lr": Hyperparameter(0.018, "length of a step over the norm of its matrix", _RECORD, "(0, inf)"),
    "outer_lr_ratio": Hyperparameter(
        3 / 13,
        "learning rate of all other parameters over lr",
        "github.com/marin-community/marin/issues/5621",
        "(0, inf)",
    ),
}
_GRID = Grid.geometric(0.018, 3, "from the authors' 0.018 at 124M up, which is too small at width 64 (docs/log.md)")

HYPERBALL = Wrapper(
    name="hyperball",
    title="hyperball",
    reference="Wen et al. 2026, https://arxiv.org/abs/2606.16899",
    order=30,
    hyperparameters={},
    wrap=hyperball,
    decides="the norms of queries and keys",
)
