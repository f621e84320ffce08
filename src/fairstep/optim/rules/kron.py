"""Kron: PSGD with a Kronecker-factored preconditioner that whitens the momentum.

Matrices (o x i), with a factor Q for each side, upper triangular and at first I:

    m  <- beta1 m + (1 - beta1) g,   m^ = m / (1 - beta1^t)
    when an update is due, with V ~ N(0, 1) of the same shape:
        m^ <- m^ + delta mean|m^| V
        A   = Q_L m^ Q_R^T,   B = Q_L^-T V Q_R^-1
        Q_L <- Q_L - mu triu(A A^T - B B^T) Q_L / |A A^T + B B^T|
        Q_R <- Q_R - mu triu(A^T A - B^T B) Q_R / |A^T A + B^T B|
    u   = Q_L^T Q_L m^ Q_R^T Q_R
    u  <- u min(1, 1.1 / rms(u))
    W  <- (1 - lr lambda) W - lr u

|S| is a lower bound of the spectral norm: x = S s for its largest column s, then |S x| / |x|. A diagonal factor q is
    q <- q - mu (a - b) q / max|a + b|,   a and b the sums of A^2 and B^2 over the other side.
Sides longer than max_size_triangular, those that memory_save_mode says, the longer side of embedding and head, and
vectors, which have one factor, are diagonal. Updates are counted and not drawn: with
p(t) = clamp(exp(-0.001 (t - flat_start)), update_probability, 1), t = 0, 1, ..., one is due as soon as the steps since
the last are 1 / p(t). After every hundredth update the factors of a matrix are scaled to one largest element; their
product stays.

X.-L. Li, "Preconditioned Stochastic Gradient Descent", arXiv 1512.04202, and "Stochastic Hessian Fittings with Lie
Groups", arXiv 2402.11858; E. Walters' kron_torch, whose rule this is. Optimizer state: N + o^2 + i^2 floats.

Differences from other implementations: V depends on step and shape only, so that equal shapes share it and a run does
not depend on the state of a generator. kron_torch solves in float32, balances at random and keeps a vocabulary
triangular up to 8192. The noise enters the step too, as there; damping=0 is pytorch-optimizer's and timm's form. W
cuts matrices into blocks of 256 (block_size) and normalises gradients (normalize_gradients). Dimensions are always
merged to two: convolutions are o x rest, experts are matrices of their own. Newer rules under the name PSGD
(heavyball, psgd_torch's QUAD and EQ) are other algorithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.blocks import BLOCK_SIZE, RETIRED, BlockRule
from fairstep.optim.maths.update_steps import updates_until
from fairstep.optim.rule import RANDOM, Context, RowShard, RowSharding, State, call
from fairstep.optim.sharding import row_sums
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor

CLIP = 1.1
BALANCE_EVERY = 100


class KronRule(BlockRule):
    """``kind``: "matrix", "vocabulary" (its longer side is diagonal) or "vector" (one diagonal factor)."""

    divided = ("m", "Q_L")
    flops_per_element = 20

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = "kron" if kind == "matrix" else f"kron-{kind}"
        sides = {"matrix": "o^2 + i^2", "vocabulary": "k^2 + K", "vector": "o"}[kind]
        self.state_formula = f"N + {sides}, n instead of n^2 for a diagonal factor"
        self.flops_formula = "20 N + sum over triangular sides n of 4 N n + update_probability (7 N n + 2 n^3)"

    def _diagonal(self, o: int, i: int, longest: int, mode: str) -> dict[str, bool]:
        """Side -> whether its factor is diagonal: L for the rows, R for the columns."""
        if self.kind == "vector":
            return {"L": True}
        longer = mode == "one_diag" or (o != i and (mode == "smart_one_diag" or self.kind == "vocabulary"))
        left, right = (n == 1 or n > longest or mode == "all_diag" for n in (o, i))
        return {"L": left or (longer and o > i), "R": right or (longer and i >= o)}

    def cut_sides(self, o: int, i: int, *, max_size_triangular: int, memory_save_mode: str) -> tuple[bool, bool]:
        diagonal = self._diagonal(o, i, max_size_triangular, memory_save_mode)
        return not diagonal["L"], not diagonal.get("R", True)

    def init_matrix(
        self, param: Tensor, *, max_size_triangular: int, memory_save_mode: str, context: Context
    ) -> dict[str, Tensor]:
        state = {"m": torch.zeros_like(param)}
        present, i = param.shape[-2:]
        o = row_sums.row_count(present, context.rows)
        for side, diagonal in self._diagonal(o, i, max_size_triangular, memory_save_mode).items():
            ones = param.new_ones(len(param), i if side == "R" else present if diagonal else o)
            state["Q_" + side] = ones if diagonal else torch.diag_embed(ones)
        return state

    def update(  # type: ignore[override]
        self, grad: Tensor, state: State, param: Tensor, step: int, *, normalize_gradients: bool, context: Context
    ) -> Tensor:
        """Norm and clip are of whole matrices, whatever the blocks and whoever has which rows."""
        if normalize_gradients:
            grad = grad / (row_sums.norm(grad, context.rows) + 1e-16)
        u = call(super().update, context, grad, state, param, step)
        assert u is not None
        rms = row_sums.mean(u.square(), context.rows).sqrt_()  # (s, 1, 1)
        return u * (CLIP / (rms + 1e-12)).clamp_(max=1)

    def update_matrix(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        beta1: float,
        precond_lr: float,
        update_probability: float,
        flat_start: int,
        damping: float,
        context: Context,
    ) -> Tensor:
        m = state["m"].lerp_(grad, 1 - beta1) / (1 - beta1**step)
        factors = {side: state["Q_" + side] for side in ("L", "R") if "Q_" + side in state}
        before, updates = (updates_until(t, flat_start, update_probability) for t in (step - 1, step))
        if updates > before:
            noise = _noise(step, m, context.rows)
            m.add_(row_sums.mean(m.abs(), context.rows) * noise, alpha=damping)
            update_factors(factors, m, noise, precond_lr, context.rows)
            if updates % BALANCE_EVERY == 0:
                balance(factors, context.rows)
        for side, q in factors.items():
            m = _multiply(q, _multiply(q, m, side), side, transpose=True)
        return m

    def state_floats_matrix(self, o: int, i: int, *, max_size_triangular: int, memory_save_mode: str) -> int:
        sides = self._diagonal(o, i, max_size_triangular, memory_save_mode).items()
        return o * i + sum((o if side == "L" else i) ** (1 if diagonal else 2) for side, diagonal in sides)

    def product_flops_matrix(
        self, o: int, i: int, *, max_size_triangular: int, memory_save_mode: str, update_probability: float
    ) -> float:
        diagonal = self._diagonal(o, i, max_size_triangular, memory_save_mode)
        sides = [n for side, n in (("L", o), ("R", i)) if not diagonal.get(side, True)]
        return sum(4.0 * o * i * n + update_probability * (7.0 * o * i * n + 2.0 * n**3) for n in sides)

    def row_sharding_matrix(
        self, o: int, i: int, *, max_size_triangular: int, memory_save_mode: str, update_probability: float
    ) -> RowSharding | None:
        """With a diagonal factor for the rows, all rows have the columns' factor in common, and draw all the noise."""
        diagonal = self._diagonal(o, i, max_size_triangular, memory_save_mode)
        if not diagonal["L"]:
            return None
        floats = i if diagonal["R"] else i * i
        product = 0.0 if diagonal["R"] else 2.0 * i**3
        return RowSharding(
            repeated=("Q_R",),
            state=floats,
            cost=update_probability * (product + RANDOM * o * i),
            sums=2 * update_probability * floats,
        )


def _turn(x: Tensor, side: str) -> Tensor:
    """With the side's dimension first; the same call turns back."""
    return x if side == "L" else x.mT


def _multiply(q: Tensor, x: Tensor, side: str, transpose: bool = False) -> Tensor:
    """Q x or Q^T x for the rows, x Q^T or x Q for the columns."""
    x = _turn(x, side)
    return _turn(q[:, :, None] * x if q.ndim == 2 else (q.mT if transpose else q) @ x, side)


def _solve(q: Tensor, x: Tensor, side: str) -> Tensor:
    """Q^-T x for the rows, x Q^-1 for the columns."""
    x = _turn(x, side)
    return _turn(x / q[:, :, None] if q.ndim == 2 else torch.linalg.solve_triangular(q.mT, x, upper=False), side)


def update_factors(
    factors: dict[str, Tensor], m: Tensor, noise: Tensor, precond_lr: float, shard: RowShard | None
) -> None:
    """One step of every factor, all from the old ones."""
    a, b = m, noise
    for side, q in factors.items():
        a, b = _multiply(q, a, side), _solve(q, b, side)
    for side, q in factors.items():
        whitened, dual = _turn(a, side), _turn(b, side)
        if q.ndim == 2:
            first, second = whitened.square().sum(-1), dual.square().sum(-1)
        else:
            first, second = whitened @ whitened.mT, dual @ dual.mT
        if side == "R":  # sums over rows; the rows' own factor has a number for each row
            first, second = row_sums.total(first, shard), row_sums.total(second, shard)
        if q.ndim == 2:
            bound = (first + second).abs().amax(-1, keepdim=True)
            bound = row_sums.largest(bound, shard) if side == "L" else bound
            q.sub_((first - second) * q / bound, alpha=precond_lr)
        else:
            bound = _norm_bound(first + second)
            q.sub_((first.sub_(second).triu_() @ q).div_(bound), alpha=precond_lr)


def _norm_bound(symmetric: Tensor) -> Tensor:
    """A lower bound (s, 1, 1) of the spectral norm of positive semidefinite matrices (s, n, n), scaled in place."""
    # The largest element of such a matrix is on its diagonal.
    largest = symmetric.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None]
    scaled = symmetric.div_(largest)
    column = torch.linalg.vector_norm(scaled, dim=-1).argmax(-1)
    x = scaled @ scaled.take_along_dim(column[:, None, None], dim=-1)
    x = scaled @ (x / torch.linalg.matrix_norm(x, keepdim=True))
    return largest * torch.linalg.matrix_norm(x, keepdim=True)


def balance(factors: dict[str, Tensor], shard: RowShard | None) -> None:
    """Scale the two factors of each matrix to one largest element."""
    if len(factors) == 2:
        left, right = (q.abs().flatten(1).amax(1) for q in factors.values())
        left = row_sums.largest(left, shard)
        for q, ratio in zip(factors.values(), (right / left, left / right), strict=True):
            q.mul_(ratio.sqrt().view(-1, *[1] * (q.ndim - 1)))


def _noise(step: int, like: Tensor, shard: RowShard | None) -> Tensor:
    """V of one matrix (o, i), which all matrices of a stack share: whoever is stacked with whom changes nothing.

    A rank with some of the rows draws the noise of all rows, so that V is the V of one process.
    """
    if like.is_meta:  # which has no numbers, and no generator
        return like.new_empty(like.shape[-2:])
    generator = torch.Generator(like.device).manual_seed(step)
    present, i = like.shape[-2:]
    shape = row_sums.row_count(present, shard), i
    drawn = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    return drawn[shard.start : shard.start + present] if shard else drawn


_OFFICIAL = "kron_torch"

KRON = OptimizerSpec(
    name="kron",
    class_name="Kron",
    aliases=("psgd", "psgd-kron"),
    title="Kron (PSGD)",
    reference="Li 2015, https://arxiv.org/abs/1512.04202",
    parts=(
        Part(("matrix", "expert", "router"), KronRule("matrix")),
        Part(("embedding", "head"), KronRule("vocabulary")),
        Part(("vector",), KronRule("vector")),
    ),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "W, 300M and 520M", "(0, inf)"),
        "weight_decay": Hyperparameter(0.5, "decoupled weight decay", "W, 130M and 520M", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the momentum", f"{_OFFICIAL}; 0.95 in W", "[0, 1)"),
        "precond_lr": Hyperparameter(0.1, "step size mu of the factors", f"{_OFFICIAL}; 0.2 in W", "(0, inf)"),
        "update_probability": Hyperparameter(
            0.03, "share of steps that update the factors, at last", f"{_OFFICIAL}; 0.05 to 0.1 in W", "(0, 1]"
        ),
        "flat_start": Hyperparameter(
            500, "steps that all update the factors, before the share falls", f"{_OFFICIAL}; 2000 in W", "[0, inf)"
        ),
        "max_size_triangular": Hyperparameter(8192, "longest side with a triangular factor", _OFFICIAL, "[0, inf)"),
        "memory_save_mode": Hyperparameter(
            "none",
            "sides with a diagonal factor: the longer, the longer if they differ, or all",
            _OFFICIAL,
            ("none", "one_diag", "smart_one_diag", "all_diag"),
        ),
        "damping": Hyperparameter(2.0**-11.5, "noise delta over mean|m^|", f"{_OFFICIAL}: sqrt(2^-23)", "[0, inf)"),
        "normalize_gradients": Hyperparameter(False, "divide gradients by their norm", f"{_OFFICIAL}; true in W"),
        "block_size": BLOCK_SIZE,
    },
    retired=RETIRED,
    search_space={"lr": Grid.geometric(1e-3, 3, "around 2e-3, W's best at 130M, where Lion has the same")},
    lr_unit="change of a weight per step in root mean square, at most 1.1 times",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
)
