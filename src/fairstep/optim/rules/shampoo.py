"""Shampoo with averaged factors and the step length of Adam (grafting), as Distributed Shampoo has it.

Matrices (o x i), with bias corrections bc(b) = 1 - b^t:

    L <- beta_s L + (1 - beta_s) g g^T,   R <- beta_s R + (1 - beta_s) g^T g
    m <- beta1 m + (1 - beta1) g,         v <- beta2 v + (1 - beta2) g^2
    h  = m / bc(beta1),                   a  = h / (sqrt(v / bc(beta2)) + eps)                Adam's step
    every f-th step: P_L = (L / bc(beta_s) + root_eps)^-p,   P_R likewise
    u  = P_L h P_R, scaled to the norm |a|;   before the first roots (t < f)  u = a
    W <- (1 - lr lambda) W - lr u

sides "both": p = 1/4. One-sided, "rows" (L alone) or "columns" (R alone): p = 1/2. "shorter" takes L where o <= i.
Eigenvalues below 0 count as 0. With root_eps = 0 those below n 2^-52 (in float32 n 2^-23) of the largest are left out
(pseudo-inverse). Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio.

V. Gupta, T. Koren, Y. Singer, arXiv 1802.09568; averages and grafting: H.-J. M. Shi et al., "A distributed
data-parallel PyTorch implementation of the Distributed Shampoo optimizer for training neural networks at-scale", arXiv
2309.06497. Optimizer state: 2 N + 2 (o^2 + i^2).

Differences from other implementations: torch-shampoo preconditions vectors too (power -1/2), and flattens small
matrices to one vector unless told otherwise; |u| gets 1e-16 added as there. pytorch-optimizer's Shampoo sums factors
and averages preconditioned gradients: another algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.blocks import BLOCK_SIZE, BlockRule
from fairstep.optim.rule import Context, State
from fairstep.optim.rules.adamw import COMPANION_SETTINGS, with_companion
from fairstep.optim.rules.soap import accumulate, factors
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Schedule

if TYPE_CHECKING:
    from torch import Tensor

SIDES = ("both", "rows", "columns", "shorter")
EIGEN_FLOPS = 9.0
"""n^3 FLOPs of an eigendecomposition of a symmetric matrix with its vectors."""


class ShampooRule(BlockRule):
    name = "shampoo"
    divided = ("m", "v")
    flops_per_element = 16
    state_formula = "2 N + 2 (o^2 + i^2) of the preconditioned sides"
    products = "4 N (o + i) + 11 (o^3 + i^3) / precondition_frequency"

    def _sides(self, o: int, i: int, sides: str) -> dict[str, int]:
        """Preconditioned sides and their lengths: L for the rows, R for the columns."""
        one = {"rows": "L", "columns": "R", "shorter": "L" if o <= i else "R"}.get(sides)
        return {side: n for side, n in (("L", o), ("R", i)) if one in (None, side)}

    def cut_sides(self, o: int, i: int, *, sides: str) -> tuple[bool, bool]:
        kept = self._sides(o, i, sides)
        return "L" in kept, "R" in kept

    def init_matrix(self, param: Tensor, *, sides: str) -> dict[str, Tensor]:
        state = {"m": torch.zeros_like(param), "v": torch.zeros_like(param)}
        o, i = param.shape[-2:]
        return state | factors(param, self._sides(o, i, sides), "P_")

    def update_matrix(
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
        root_eps: float,
        precondition_frequency: int,
        context: Context,
    ) -> Tensor:
        accumulate(grad, state, shampoo_beta, context.rows)
        v = state["v"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        h = state["m"].lerp_(grad, 1 - beta1) / (1 - beta1**step)
        adam = h / (v / (1 - beta2**step)).sqrt_().add_(eps)
        kept = [side for side in ("L", "R") if side in state]
        if step % precondition_frequency == 0:
            for side in kept:
                factor = state[side] / (1 - shampoo_beta**step)
                state["P_" + side].copy_(inverse_root(factor, 1 / (2 * len(kept)), root_eps))
        if step < precondition_frequency:
            return adam
        u = state["P_L"] @ h if "L" in kept else h
        u = u @ state["P_R"] if "R" in kept else u
        length = torch.linalg.matrix_norm(u, keepdim=True) + 1e-16
        return u.mul_(torch.linalg.matrix_norm(adam, keepdim=True) / length)

    def state_floats_matrix(self, o: int, i: int, *, sides: str) -> int:
        return 2 * o * i + 2 * sum(n * n for n in self._sides(o, i, sides).values())

    def product_flops_matrix(self, o: int, i: int, *, sides: str, precondition_frequency: int) -> float:
        return sum(4.0 * o * i * n + 2.0 * n**3 / precondition_frequency for n in self._sides(o, i, sides).values())

    def decomposition_flops_matrix(self, o: int, i: int, *, sides: str, precondition_frequency: int) -> float:
        return sum(EIGEN_FLOPS * n**3 / precondition_frequency for n in self._sides(o, i, sides).values())


def inverse_root(factor: Tensor, power: float, eps: float) -> Tensor:
    """(A + eps)^-power of symmetric positive semidefinite matrices (s, n, n); eps = 0: of their pseudo-inverse.

    In float64, because float32 eigenvectors of nearly equal eigenvalues may not converge. A factor that is not finite
    must show as a diverged run, not as an error of the eigensolver: it gives a root that is not finite.
    """
    gram = factor.double()
    finite = gram.isfinite().all(-1).all(-1)[:, None, None]
    values, vectors = torch.linalg.eigh(gram.where(finite, 0.0))
    values = values.clamp(min=0.0)
    least = values[..., -1:] * factor.shape[-1] * torch.finfo(factor.dtype).eps
    roots = (values + eps) ** -power if eps else torch.where(values > least, values, torch.inf) ** -power
    root = (vectors * roots[..., None, :]) @ vectors.mT
    return root.where(finite, torch.nan).to(factor.dtype)


_LIBRARY = "torch-shampoo"
_TRACK = "modded-nanogpt track 3, result 21"

SHAMPOO = OptimizerSpec(
    name="shampoo",
    class_name="Shampoo",
    aliases=("distributed-shampoo",),
    title="Shampoo (Adam grafting)",
    reference="Gupta et al. 2018, https://arxiv.org/abs/1802.09568; Shi et al. 2023, https://arxiv.org/abs/2309.06497",
    parts=with_companion(ShampooRule()),
    hyperparameters={
        "lr": Hyperparameter(1.5e-3, "learning rate", _TRACK, "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", f"as adamw; 0.2 in {_TRACK}", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the first moment", _TRACK, "[0, 1)"),
        "beta2": Hyperparameter(0.95, "decay rate of Adam's second moment", _TRACK, "[0, 1)"),
        "shampoo_beta": Hyperparameter(0.95, "decay rate beta_s of L and R", _TRACK, "[0, 1)"),
        "eps": Hyperparameter(1e-10, "added to Adam's root", _TRACK, "[0, inf)"),
        "root_eps": Hyperparameter(1e-12, "added to eigenvalues; 0: pseudo-inverse", _LIBRARY, "[0, inf)"),
        "precondition_frequency": Hyperparameter(5, "steps from one pair of roots to the next", _TRACK, "[1, inf)"),
        "sides": Hyperparameter("both", "preconditioned sides (see the equations)", _LIBRARY, SIDES),
        "block_size": BLOCK_SIZE,
        **COMPANION_SETTINGS,
    },
    search_space={"lr": Grid.geometric(4e-3, 3, "as soap, whose step has Adam's size too")},
    lr_unit="as AdamW: the step has the norm of Adam's",
    schedule=Schedule("cosine", 0.1, 0.0, "as soap"),
)
