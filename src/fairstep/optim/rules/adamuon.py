"""AdaMuon: Muon of the signs of the momentum, with a second moment of each element of the orthogonal matrix.

Matrices (o x i):

    m <- mu m + (1 - mu) g
    u  = mu m + (1 - mu) g   with nesterov, else m
    O  = newton_schulz(sign(u))
    v <- mu v + (1 - mu) O^2                                   without bias correction, which the norm below cancels
    q  = O / (sqrt(v) + eps)
    W <- (1 - lr lambda) W - lr 0.2 sqrt(o i) q / |q|

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

C. Si, D. Zhang, W. Shen, "AdaMuon: Adaptive Muon optimizer", arXiv 2507.11005, algorithm 1 and the authors' file.
Optimizer state: 2 floats per matrix element, 2 per element of the rest.

Differences from other implementations: the class of this name in pytorch-optimizer has neither sign nor Nesterov, which
is another direction. The momentum is an average where Megatron-LM sums; signs are the same. sign(0) = 0: a row that
never had a gradient stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import OrthogonalisingRule
from fairstep.optim.maths.sign import sign
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.muon import D_MUON, OPTIONS, momentum_ahead
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor


class AdaMuonRule(OrthogonalisingRule):
    name = "adamuon"
    moments = ("m", "v")
    flops_per_element = 14

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        momentum: float,
        nesterov: bool,
        eps: float,
        context: Context,
    ) -> Tensor:
        u = momentum_ahead(grad, state["m"], momentum, nesterov)  # (s, o, i)
        orthogonal = call(self.orthogonalised, context, sign(u))  # (s, o, i)
        v = state["v"].mul_(momentum).addcmul_(orthogonal, orthogonal, value=1 - momentum)
        scaled = orthogonal / v.sqrt().add_(eps)
        o, i = grad.shape[-2:]
        return scaled.mul_(0.2 * (o * i) ** 0.5 / (torch.linalg.matrix_norm(scaled, keepdim=True) + eps))


_PAPER = "arXiv 2507.11005"
_KEPT = {name: known for name, known in D_MUON.hyperparameters.items() if name not in (*OPTIONS, "scale")}

ADAMUON = replace(
    D_MUON,
    name="adamuon",
    class_name="AdaMuon",
    aliases=("ada-muon",),
    title="AdaMuon",
    reference=f"Si et al. 2025, https://arxiv.org/abs/{_PAPER.removeprefix('arXiv ')}",
    parts=with_companion(AdaMuonRule()),
    hyperparameters={
        **_KEPT,
        "lr": replace(_KEPT["lr"], source="as D-Muon, whose step has the same size; 6e-4 in the authors' GPT-2"),
        "momentum": replace(
            _KEPT["momentum"], description="decay rate mu of the momentum and of the second moment", source=_PAPER
        ),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment and to the norm", _PAPER, "[0, inf)"),
    },
)
