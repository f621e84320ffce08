"""MOSO: one-sided SOAP of the momentum, whose own Gram matrix gives the basis.

Matrices (o x i), here with o <= i; a taller one is transposed:

    m <- mu m + (1 - mu) g
    C <- beta' C + (1 - beta') m m^T,   beta' = 1 - (1 - beta_s) / (1 - beta_s^t)
    Q  = eigenvectors of C, descending, in the first step; later: sort the columns by diag(Q^T C Q), permute v along
         with them, Q <- qr(C Q)
    p  = Q^T m
    v <- beta2 v + (1 - beta2) p^2
    W <- (1 - lr lambda) W - lr Q [ p / (sqrt(v) + eps) ]

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

NVIDIA's Emerging-Optimizers, MOSO (momentum, one-sided, SOAP), after N. Vyas et al., "SOAP", arXiv 2409.11321.
Optimizer state: 2 floats per matrix element and 2 k^2 with k = min(o, i), 2 per element of the rest.

Differences from other implementations: in Emerging-Optimizers 0.4 an Adam with bias corrections, and so a second
momentum, stands where later versions have v alone, as here. Later versions do not permute v along. There is no
orthogonalisation: SOAP-Muon (``soap_muon``) is not this.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Rule, State
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.rekls import REKLS
from fairstep.optim.rules.soap import factors, first_bases, project_in, project_out, sort_and_turn
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor


class MOSORule(Rule):
    name = "moso"
    state_formula = "2 N + 2 k^2"
    flops_per_element = 12
    products = "6 N k + 5 k^3"

    def init(self, param: Tensor) -> dict[str, Tensor]:
        o, i = param.shape[-2:]
        state = {"m": torch.zeros_like(param), "v": torch.zeros_like(param)}
        return state | factors(param, {"L": o} if o <= i else {"R": i}, "Q_")

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        momentum: float,
        beta2: float,
        shampoo_beta: float,
        eps: float,
    ) -> Tensor:
        m = state["m"].lerp_(grad, 1 - momentum)
        side, a = ("L", m) if "L" in state else ("R", m.mT)
        weight = (1 - shampoo_beta) / (1 - shampoo_beta**step)
        state[side].baddbmm_(a, a.mT, beta=1 - weight, alpha=weight)
        if step == 1:
            first_bases(state)
        else:
            state["v"].copy_(sort_and_turn(state, state["v"]))
        p = project_in(m, state)
        v = state["v"].mul_(beta2).addcmul_(p, p, value=1 - beta2)
        return project_out(p / v.sqrt().add_(eps), state)

    def state_floats(self, o: int, i: int) -> int:
        return 2 * o * i + 2 * min(o, i) ** 2

    def product_flops(self, o: int, i: int) -> float:
        return 6.0 * o * i * min(o, i) + 2.0 * min(o, i) ** 3

    def decomposition_flops(self, o: int, i: int) -> float:
        return 3.0 * min(o, i) ** 3


_CODE = "Emerging-Optimizers"
_KEPT = {name: known for name, known in REKLS.hyperparameters.items() if name != "beta1"}

MOSO = replace(
    REKLS,
    name="moso",
    class_name="MOSO",
    title="MOSO",
    reference="https://github.com/NVIDIA-NeMo/Emerging-Optimizers",
    parts=with_companion(MOSORule()),
    hyperparameters={
        **_KEPT,
        "lr": replace(_KEPT["lr"], source=f"as soap; 3e-4 in {_CODE}"),
        "momentum": Hyperparameter(0.95, "decay rate mu of the momentum", _CODE, "[0, 1)"),
        "shampoo_beta": replace(_KEPT["shampoo_beta"], description="decay rate beta_s of C"),
        "eps": replace(_KEPT["eps"], description="added to the root of the second moment", domain="[0, inf)"),
    },
)
