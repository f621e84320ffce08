"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

The first call only initialises (the current gradient must not be in its own basis):

    L = (1 - beta_s) g g^T,   R = (1 - beta_s) g^T g,   Q_L, Q_R = their eigenvectors, eigenvalues descending

Later calls count tau = 1, 2, ...:

    m  <- beta1 m + (1 - beta1) g
    g~  = Q_L^T g Q_R
    v  <- beta2 v + (1 - beta2) g~^2
    u   = Q_L [ (Q_L^T m Q_R) / (sqrt(v) + eps) ] Q_R^T * sqrt(1 - beta2^tau) / (1 - beta1^tau)
    W  <- (1 - lr lambda) (W - lr u)                                      decay comes after the step
    L  <- beta_s L + (1 - beta_s) g g^T, R likewise
    every f-th call: sort the columns of Q by diag(Q^T L Q) descending, permute v along with them, Q <- qr(L Q)

A side longer than max_precond_dim is not rotated. Embedding and head are rotated on their shorter side only. Vectors
get the same Adam without rotation; its first call is skipped too.

N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", arXiv 2409.11321.
Optimizer state: 2 N + 2 (o^2 + i^2) floats.

Differences from other implementations: the basis (L, R, Q) is float32 or better whatever the parameters are. m is kept
rotated and re-projected when the basis changes, which is the same and saves two products per step. The official code
rotates a vocabulary only if it is below max_precond_dim; here never, so that a small model is treated like a large one.
beta_s is a number of its own, where official code and S use beta2. W has blocks of 256 or 512 (block_size), rotates
vectors too (precondition_1d), refreshes from L and R as they were before the step, and counts the first call in Adam's
corrections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.blocks import BLOCK_SIZE, RETIRED, BlockRule
from fairstep.optim.rule import DECOMPOSITION, Context, RowShard, RowSharding, State
from fairstep.optim.rules.adamw import AdamWRule
from fairstep.optim.sharding import row_sums
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class SOAPRule(BlockRule):
    """SOAP on stacks of matrices. ``shorter_side_only``: rotate only the shorter side (embedding and head)."""

    decays_after_step = True
    divided = ("m", "v")
    flops_per_element = 12

    def __init__(self, shorter_side_only: bool = False) -> None:
        self.shorter_side_only = shorter_side_only
        self.name = "soap-one-sided" if shorter_side_only else "soap"
        sides = "k^2" if shorter_side_only else "(o^2 + i^2)"
        self.state_formula = f"2 N + 2 {sides} without the sides above max_precond_dim"
        products, factors = ("6 N k", "5 k^3") if shorter_side_only else ("6 N (o + i)", "5 (o^3 + i^3)")
        self.flops_formula = f"{products} + {factors} / precondition_frequency + 12 N"

    def _sides(self, o: int, i: int, max_precond_dim: int) -> dict[str, int]:
        """Rotated sides and their lengths: L for the rows, R for the columns."""
        sides = {"L": o, "R": i}
        if self.shorter_side_only:
            del sides["L" if o >= i else "R"]
        return {side: n for side, n in sides.items() if n <= max_precond_dim}

    def cut_sides(self, o: int, i: int, *, max_precond_dim: int) -> tuple[bool, bool]:
        sides = self._sides(o, i, max_precond_dim)
        return "L" in sides, "R" in sides

    def init_matrix(self, param: Tensor, *, max_precond_dim: int, context: Context) -> dict[str, Tensor]:
        state = {"m": torch.zeros_like(param), "v": torch.zeros_like(param)}
        o, i = row_sums.row_count(param.shape[-2], context.rows), param.shape[-1]
        return state | factors(param, self._sides(o, i, max_precond_dim), "Q_")

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
        precondition_frequency: int,
        context: Context,
    ) -> Tensor | None:
        if step == 1:
            accumulate(grad, state, shampoo_beta, context.rows)
            first_bases(state)
            return None
        tau, m, v = step - 1, state["m"], state["v"]
        rotated = project_in(grad, state)
        m.lerp_(rotated, 1 - beta1)
        v.mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        direction = project_out(adam(m, v, tau, beta1, beta2, eps), state)
        accumulate(grad, state, shampoo_beta, context.rows)
        if tau % precondition_frequency == 0:
            refresh_bases(state)
        return direction

    def state_floats_matrix(self, o: int, i: int, *, max_precond_dim: int) -> int:
        return 2 * o * i + 2 * sum(n * n for n in self._sides(o, i, max_precond_dim).values())

    def product_flops_matrix(self, o: int, i: int, *, max_precond_dim: int, precondition_frequency: int) -> float:
        sides = self._sides(o, i, max_precond_dim).values()
        return sum(6.0 * o * i * n + 2.0 * n**3 / precondition_frequency for n in sides)

    def decomposition_flops_matrix(self, o: int, i: int, *, max_precond_dim: int, precondition_frequency: int) -> float:
        return sum(3.0 * n**3 / precondition_frequency for n in self._sides(o, i, max_precond_dim).values())

    def row_sharding_matrix(
        self, o: int, i: int, *, max_precond_dim: int, precondition_frequency: int
    ) -> RowSharding | None:
        """Without L, all rows have R and its basis in common and nothing else."""
        sides = self._sides(o, i, max_precond_dim)
        if "L" in sides:
            return None
        n = sides.get("R", 0)
        refresh = (2.0 + 3.0 * DECOMPOSITION) * n**3 / precondition_frequency
        return RowSharding(repeated=("R", "Q_R"), state=2 * n * n, cost=refresh, sums=float(n * n))


def adam(m: Tensor, v: Tensor, tau: int, beta1: float, beta2: float, eps: float) -> Tensor:
    """m / (sqrt(v) + eps) with Adam's bias corrections applied to the whole: eps meets the uncorrected root."""
    correction = (1 - beta2**tau) ** 0.5 / (1 - beta1**tau)
    return m / v.sqrt().add_(eps).mul_(1 / correction)


def factors(param: Tensor, sides: Mapping[str, int], made: str) -> dict[str, Tensor]:
    """For each side of n rows or columns zeros (s, n, n): its factor, and what is ``made`` of it (Q_: a basis)."""
    return {name: param.new_zeros(len(param), n, n) for side, n in sides.items() for name in (side, made + side)}


def project_in(x: Tensor, state: State) -> Tensor:
    """Q_L^T x Q_R of matrices (s, o, i)."""
    x = state["Q_L"].mT @ x if "Q_L" in state else x
    return x @ state["Q_R"] if "Q_R" in state else x


def project_out(x: Tensor, state: State) -> Tensor:
    """Q_L x Q_R^T of matrices (s, o, i)."""
    x = state["Q_L"] @ x if "Q_L" in state else x
    return x @ state["Q_R"].mT if "Q_R" in state else x


def accumulate(grad: Tensor, state: State, beta: float, shard: RowShard | None) -> None:
    """L <- beta L + (1 - beta) g g^T and R <- beta R + (1 - beta) g^T g, of the rotated sides."""
    for side, a in (("L", grad), ("R", grad.mT)):
        if side in state and shard:
            state[side].lerp_(row_sums.total(a @ a.mT, shard), 1 - beta)
        elif side in state:
            state[side].baddbmm_(a, a.mT, beta=beta, alpha=1 - beta)


def first_bases(state: State) -> None:
    """Q_L and Q_R: the eigenvectors of L and R."""
    for side in _rotated(state):
        state["Q_" + side].copy_(decomposed(state[side])[1])


def decomposed(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (s, n) and eigenvectors (s, n, n) of symmetric matrices, in float64, by descending eigenvalues.

    float32 eigh can fail to converge. A gradient that is not finite must show as a diverged run, not as an error of the
    eigensolver: the factor keeps it.
    """
    values, vectors = torch.linalg.eigh(factor.double().nan_to_num(0.0, 0.0, 0.0))
    return values.flip(-1), vectors.flip(-1)


def refresh_bases(state: State) -> None:
    """One step of power iteration with QR for every basis. m is carried over, v only permuted."""
    m = project_out(state["m"], state)
    state["v"].copy_(sort_and_turn(state, state["v"]))
    state["m"].copy_(project_in(m, state))


def sort_and_turn(state: State, v: Tensor) -> Tensor:
    """Turn every basis, its columns sorted by their eigenvalues. Returns v in the order of the new columns."""
    for side in _rotated(state):
        factor, basis = state[side], state["Q_" + side]  # (s, n, n)
        product = factor @ basis
        order = (basis * product).sum(-2).argsort(dim=-1, descending=True)  # (s, n), by diag(Q^T L Q)
        # Sorting Q's columns sorts the columns of L Q: one product serves the estimate and the iteration.
        sorted_product = product.gather(-1, order[:, None, :].expand_as(product))
        basis.copy_(torch.linalg.qr(sorted_product).Q)
        index = order[:, :, None] if side == "L" else order[:, None, :]
        v = v.gather(-2 if side == "L" else -1, index.expand_as(v))
    return v


def _rotated(state: State) -> list[str]:
    return [side for side in ("L", "R") if "Q_" + side in state]


class UnrotatedRule(AdamWRule):
    """What SOAP leaves unrotated: Adam with SOAP's skipped first call, eps and order of decay."""

    name = "soap-unrotated"
    decays_after_step = True

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float, eps: float
    ) -> Tensor | None:
        if step == 1:
            return None
        m, v = state["m"], state["v"]
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        return adam(m, v, step - 1, beta1, beta2, eps)


SOAP = OptimizerSpec(
    name="soap",
    class_name="SOAP",
    aliases=("soape",),
    title="SOAP",
    reference="Vyas et al. 2024, https://arxiv.org/abs/2409.11321",
    parts=(
        Part(("matrix", "expert", "router"), SOAPRule()),
        Part(("embedding", "head"), SOAPRule(shorter_side_only=True)),
        Part(("vector",), UnrotatedRule(), yields_to="precondition_1d"),
    ),
    hyperparameters={
        "lr": Hyperparameter(3e-3, "learning rate", "arXiv 2409.11321", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay, after the step", "W, all scales; S", "[0, inf)"),
        "beta1": Hyperparameter(0.95, "decay rate of the first moment", "arXiv 2409.11321; W, all scales", "[0, 1)"),
        "beta2": Hyperparameter(0.95, "decay rate of the rotated second moment", "arXiv 2409.11321; S, 720M", "[0, 1)"),
        "shampoo_beta": Hyperparameter(
            0.95, "decay rate beta_s of L and R", "arXiv 2409.11321; W, 130M and 520M", "[0, 1)"
        ),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment", "arXiv 2409.11321; S", "[0, inf)"),
        "precondition_frequency": Hyperparameter(
            10, "calls from one refresh of the basis to the next", "arXiv 2409.11321; S; W from 300M on", "[1, inf)"
        ),
        "max_precond_dim": Hyperparameter(10_000, "longest side that is rotated", "arXiv 2409.11321; S", "[0, inf)"),
        "block_size": BLOCK_SIZE,
        "precondition_1d": Hyperparameter(False, "rotate vectors too", "arXiv 2409.11321; S; true in W"),
    },
    retired=RETIRED,
    search_space={
        "lr": Grid.geometric(
            4e-3, 3, "around 8e-3, our best at width 64 in 512 steps (docs/log.md); W has 1.6e-2 at 130M"
        ),
    },
    lr_unit="as AdamW, in the rotated basis",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
)
