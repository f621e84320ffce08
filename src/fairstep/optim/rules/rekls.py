"""REKLS: KL-SOAP whose basis is up to date, by an eigendecomposition in every step.

Matrices (o x i), with beta' = 1 - (1 - beta_s) / (1 - beta_s^t), so that the first factors are of one gradient; at
first Q_L = Q_R = I and l = r = 0:

    L <- beta' L + (1 - beta') g Q_R diag(1 / max(r, eps)) Q_R^T g^T / i,   R likewise with Q_L, l and o
    l, Q_L = eigenvalues and eigenvectors of L, descending;   r, Q_R likewise
    g~ = Q_L^T g Q_R
    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g~^2
    u  = Q_L [ (Q_L^T m Q_R / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) ] Q_R^T
    W <- (1 - lr lambda) W - lr u

Both factors are whitened by the basis and the eigenvalues that the other had before the step. Embedding, head and
vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

NVIDIA's Emerging-Optimizers, REKLS (realtime eigenbasis, Kullback-Leibler, SOAP); the factors are KL-Shampoo's, W. Lin
et al., arXiv 2509.03378. Optimizer state: 2 N + 2 (o^2 + i^2) + o + i.

Differences from other implementations: version 0.3.0 of Emerging-Optimizers permutes v by diag(Q^T L Q) beside the
eigendecomposition, later ones do not, as here. At t = 1 the factors are divided by eps, which is Adam's as well: the
first gradient outweighs the next ones for long, and the rule depends on the gradients' scale. KL-SOAP (``kl_soap``)
skips its first step, has no bias corrections and refreshes its basis by QR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Rule, State
from fairstep.optim.rules.adamw import COMPANION_SETTINGS, with_companion
from fairstep.optim.rules.shampoo import EIGEN_FLOPS
from fairstep.optim.rules.soap import decomposed, factors, project_in, project_out
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class REKLSRule(Rule):
    name = "rekls"
    state_formula = "2 N + 2 (o^2 + i^2) + o + i"
    flops_per_element = 14
    products = "10 N o + 8 N i + 9 (o^3 + i^3)"

    def init(self, param: Tensor) -> dict[str, Tensor]:
        sides = dict(zip("LR", param.shape[-2:], strict=True))
        state = {"m": torch.zeros_like(param), "v": torch.zeros_like(param), **factors(param, sides, "Q_")}
        for side, n in sides.items():
            state["Q_" + side] = torch.eye(n, dtype=param.dtype, device=param.device).repeat(len(param), 1, 1)
            state["values_" + side] = param.new_zeros(len(param), n)
        return state

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        beta1: float,
        beta2: float,
        shampoo_beta: float,
        eps: float,
    ) -> Tensor:
        self._fit(grad, state, (1 - shampoo_beta) / (1 - shampoo_beta**step), eps)
        rotated = project_in(grad, state)
        m = state["m"].lerp_(grad, 1 - beta1)
        v = state["v"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        denominator = (v / (1 - beta2**step)).sqrt_().add_(eps).mul_(1 - beta1**step)
        return project_out(project_in(m, state) / denominator, state)

    def _fit(self, grad: Tensor, state: State, weight: float, eps: float) -> None:
        """Take a gradient into both factors with this weight, then decompose them."""
        whitened = {
            side: (a @ state["Q_" + other]) * state["values_" + other].clamp(min=eps).rsqrt()[..., None, :]
            for side, a, other in (("L", grad, "R"), ("R", grad.mT, "L"))
        }
        for side, x in whitened.items():
            factor = state[side].baddbmm_(x, x.mT, beta=1 - weight, alpha=weight / x.shape[-1])
            values, vectors = decomposed(factor)
            state["values_" + side].copy_(values)
            state["Q_" + side].copy_(vectors)

    def state_floats(self, o: int, i: int) -> int:
        return 2 * (o * i + o * o + i * i) + o + i

    def product_flops(self, o: int, i: int) -> float:
        return o * i * (10.0 * o + 8.0 * i)

    def decomposition_flops(self, o: int, i: int) -> float:
        return EIGEN_FLOPS * (o**3 + i**3)


_CODE = "Emerging-Optimizers"

REKLS = OptimizerSpec(
    name="rekls",
    class_name="REKLS",
    title="REKLS",
    reference="https://github.com/NVIDIA-NeMo/Emerging-Optimizers; Lin et al. 2025, https://arxiv.org/abs/2509.03378",
    parts=with_companion(REKLSRule()),
    hyperparameters={
        "lr": Hyperparameter(3e-3, "learning rate", f"as soap; {_CODE} has none", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", f"as soap; 0.01 in {_CODE}", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the first moment", _CODE, "[0, 1)"),
        "beta2": Hyperparameter(0.95, "decay rate of the rotated second moment", _CODE, "[0, 1)"),
        "shampoo_beta": Hyperparameter(0.95, "decay rate beta_s of L and R", _CODE, "[0, 1)"),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment, and floor of l and r", _CODE, "(0, inf)"),
        **COMPANION_SETTINGS,
    },
    search_space={"lr": Grid.geometric(4e-3, 3, "as soap, in whose unit it is")},
    lr_unit="as AdamW, in the rotated basis",
    schedule=Schedule("cosine", 0.1, 0.0, "as soap"),
)
