"""KL-SOAP and KL-Shampoo: Shampoo's factors from a Kullback-Leibler fit, so that each whitens with the other.

The first call only initialises:

    L = (1 - beta_s) g g^T / i,   R = (1 - beta_s) g^T g / o,   Q_L, Q_R = their eigenvectors, descending;   l = r = 0.1

Later calls, with what the call before left of Q, l and r:

    m  <- beta1 m + (1 - beta1) g;   g~ = Q_L^T g Q_R
    v  <- beta2 v + (1 - beta2) g~^2                                                             KL-SOAP
    u   = Q_L [ (Q_L^T m Q_R) / (sqrt(v) + eps) ] Q_R^T                                          KL-SOAP
    u   = Q_L [ (Q_L^T m Q_R) / (sqrt(l r^T) + eps) ] Q_R^T                                      KL-Shampoo
    W  <- (1 - lr lambda) (W - lr u)                                                   decay comes after the step
    L  <- beta_s L + (1 - beta_s) g Q_R diag(1/r) Q_R^T g^T / i,   R likewise with Q_L, l and o
    l  <- beta_s l + (1 - beta_s) mean_j g~_ij^2 / r_j,            r likewise with l
    every f-th call: Q <- qr(L Q), without sorting: l, r and v stay in order

No bias corrections. 1/sqrt(l) and 1/sqrt(r) are at most max(10, min(n, 4000)), n the length of the side. Embedding,
head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

W. Lin et al., "Understanding and improving the Shampoo optimizer via Kullback-Leibler minimization", arXiv 2509.03378,
and yorkerlin/KL-Methods. Optimizer state: 2 N (KL-Shampoo: N) + 2 (o^2 + i^2) + o + i.

Differences from other implementations: the authors' code has bfloat16 beside QR by default, here all is float32 or
better. The cap and the start of 0.1 know the gradient's scale: mean-loss gradients with a root mean square below about
1/n^2 reach the cap. REKLS (``rekls``), which has an eigendecomposition in each step and bias corrections, is not this;
modded-nanogpt's result 19 has the cap 4000 for every side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Rule, State
from fairstep.optim.rules.adamw import COMPANION_SETTINGS, with_companion
from fairstep.optim.rules.soap import factors, first_bases, project_in, project_out
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Schedule

if TYPE_CHECKING:
    from torch import Tensor

START = 0.1
"""Eigenvalue estimates before the first step (KL-Methods)."""


class KLShampooRule(Rule):
    name = "kl-shampoo"
    decays_after_step = True
    state_formula = "N + 2 (o^2 + i^2) + o + i"
    flops_per_element = 14
    products = "10 N o + 8 N i + 5 (o^3 + i^3) / precondition_frequency"
    moments: ClassVar[tuple[str, ...]] = ("m",)

    def init(self, param: Tensor) -> dict[str, Tensor]:
        sides = dict(zip("LR", param.shape[-2:], strict=True))
        moments = {name: torch.zeros_like(param) for name in self.moments}
        values = {"values_" + side: param.new_full((len(param), n), START) for side, n in sides.items()}
        return moments | factors(param, sides, "Q_") | values

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
        precondition_frequency: int,
    ) -> Tensor | None:
        if step == 1:
            for side, a in (("L", grad), ("R", grad.mT)):
                state[side].baddbmm_(a, a.mT, beta=0.0, alpha=(1 - shampoo_beta) / a.shape[-1])
            first_bases(state)
            return None
        roots = [inverse_roots(state["values_" + side]) for side in "LR"]  # 1/sqrt(l), 1/sqrt(r)
        rotated = project_in(grad, state)
        m = state["m"].lerp_(grad, 1 - beta1)
        direction = project_out(project_in(m, state) / self.size(rotated, state, roots, beta2).add_(eps), state)
        self._fit(grad, rotated, state, roots, shampoo_beta)
        if (step - 1) % precondition_frequency == 0:
            for side in "LR":
                state["Q_" + side].copy_(torch.linalg.qr(state[side] @ state["Q_" + side]).Q)
        return direction

    def size(self, rotated: Tensor, state: State, roots: list[Tensor], beta2: float) -> Tensor:
        """Root of the second moment (s, o, i) in the eigenbasis: of KL-Shampoo, of the product of its two factors."""
        return 1 / (roots[0][..., None] * roots[1][..., None, :])

    def _fit(self, grad: Tensor, rotated: Tensor, state: State, roots: list[Tensor], beta: float) -> None:
        """Take a gradient into the factors and their eigenvalues, each whitened by the other side's as they were."""
        squares = rotated.square()
        means = [
            (squares * roots[1].square()[..., None, :]).mean(-1),
            (squares * roots[0].square()[..., None]).mean(-2),
        ]
        for side, a, basis, root, mean in (
            ("L", grad, state["Q_R"], roots[1], means[0]),
            ("R", grad.mT, state["Q_L"], roots[0], means[1]),
        ):
            whitened = (a @ basis) * root[..., None, :]
            state[side].baddbmm_(whitened, whitened.mT, beta=beta, alpha=(1 - beta) / a.shape[-1])
            state["values_" + side].lerp_(mean, 1 - beta)

    def state_floats(self, o: int, i: int) -> int:
        return len(self.moments) * o * i + 2 * (o * o + i * i) + o + i

    def product_flops(self, o: int, i: int, *, precondition_frequency: int) -> float:
        return o * i * (10.0 * o + 8.0 * i) + 2.0 * (o**3 + i**3) / precondition_frequency

    def decomposition_flops(self, o: int, i: int, *, precondition_frequency: int) -> float:
        return 3.0 * (o**3 + i**3) / precondition_frequency


class KLSOAPRule(KLShampooRule):
    name = "kl-soap"
    moments = ("m", "v")
    state_formula = "2 N + 2 (o^2 + i^2) + o + i"

    def size(self, rotated: Tensor, state: State, roots: list[Tensor], beta2: float) -> Tensor:
        return state["v"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2).sqrt()


def inverse_roots(values: Tensor) -> Tensor:
    """1/sqrt of eigenvalue estimates (s, n), capped as in the module's text."""
    most = max(10, min(values.shape[-1], 4000))
    return values.clamp(min=0.0).rsqrt().clamp(max=most)


_CODE = "yorkerlin/KL-Methods"


def _spec(name: str, class_name: str, title: str, rule: Rule) -> OptimizerSpec:
    return OptimizerSpec(
        name=name,
        class_name=class_name,
        title=title,
        reference="Lin et al. 2025, https://arxiv.org/abs/2509.03378",
        parts=with_companion(rule),
        hyperparameters={
            "lr": Hyperparameter(3e-3, "learning rate", "as soap; 1e-4 in the authors' code", "(0, inf)"),
            "weight_decay": Hyperparameter(0.1, "decoupled weight decay, after the step", "as soap", "[0, inf)"),
            "beta1": Hyperparameter(0.9, "decay rate of the first moment", _CODE, "[0, 1)"),
            "beta2": Hyperparameter(0.98, "decay rate of KL-SOAP's second moment", _CODE, "[0, 1)"),
            "shampoo_beta": Hyperparameter(0.98, "decay rate beta_s of L, R, l and r", _CODE, "[0, 1)"),
            "eps": Hyperparameter(1e-8, "added to the root of the second moment", _CODE, "[0, inf)"),
            "precondition_frequency": Hyperparameter(
                10, "calls from one refresh of the basis to the next", _CODE, "[1, inf)"
            ),
            **COMPANION_SETTINGS,
        },
        search_space={"lr": Grid.geometric(4e-3, 3, "as soap, in whose unit it is")},
        lr_unit="as AdamW, in the rotated basis",
        schedule=Schedule("cosine", 0.1, 0.0, "as soap"),
    )


KL_SHAMPOO = _spec("kl-shampoo", "KLShampoo", "KL-Shampoo", KLShampooRule())
KL_SOAP = _spec("kl-soap", "KLSOAP", "KL-SOAP", KLSOAPRule())
