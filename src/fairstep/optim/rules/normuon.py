"""NorMuon: Muon whose orthogonal matrix is scaled, neuron by neuron, by the history of its rows.

Matrices (o x i), with O the orthogonalised momentum of Muon (see ``muon``) and mean_j over the columns:

    v <- beta2 v + (1 - beta2) mean_j O_ij^2                 one number per row
    N  = O / (sqrt(v) + eps)
    W <- (1 - lr lambda) W - lr c N / |N|,   c = 0.2 sqrt(o i)                  scale "rms": the paper
                                             c = sqrt(max(1, o/i)) |O|          scale "shape": the authors' file

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

Z. Li et al., "NorMuon: Making Muon more efficient and scalable", arXiv 2510.05491, algorithm 1.
Optimizer state: 1 float per matrix element and 1 per row, 2 per element of the rest.

Differences from other implementations: codes for speed records take v over the longer side, or over columns of wide
matrices; here, as in the paper, rows are neurons. Like the authors' file, and unlike algorithm 1, nesterov is on by
default. eps is added to |N| as well in pytorch-optimizer and the authors' file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import OrthogonalisingRule
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.muon import D_MUON, OPTIONS, momentum_ahead
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-10
"""Added to norms and roots, which are never near it unless a row has had no gradient at all."""


class NorMuonRule(OrthogonalisingRule):
    name = "normuon"
    state_formula = "N + o"
    flops_per_element = 12

    def init(self, param: Tensor) -> dict[str, Tensor]:
        return {"m": torch.zeros_like(param), "v": torch.zeros_like(param[..., :1])}

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
        scale: str,
        context: Context,
    ) -> Tensor:
        u = momentum_ahead(grad, state["m"], momentum, nesterov)  # (s, o, i)
        orthogonal = call(self.orthogonalised, context, u)  # (s, o, i)
        v = state["v"].lerp_(orthogonal.square().mean(-1, keepdim=True), 1 - beta2)  # (s, o, 1)
        scaled = orthogonal / (v.sqrt() + EPS)
        o, i = grad.shape[-2:]
        if scale == "rms":
            c: float | Tensor = 0.2 * (o * i) ** 0.5
        else:
            c = torch.linalg.matrix_norm(orthogonal, keepdim=True) * max(1.0, o / i) ** 0.5
        return scaled.mul_(c / (torch.linalg.matrix_norm(scaled, keepdim=True) + EPS))

    def state_floats(self, o: int, i: int) -> int:
        return o * i + o


_PAPER = "arXiv 2510.05491"

NORMUON = replace(
    D_MUON,
    name="normuon",
    class_name="NorMuon",
    aliases=("nor-muon",),
    title="NorMuon",
    reference="Li et al. 2025, https://arxiv.org/abs/2510.05491",
    parts=with_companion(NorMuonRule()),
    hyperparameters={
        **{name: known for name, known in D_MUON.hyperparameters.items() if name not in OPTIONS},
        "lr": replace(D_MUON.hyperparameters["lr"], source="as D-Muon, whose step has the same size"),
        "beta2": Hyperparameter(0.95, "decay rate of the rows' second moment", _PAPER, "[0, 1)"),
        "scale": Hyperparameter("rms", "size c of the step", _PAPER, ("shape", "rms")),
    },
)
