"""SOAP-Muon: the momentum is whitened in Shampoo's eigenbasis, and then orthogonalised.

Matrices (o x i), with n4(X) = |X^T X|_F^(1/2), which is at least the largest singular value and below |X|_F:

    m <- mu m + (1 - mu) g;   x = mu m + (1 - mu) g
    from the second step on:
        p  = Q_L^T x Q_R;   v <- beta2 v + (1 - beta2) p^2              of x and not of g; no bias correction
        y  = Q_L (p / sqrt(max(v, eps^2))) Q_R^T, scaled by n4(x) / n4(y)
    first step: y = x
    O  = newton_schulz(y), from y / n4(y) instead of y / |y|_F
    W <- (1 - lr lambda) W - lr sqrt(max(1, o/i)) O
    L <- beta_s L + (1 - beta_s) g g^T,   R <- beta_s R + (1 - beta_s) g^T g
    Q_L, Q_R at first: their eigenvectors, descending; then every f-th step: sort by diag(Q^T L Q), permute v along,
    Q <- qr(L Q)

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

This is the form of modded-nanogpt's optimization track (results 14 and 44), without what result 44 has around it
(gates, floors, radial damping). N. Vyas, R. Zhao, D. Morwani, M. Kwun, S. Kakade, "Improving SOAP using iterative
whitening and Muon" (2025, a note without equations) has another form: one-sided, with a signed square root for Adam.
Optimizer state: 2 N + 2 (o^2 + i^2) floats.

Differences from other implementations: the track refreshes the basis in every step (precondition_frequency 1), which on
gradients without noise stalls (docs/log.md). MOSO (``moso``) has no orthogonalisation: not this.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import Orthogonalises, newton_schulz_flops
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.muon import MUON, OPTIONS, momentum_ahead
from fairstep.optim.rules.soap import accumulate, factors, first_bases, project_in, project_out, sort_and_turn
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor


class SOAPMuonRule(Orthogonalises):
    name = "soap-muon"
    state_formula = "2 N + 2 (o^2 + i^2)"
    flops_per_element = 16
    products = "6 N (o + i) + 5 (o^3 + i^3) / precondition_frequency + ns_steps (4 k^2 K + 2 k^3) + 8 k^2 K"

    def init(self, param: Tensor) -> dict[str, Tensor]:
        state = {"m": torch.zeros_like(param), "v": torch.zeros_like(param)}
        return state | factors(param, dict(zip("LR", param.shape[-2:], strict=True)), "Q_")

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
        precondition_frequency: int,
        context: Context,
    ) -> Tensor:
        y = momentum_ahead(grad, state["m"], momentum, nesterov=True)
        if step > 1:
            y = self._whitened(y, state, beta2, eps)
        orthogonal = call(self.orthogonalised, context, y, fourth_norm(y))
        accumulate(grad, state, shampoo_beta, None)
        if step == 1:
            first_bases(state)
        elif (step - 1) % precondition_frequency == 0:
            state["v"].copy_(sort_and_turn(state, state["v"]))
        o, i = grad.shape[-2:]
        return orthogonal * max(1.0, o / i) ** 0.5

    def _whitened(self, x: Tensor, state: State, beta2: float, eps: float) -> Tensor:
        projected = project_in(x, state)
        v = state["v"].mul_(beta2).addcmul_(projected, projected, value=1 - beta2)
        y = project_out(projected / v.clamp(min=eps * eps).sqrt_(), state)
        return y.mul_(fourth_norm(x) / fourth_norm(y))

    def state_floats(self, o: int, i: int) -> int:
        return 2 * (o * i + o * o + i * i)

    def product_flops(
        self, o: int, i: int, *, precondition_frequency: int, ns_steps: int, ns_coefficients: str
    ) -> float:
        turned = sum(6.0 * o * i * n + 2.0 * n**3 / precondition_frequency for n in (o, i))
        norms = 4 * 2.0 * min(o, i) ** 2 * max(o, i)
        return turned + norms + newton_schulz_flops(o, i, ns_steps, ns_coefficients)

    def decomposition_flops(self, o: int, i: int, *, precondition_frequency: int) -> float:
        return sum(3.0 * n**3 / precondition_frequency for n in (o, i))


def fourth_norm(x: Tensor) -> Tensor:
    """n4 of matrices (s, o, i) as (s, 1, 1): the l4 norm of the singular values. Zeros have the least number, not 0."""
    wide = x if x.shape[-2] <= x.shape[-1] else x.mT
    norm = torch.linalg.matrix_norm(wide @ wide.mT, keepdim=True).sqrt_()
    return norm.clamp_(min=torch.finfo(x.dtype).tiny)


_TRACK = "modded-nanogpt track 3, result 44"
_KEPT = {name: known for name, known in MUON.hyperparameters.items() if name not in (*OPTIONS, "nesterov", "scale")}

SOAP_MUON = replace(
    MUON,
    name="soap-muon",
    class_name="SOAPMuon",
    aliases=("soapmuon",),
    title="SOAP-Muon",
    reference="Vyas et al. 2025 (note); https://github.com/KellerJordan/modded-nanogpt, track 3",
    parts=with_companion(SOAPMuonRule()),
    hyperparameters={
        **_KEPT,
        "beta2": Hyperparameter(0.9, "decay rate of the rotated second moment", _TRACK, "[0, 1)"),
        "shampoo_beta": Hyperparameter(0.9, "decay rate beta_s of L and R", _TRACK, "[0, 1)"),
        "eps": Hyperparameter(1e-8, "floor of the root of the second moment", _TRACK, "[0, inf)"),
        "precondition_frequency": Hyperparameter(
            10, "steps from one refresh of the basis to the next", f"as soap; 1 in {_TRACK}", "[1, inf)"
        ),
        "ns_steps": replace(_KEPT["ns_steps"], default=12, source=_TRACK),
        "ns_coefficients": replace(_KEPT["ns_coefficients"], default="simple-quintic", source=_TRACK),
    },
)
