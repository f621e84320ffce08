"""Dion2 and NorDion2: Muon of a share of the rows or columns in each step, those with the largest momentum.

Matrices (o x i), with slices = rows where o <= i, else columns (Dion2), or rows always (NorDion2):

    M <- M + g                                                 without decay
    S  = the max(1, ceil(alpha n)) of the n slices of M with the largest sum of absolute values
    U  = newton_schulz(M_S)
    M_S <- mu M_S                                              what was used is forgotten by this share
    W  <- (1 - lr lambda) W;  W_S <- W_S - lr c U,   c = sqrt(o/i)                  scale "aspect"
                                                     c = 0.2 sqrt(max(o, i))        scale "rms"

NorDion2 scales the selected rows before the step:

    v_r <- beta2 v_r + (1 - beta2) mean_j U_rj^2,   U_r <- U_r / (sqrt(v_r) + eps),   then |U| is restored

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

K. Ahn, N. Amsel, J. Langford, "Dion2: A simple method to shrink matrix in Muon", arXiv 2512.16928; microsoft/dion,
where NorDion2 is also called Dion3. Optimizer state: 1 float per matrix element (NorDion2: and 1 per row), 2 per
element of the rest. alpha = 1 is Muon with a momentum that sums, without Nesterov.

Differences from other implementations: microsoft/dion casts M_S to bfloat16 first (here by ns_dtype) and, of a divided
matrix, selects on each rank by itself unless told otherwise. Slices that are never selected keep a growing momentum.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import Orthogonalises, newton_schulz_flops
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import with_companion
from fairstep.optim.rules.muon import MUON, OPTIONS
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-8
"""Added to the root of a row's second moment (microsoft/dion)."""


class Dion2Rule(Orthogonalises):
    name = "dion2"
    moments = ("m",)
    flops_per_element = 6
    products = "Muon's of the selected slices"

    def rows_are_slices(self, o: int, i: int) -> bool:
        return o <= i

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        alpha: float,
        momentum: float,
        scale: str,
        context: Context,
    ) -> Tensor:
        o, i = grad.shape[-2:]
        by_rows = self.rows_are_slices(o, i)
        m = state["m"].add_(grad)  # (s, o, i)
        slices = m if by_rows else m.mT  # (s, n, d)
        count = max(1, ceil(alpha * slices.shape[-2]))
        chosen = slices.abs().sum(-1).topk(count, sorted=False).indices.sort().values  # (s, c)
        index = chosen[..., None].expand(-1, -1, slices.shape[-1])  # (s, c, d)
        used = slices.gather(-2, index)
        slices.scatter_(-2, index, used * momentum)
        orthogonal = call(self.orthogonalised, context, used if by_rows else used.mT)
        orthogonal = call(self.scaled, context, orthogonal, state, chosen)
        direction = torch.zeros_like(grad)
        (direction if by_rows else direction.mT).scatter_(-2, index, orthogonal if by_rows else orthogonal.mT)
        return direction.mul_((o / i) ** 0.5 if scale == "aspect" else 0.2 * max(o, i) ** 0.5)

    def scaled(self, orthogonal: Tensor, state: State, chosen: Tensor, *_: Any, **hyper: Any) -> Tensor:
        """The orthogonal matrices (s, c, i) of the ``chosen`` (s, c) rows as they are."""
        return orthogonal

    def product_flops(self, o: int, i: int, *, alpha: float, ns_steps: int, ns_coefficients: str) -> float:
        by_rows = self.rows_are_slices(o, i)
        n, d = (o, i) if by_rows else (i, o)
        return newton_schulz_flops(max(1, ceil(alpha * n)), d, ns_steps, ns_coefficients)


class NorDion2Rule(Dion2Rule):
    name = "nordion2"
    state_formula = "N + o"
    flops_per_element = 12
    products = "Muon's of the selected rows"
    methods = (*Dion2Rule.methods, "scaled")

    def rows_are_slices(self, o: int, i: int) -> bool:
        return True

    def init(self, param: Tensor) -> dict[str, Tensor]:
        return {"m": torch.zeros_like(param), "v": torch.zeros_like(param[..., 0])}

    def scaled(self, orthogonal: Tensor, state: State, chosen: Tensor, *, beta2: float) -> Tensor:
        v = state["v"].gather(-1, chosen).lerp_(orthogonal.square().mean(-1), 1 - beta2)  # (s, c)
        state["v"].scatter_(-1, chosen, v)
        rows = orthogonal / v.sqrt().add_(EPS)[..., None]
        before, after = (torch.linalg.matrix_norm(x, keepdim=True) for x in (orthogonal, rows))
        return rows * (before / after.clamp_(min=EPS))

    def state_floats(self, o: int, i: int) -> int:
        return o * i + o


_CODE = "microsoft/dion"
_KEPT = {name: known for name, known in MUON.hyperparameters.items() if name not in (*OPTIONS, "nesterov")}

DION2 = replace(
    MUON,
    name="dion2",
    class_name="Dion2",
    aliases=(),
    title="Dion2",
    reference="Ahn, Amsel, Langford 2025, https://arxiv.org/abs/2512.16928",
    parts=with_companion(Dion2Rule()),
    hyperparameters={
        **_KEPT,
        "lr": replace(_KEPT["lr"], source="arXiv 2512.16928, 160M"),
        "alpha": Hyperparameter(0.25, "share of the slices that a step moves", f"{_CODE}; 0.5 at 160M", "(0, 1]"),
        "momentum": Hyperparameter(0.95, "share of a used slice's momentum that is kept", _CODE, "[0, 1)"),
        "scale": Hyperparameter("aspect", "factor c (see the equations)", _CODE, ("aspect", "rms")),
        "ns_coefficients": replace(_KEPT["ns_coefficients"], default="polar-express", source=_CODE),
    },
    lr_unit="spectral norm of the step of a square matrix's selected slices",
)

NORDION2 = replace(
    DION2,
    name="nordion2",
    class_name="NorDion2",
    aliases=("dion3",),
    title="NorDion2 (Dion3)",
    parts=with_companion(NorDion2Rule()),
    hyperparameters={
        **DION2.hyperparameters,
        "beta2": Hyperparameter(0.95, "decay rate of the rows' second moment", _CODE, "[0, 1)"),
    },
)
