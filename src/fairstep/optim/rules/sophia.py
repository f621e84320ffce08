"""Sophia-G and Sophia-H: momentum over an estimate of the curvature, clipped element by element.

    m <- beta1 m + (1 - beta1) g
    u  = clip(m / (rho max(h, 0) + eps), -1, 1)                 denominator "sum": the authors' code, and S
    u  = clip(m / max(rho h, eps), -1, 1)                       denominator "max": the paper, and W
    W <- (1 - lr lambda) W - lr u
    h <- beta2 h + (1 - beta2) h^    after steps k, 2k, ...; h^ is estimated at the weights that the step led to

with m / (1 - beta1^t) in place of m if debias (W). h starts at 0, so that the first k steps are sign steps, as is the
step of an element with negative curvature. h^ is a signal (see ``signals``) and estimates a diagonal for the batch's
mean loss:

    Sophia-G   h^ = B g^^2,  g^ the gradient of the mean loss over B tokens with labels drawn from the model itself:
               Gauss-Newton-Bartlett, signal gauss_newton_diagonal
    Sophia-H   h^ = z (H z),  z Gaussian or of random signs, H the Hessian: Hutchinson, signal hessian_diagonal

H. Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training",
arXiv 2305.14342 (its gamma is rho, and its lr is the code's times rho). Optimizer state: 2 floats per parameter;
every k-th step costs one more forward and backward pass (G) or a Hessian-vector product (H).

Differences from other implementations: the factor B is in the signal, where the authors' code has it in the step.
S takes a constant for B and the labels of one micro-batch, so that its rho means something else on every number of
devices (between 1/4 and 2 times). The estimate comes with the batch of the following step, so that one batch serves
both. optax refreshes after steps 1, k + 1, ...; pytorch-optimizer before these steps, and its lr is ours over rho.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class SophiaGRule(Rule):
    name = "sophia-g"
    signal = "gauss_newton_diagonal"
    elementwise = True
    moments = ("m", "h")
    flops_per_element = 7
    flops_formula = "7 N, and the signal's pass through the model every interval-th step"

    def due(self, step: int, *, interval: int) -> tuple[str, ...]:
        return (self.signal,) if step > 1 and (step - 1) % interval == 0 else ()

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        beta1: float,
        beta2: float,
        rho: float,
        eps: float,
        denominator: str,
        debias: bool,
    ) -> Tensor:
        m, h = state["m"], state["h"]
        if self.signal in state:
            h.lerp_(state[self.signal], 1 - beta2)
        m.lerp_(grad, 1 - beta1)
        floor = h.clamp(min=0).mul_(rho).add_(eps) if denominator == "sum" else h.mul(rho).clamp_(min=eps)
        if debias:
            floor.mul_(1 - beta1**step)
        return torch.div(m, floor, out=floor).clamp_(-1, 1)


class SophiaHRule(SophiaGRule):
    name = "sophia-h"
    signal = "hessian_diagonal"

    def due(self, step: int, *, interval: int, probe: str) -> tuple[str, ...]:  # type: ignore[override]
        """``probe``: the distribution of z, which is for whoever supplies the signal."""
        return super().due(step, interval=interval)


_PAPER, _CODE = "arXiv 2305.14342", "the authors' code"


def _common(denominator: str, debias: bool, source: str) -> dict[str, Hyperparameter]:
    return {
        "denominator": Hyperparameter(denominator, "form of the denominator (see above)", source, ("sum", "max")),
        "debias": Hyperparameter(debias, "divide the momentum by 1 - beta1^t", source),
        "interval": Hyperparameter(10, "steps k from one estimate to the next", f"{_PAPER}; S; W", "[1, inf)"),
    }


_UNIT = "change of a clipped weight per step, exactly; of others less"
_SCHEDULE = Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW")

SOPHIA_G = OptimizerSpec(
    name="sophia-g",
    class_name="SophiaG",
    aliases=("sophia",),
    title="Sophia-G",
    reference="Liu et al. 2023, https://arxiv.org/abs/2305.14342",
    parts=(Part(ROLES, SophiaGRule()),),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "S, 124M and 210M", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", f"{_CODE}; S, all scales", "[0, inf)"),
        "beta1": Hyperparameter(
            0.9, "decay rate of the momentum", "S up to 210M; 0.965 in the authors' code", "[0, 1)"
        ),
        "beta2": Hyperparameter(0.99, "decay rate of the curvature, per estimate", f"{_CODE}; 0.999 in S", "[0, 1)"),
        "rho": Hyperparameter(0.04, "share of the curvature below which a step is whole", f"{_CODE}; S", "(0, inf)"),
        "eps": Hyperparameter(1e-15, "added to rho h, or its floor", _CODE, "(0, inf)"),
        **_common("sum", False, f"{_CODE}; S"),
    },
    search_space={
        "lr": Grid.geometric(1e-3, 3, "Lion's grid: while h is 0, and where it clips, every step is a sign as well"),
    },
    lr_unit=_UNIT,
    schedule=_SCHEDULE,
    signals=("gauss_newton_diagonal",),
)

SOPHIA_H = OptimizerSpec(
    name="sophia-h",
    class_name="SophiaH",
    title="Sophia-H",
    reference="Liu et al. 2023, https://arxiv.org/abs/2305.14342",
    parts=(Part(ROLES, SophiaHRule(), rename={"rho": "gamma"}),),
    hyperparameters={
        "lr": Hyperparameter(4e-3, "learning rate", "W, 130M", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "W, 130M at 2x Chinchilla", "[0, inf)"),
        "beta1": Hyperparameter(0.95, "decay rate of the momentum", "W, 130M", "[0, 1)"),
        "beta2": Hyperparameter(0.9, "decay rate of the curvature, per estimate", "W, 130M", "[0, 1)"),
        "gamma": Hyperparameter(0.0125, "share rho of the curvature below which a step is whole", "W", "(0, inf)"),
        "eps": Hyperparameter(1e-7, "floor of rho h, or added to it", "W", "(0, inf)"),
        **_common("max", True, "W"),
        "probe": Hyperparameter(
            "gaussian", "distribution of z", f"{_PAPER}; W; signs are optax's", ("gaussian", "rademacher")
        ),
    },
    search_space={"lr": Grid.geometric(1e-3, 3, "around half of AdamW's grid, as W's best at 130M (4e-3 and 8e-3)")},
    lr_unit=_UNIT,
    schedule=_SCHEDULE,
    signals=("hessian_diagonal",),
)
