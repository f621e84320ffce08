"""ADOPT: Adam that divides by the second moment of earlier gradients only.

The first call only initialises: v = g^2. Later calls count s = 1, 2, ...:

    h  = clip(g / max(sqrt(v), eps), -c, c),   c = s^(1/4)
    m <- beta1 m + (1 - beta1) h
    v <- beta2 v + (1 - beta2) g^2          (after its use)
    W <- (1 - lr lambda) W - lr m

S. Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", arXiv 2411.02853.
Optimizer state: 2 floats per parameter.

eps is a floor and not a summand, and neither moment is corrected for its bias. Differences from other implementations:
decay is decoupled unless said otherwise, where the official code couples it by default. Codes that count the clip from
another step (pytorch-optimizer), have another exponent (timm's default) or no clip (the paper's first version,
levanter, heavyball) are other algorithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.sign import clipped
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class ADOPTRule(Rule):
    name = "adopt"
    elementwise = True
    moments = ("m", "v")
    flops_per_element = 12

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float, eps: float
    ) -> Tensor | None:
        m, v = state["m"], state["v"]
        if step == 1:
            v.addcmul_(grad, grad)
            m.add_(grad, alpha=0)  # NaN where it is not finite: such a v would stop its weight for good
            return None
        floor = v.sqrt().clamp_(min=eps)
        limit = (step - 1) ** 0.25
        m.lerp_(clipped(torch.div(grad, floor, out=floor), limit), 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        return m


ADOPT = OptimizerSpec(
    name="adopt",
    class_name="ADOPT",
    title="ADOPT",
    reference="Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853",
    parts=(Part(ROLES, ADOPTRule()),),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "arXiv 2411.02853; S, all scales", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "S, all scales", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the first moment", "arXiv 2411.02853; S up to 210M", "[0, 1)"),
        "beta2": Hyperparameter(
            0.999, "decay rate of the second moment", "S, all scales; arXiv 2411.02853 has 0.9999", "[0, 1)"
        ),
        "eps": Hyperparameter(1e-6, "floor of the root of the second moment", "arXiv 2411.02853; S", "(0, inf)"),
    },
    search_space={"lr": Grid.geometric(2e-3, 3, "AdamW's grid: S has 1e-3 for both at every scale")},
    lr_unit="as AdamW",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine is S's; warm-up as for AdamW"),
)
