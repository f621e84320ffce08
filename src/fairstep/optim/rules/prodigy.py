"""Prodigy: Adam that estimates its learning rate, from how far the weights have come.

One d for all parameters, d_0 at the start; W_0 are the weights at the start; beta3 = sqrt(beta2). In each step, with
l = d lr b, b = sqrt(1 - beta2^t) / (1 - beta1^t) with bias_correction, else 1, and sums over all parameters:

    r <- beta3 r + (d / d_0) l sum <g, W_0 - W>
    s <- beta3 s + (d / d_0) l g                             with safeguard_warmup d in the place of l
    m <- beta1 m + (1 - beta1) d g
    v <- beta2 v + (1 - beta2) d^2 g^2
    e  = d_coef r / sum |s|
    d' = max(d, e) while d = d_0, then d;  d_max <- max(d_max, e);  d' <- min(d_max, growth d')
    W <- (1 - l lambda) W - l m / (sqrt(v) + d' eps),   then d <- d'

K. Mishchenko, A. Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", arXiv 2306.06101.
Optimizer state: 4 floats per parameter. t counts the steps of the optimizer, not of a parameter.

lr multiplies the estimate and is what a schedule changes; groups with different lr (other than 0) are refused, as by
the authors. Parameters whose lr is 0 have no part in a step, and a step in which no lr is above 0 changes nothing: a
warm-up from 0 begins with its second step. Differences from other implementations: slice_p, which estimates from a part
of the elements, is not here; growth is 1e300 for none; the sums are taken in float64, and d is a double.
pytorch-optimizer keeps the scalars in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Context, Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class ProdigyRule(Rule):
    name = "prodigy"
    elementwise = True
    one_lr = True
    floats_per_element = 4
    flops_per_element = 24

    def init(self, param: Tensor) -> dict[str, Tensor]:
        return {"start": param.clone(), **{name: torch.zeros_like(param) for name in ("m", "v", "s")}}

    def shared(self, *, d0: float) -> dict[str, float]:
        return {"d": d0, "last_d": d0, "d_max": d0, "r": 0.0, "steps": 0.0}

    def measure(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        d0: float,
        bias_correction: bool,
        safeguard_warmup: bool,
        context: Context,
    ) -> Tensor:
        """(share of r, sum |s|), after m, v and s have taken in the gradient."""
        if not lr:
            return torch.zeros(2, dtype=torch.float64, device=grad.device)
        d, step = context.shared["d"], context.shared["steps"] + 1
        scale = d / d0
        length = d * lr * (_correction(step, beta1, beta2) if bias_correction else 1.0)
        state["m"].mul_(beta1).add_(grad, alpha=(1 - beta1) * d)
        state["v"].mul_(beta2).addcmul_(grad, grad, value=(1 - beta2) * d * d)
        by = d if safeguard_warmup else length
        s = state["s"].mul_(beta2**0.5).add_(grad, alpha=scale * by)
        progress = (state["start"] - param).mul_(grad).sum(dtype=torch.float64)
        return torch.stack((progress * (scale * length), s.abs().sum(dtype=torch.float64)))

    def agree(
        self, sums: Sequence[float], *, beta2: float, d0: float, d_coef: float, growth: float, context: Context
    ) -> dict[str, float]:
        progress, size = sums
        before = context.shared
        if not size:
            return {**before, "last_d": before["d"]}
        d, r = before["d"], beta2**0.5 * before["r"] + progress
        estimate = d_coef * r / size
        d_max = max(before["d_max"], estimate)
        new = min(d_max, (max(d, estimate) if d == d0 else d) * growth)
        return {"d": new, "last_d": d, "d_max": d_max, "r": r, "steps": before["steps"] + 1}

    def lr_factor(self, *, beta1: float, beta2: float, bias_correction: bool, context: Context) -> float:
        step = context.shared["steps"]
        if not step:
            return 0.0
        return context.shared["last_d"] * (_correction(step, beta1, beta2) if bias_correction else 1.0)

    def update(self, grad: Tensor, state: State, param: Tensor, step: int, *, eps: float, context: Context) -> Tensor:
        denominator = state["v"].sqrt().add_(context.shared["d"] * eps)
        return torch.div(state["m"], denominator, out=denominator)


def _correction(step: float, beta1: float, beta2: float) -> float:
    """b of this step."""
    return float((1 - beta2**step) ** 0.5 / (1 - beta1**step))


_PAPER = "arXiv 2306.06101"

PRODIGY = OptimizerSpec(
    name="prodigy",
    class_name="Prodigy",
    aliases=("prodigyopt",),
    title="Prodigy",
    reference="Mishchenko and Defazio 2023, https://arxiv.org/abs/2306.06101",
    parts=(Part(ROLES, ProdigyRule()),),
    hyperparameters={
        "lr": Hyperparameter(1.0, "factor of the estimated learning rate", f"{_PAPER}; S, all scales", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "S, all scales", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the first moment", f"{_PAPER}; S up to 210M", "[0, 1)"),
        "beta2": Hyperparameter(0.999, "decay rate of the second moment", f"{_PAPER}; S, all scales", "[0, 1)"),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment, times d", f"{_PAPER}; S", "(0, inf)"),
        "d0": Hyperparameter(1e-6, "first value of d", f"{_PAPER}; S", "(0, inf)"),
        "d_coef": Hyperparameter(1.0, "factor of the estimate", f"{_PAPER}; S", "(0, inf)"),
        "growth": Hyperparameter(1e300, "most that d may grow by in a step", f"none: {_PAPER}; S", "[1, inf)"),
        "bias_correction": Hyperparameter(True, "b is Adam's bias correction instead of 1", "S, all scales"),
        "safeguard_warmup": Hyperparameter(False, "keep warm-up of lr out of s", f"{_PAPER}; S"),
    },
    search_space={"lr": Grid.geometric(0.5, 3, "S, 124M and 720M")},
    lr_unit="factor of the learning rate that it estimates itself, in AdamW's unit",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine is S's; warm-up as for AdamW"),
)
