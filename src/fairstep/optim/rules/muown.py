"""Muown: Muon on the directions of a matrix's rows, Adam on their lengths.

A matrix is W = a V / |V|, row by row, with a length a and a vector V of norm n for each row. At first a = n = |W|:

    U   = W / a,   V = n U,   g_a = sum_j g U,   g_V = (a / n) (g - U g_a)
    M  <- mu M + g_V;   x = g_V + mu M with nesterov, else M
    V' <- V - lr 0.2 sqrt(max(o, i)) newton_schulz(x)
    a  <- a - lr Adam(g_a)                                      the same learning rate, with bias corrections
    n  <- |V'|;   W <- a V' / n - lr lambda W;   a <- |W|

V is not stored. Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own
betas.

Lion et al., arXiv 2605.10797, and the authors' file. Optimizer state: 1 float per matrix element and 4 per row, 2 per
element of the rest.

Differences from other implementations: the authors' file takes any matrix with o = 3 i for fused query, key and value;
here none. It has no floor under lengths: here a and n are at least 1e-12, so that a matrix of zeros starts from Adam's
step of a alone and then has no direction. Emerging-Optimizers decays a instead of W.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import OrthogonalisingRule
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.muon import D_MUON, OPTIONS
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SHORTEST = 1e-12
"""Floor of lengths, so that a row of zeros has a direction (none) and no division by zero."""


class MuownRule(OrthogonalisingRule):
    name = "muown"
    state_formula = "N + 4 o"
    flops_per_element = 20

    def init(self, param: Tensor) -> dict[str, Tensor]:
        length = _lengths(param)  # (s, o, 1)
        return {
            "m": torch.zeros_like(param),
            "a": length,
            "n": length.clone(),
            "a_m": torch.zeros_like(length),
            "a_v": torch.zeros_like(length),
        }

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        beta1: float,
        beta2: float,
        eps: float,
        context: Context,
    ) -> Tensor:
        a, n = state["a"], state["n"]  # (s, o, 1)
        unit = param / a
        along = (grad * unit).sum(-1, keepdim=True)
        across = (grad - unit * along) * (a / n)
        m = state["m"].mul_(momentum).add_(across)
        x = across + momentum * m if nesterov else m
        o, i = grad.shape[-2:]
        turned = lr * 0.2 * max(o, i) ** 0.5 * call(self.orthogonalised, context, x)  # V - V'
        a_m = state["a_m"].lerp_(along, 1 - beta1)
        a_v = state["a_v"].mul_(beta2).addcmul_(along, along, value=1 - beta2)
        adam = (a_m / (1 - beta1**step)) / ((a_v / (1 - beta2**step)).sqrt() + eps)
        v = n * unit - turned
        new = torch.where(turned.any(-1, keepdim=True), _lengths(v), n)
        # The engine steps along a direction: the one from W to a' V'/n', without the difference of the two.
        change = (a * turned + param * (new - n)) / new
        n.copy_(new)
        return adam * v / new + (change / lr if lr else 0.0)

    def move(self, weights: Tensor, descend: Callable[[Tensor], None], state: State, step: int) -> None:
        descend(weights)
        state["a"].copy_(_lengths(weights))

    def state_floats(self, o: int, i: int) -> int:
        return o * i + 4 * o


def _lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=SHORTEST)


_PAPER = "arXiv 2605.10797"
_KEPT = {name: known for name, known in D_MUON.hyperparameters.items() if name not in (*OPTIONS, "scale")}

MUOWN = replace(
    D_MUON,
    name="muown",
    class_name="Muown",
    aliases=(),
    title="Muown",
    reference=f"Lion et al. 2026, https://arxiv.org/abs/{_PAPER.removeprefix('arXiv ')}",
    parts=with_companion(MuownRule()),
    hyperparameters={
        **_KEPT,
        "lr": replace(_KEPT["lr"], source=_PAPER),
        "weight_decay": replace(_KEPT["weight_decay"], default=0.0, source=_PAPER),
        "momentum": replace(_KEPT["momentum"], source=_PAPER),
        "beta1": Hyperparameter(0.9, "lengths: decay rate of the first moment", _PAPER, "[0, 1)"),
        "beta2": Hyperparameter(0.95, "lengths: decay rate of the second moment", _PAPER, "[0, 1)"),
        "eps": Hyperparameter(1e-8, "lengths: added to the root", _PAPER, "[0, inf)"),
    },
)
