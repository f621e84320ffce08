"""Muon^2: Muon of a momentum that was divided by the root of its second moment before it is orthogonalised.

Matrices (o x i):

    m <- mu m + (1 - mu) g
    u  = mu m + (1 - mu) g   with nesterov, else m
    v <- beta2 v + (1 - beta2) g^2                             no bias correction: the iterations divide by the norm
    O  = newton_schulz(u / (sqrt(v) + eps))
    W <- (1 - lr lambda) W - lr c O,   c as in ``muon``

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

Liu et al., arXiv 2604.09967. The form is from modded-nanogpt's optimization track (result 7), whose iterations are
the twelve of simple-quintic. Optimizer state: 2 floats per matrix element, 2 per element of the rest.

Differences from other implementations: the paper's text was not at hand. Second-hand notes of it differ: one has a
momentum that sums and eps outside the root, another an average and eps inside. Three iterations are said to suffice.
The factored second moment (Muon^2-F) is not here. eps stands beside a gradient: 1e-10 of the track, whose gradients are
sums over 2^19 tokens, is 1.9e-16 of gradients that are means.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim.maths.newton_schulz import OrthogonalisingRule
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.muon import MUON, OPTIONS, momentum_ahead, scaled
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor


class Muon2Rule(OrthogonalisingRule):
    name = "muon2"
    moments = ("m", "v")
    flops_per_element = 12

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        momentum: float,
        nesterov: bool,
        beta2: float,
        eps: float,
        scale: str,
        context: Context,
    ) -> Tensor:
        u = momentum_ahead(grad, state["m"], momentum, nesterov)  # (s, o, i)
        v = state["v"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        return scaled(call(self.orthogonalised, context, u / v.sqrt().add_(eps)), scale)


_TRACK = "modded-nanogpt track 3, result 7"
_KEPT = {name: known for name, known in MUON.hyperparameters.items() if name not in OPTIONS}

MUON2 = replace(
    MUON,
    name="muon2",
    class_name="Muon2",
    aliases=("muon^2", "muon-squared"),
    title="Muon^2",
    reference="Liu et al. 2026, https://arxiv.org/abs/2604.09967",
    parts=with_companion(Muon2Rule()),
    hyperparameters={
        **_KEPT,
        "lr": replace(_KEPT["lr"], source=f"as muon, whose step has the same size; 0.1 in {_TRACK}"),
        "beta2": Hyperparameter(0.95, "decay rate of the second moment", _TRACK, "[0, 1)"),
        "eps": Hyperparameter(1.9e-16, "added to the root of the second moment", f"{_TRACK}, for means", "(0, inf)"),
        "ns_steps": replace(_KEPT["ns_steps"], default=12, source=_TRACK),
        "ns_coefficients": replace(_KEPT["ns_coefficients"], default="simple-quintic", source=_TRACK),
    },
)
