"""Lion: the sign of an interpolated momentum.

    u  = sign(beta1 m + (1 - beta1) g)
    m <- beta2 m + (1 - beta2) g          (after its use, and with the other beta)
    W <- (1 - lr lambda) W - lr u

X. Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675.
Optimizer state: 1 float per parameter.

Every step moves every weight by exactly lr, so lr is several times smaller than AdamW's and weight decay several times
larger. sign(0) = 0. Differences from other implementations: for bf16 parameters the interpolation and the momentum are
in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.sign import sign
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class LionRule(Rule):
    name = "lion"
    elementwise = True
    moments = ("m",)
    eight_bit = (("m", "signed"),)
    flops_per_element = 6

    def update(self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float) -> Tensor:
        m = state["m"]
        direction = sign(torch.lerp(m, grad, 1 - beta1))
        m.lerp_(grad, 1 - beta2)
        return direction


LION = OptimizerSpec(
    name="lion",
    class_name="Lion",
    title="Lion",
    reference="Chen et al. 2023, https://arxiv.org/abs/2302.06675",
    parts=(Part(ROLES, LionRule()),),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "W, 300M and 520M; S, 124M", "(0, inf)"),
        "weight_decay": Hyperparameter(0.7, "decoupled weight decay", "W, 130M and 520M", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "weight of the momentum in the direction", "W and S, all scales", "[0, 1)"),
        "beta2": Hyperparameter(0.95, "decay rate of the momentum", "W, all scales", "[0, 1)"),
    },
    search_space={
        "lr": Grid.geometric(1e-3, 3, "around 2e-3, our best at width 64 in 512 steps (docs/log.md), and W's at 130M"),
    },
    lr_unit="change of every weight per step, exactly",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
)
