"""Approximate orthogonalisation of stacks of matrices by Newton-Schulz iteration (used by Muon and its kin).

For G = U S V^T the iteration moves every singular value towards 1 and so approaches U V^T. It starts from
X = G / (|G|_F + eps), transposed if tall so that the Gram matrix is k x k, k = min(o, i), and one step is

    A = X X^T,    X <- a X + (b A + c A A) X.

``quintic``: the same coefficients in every step, from K. Jordan, "Muon: an optimizer for hidden layers in neural
networks" (2024), kellerjordan.github.io/posts/muon. After five steps singular values have not converged: they land in
about [0.6, 1.2]. Singular values that start below about 1e-3 of the largest stay small.

``polar-express``: other coefficients in each step, minimax for singular values from 1e-3 on, from N. Amsel et al., "The
Polar Express", arXiv 2505.16932, algorithm 1. X starts from G / (1.01 |G|_F + eps). All but the last of the eight sets
have the safety factor 1.01 in them. The last set repeats.

``cubic``: X <- 1.5 X - 0.5 A X, the classic one (c = 0: two products instead of three). It converges to the orthogonal
matrix from anywhere, but small singular values grow by only 1.5 a step: it needs several times the steps.

``simple-quintic``: X <- 2 X - 1.5 A X + 0.5 A A X, from the same post of K. Jordan. It converges too; small singular
values double in a step. modded-nanogpt's optimization track takes 12 steps of it.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Context, RowShard, RowSharding, Rule
from fairstep.optim.sharding import row_sums
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor
    from torch import dtype as Dtype

_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
_SAFETY = 1.01

COEFFICIENTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "quintic": ((3.4445, -4.7750, 2.0315),),
    "polar-express": (
        *((a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _POLAR_EXPRESS),
        (1.875, -1.25, 0.375),
    ),
    "cubic": ((1.5, -0.5, 0.0),),
    "simple-quintic": ((2.0, -1.5, 0.5),),
}
"""Name -> (a, b, c) of step 1, 2, ...; the last repeats. Libraries differ in what they call "quintic"."""

SETTINGS = {
    "ns_steps": Hyperparameter(5, "Newton-Schulz iterations", "Jordan; S; 10 in some of W's code", "[1, inf)"),
    "ns_coefficients": Hyperparameter("quintic", "Newton-Schulz coefficients", "Jordan; S; W", tuple(COEFFICIENTS)),
    "ns_eps": Hyperparameter(1e-7, "added to the norm before the iterations", "Jordan; S; W has 1e-5", "[0, inf)"),
    "ns_dtype": Hyperparameter(
        "auto",
        "dtype of the products: auto is the run's precision; in a loop of one's own, bfloat16 where the device "
        "multiplies it faster than float32, and float64 for float64",
        "Jordan (bfloat16)",
        ("auto", "bfloat16", "float32", "float64"),
        product_dtype=True,
    ),
}
"""The hyperparameters of every rule that orthogonalises."""


class Orthogonalises(Rule):
    """A rule that orthogonalises something, by the hyperparameters of ``SETTINGS``."""

    methods = (*Rule.methods, "orthogonalised")

    def orthogonalised(
        self,
        matrices: Tensor,
        norm: Tensor | None = None,
        *,
        ns_steps: int,
        ns_eps: float,
        ns_coefficients: str,
        ns_dtype: str,
        context: Context,
    ) -> Tensor:
        """``newton_schulz`` of a stack (s, o, i). ``norm`` (s, 1, 1): bounds of the largest singular values."""
        return newton_schulz(matrices, ns_steps, ns_eps, ns_coefficients, ns_dtype, context.rows, norm)


class OrthogonalisingRule(Orthogonalises):
    """A rule whose matrix products are the iterations on matrices of the parameter's shape."""

    products = "ns_steps (4 k^2 K + 2 k^3)"

    def product_flops(self, o: int, i: int, *, ns_steps: int, ns_coefficients: str) -> float:
        return newton_schulz_flops(o, i, ns_steps, ns_coefficients)


def newton_schulz(
    matrices: Tensor,
    steps: int = 5,
    eps: float = 1e-7,
    coefficients: str = "quintic",
    dtype: str | Dtype = "auto",
    shard: RowShard | None = None,
    norm: Tensor | None = None,
) -> Tensor:
    """Orthogonalise each matrix of ``matrices`` (..., o, i); the result has the input's dtype and shape.

    ``dtype``: of the products. auto keeps float64; other input runs in bfloat16 on an accelerator and on a CPU that
    multiplies it faster than float32 (``cpu_prefers_bfloat16``), in float32 elsewhere. bfloat16 costs about 0.5 %
    accuracy in the form used here: fused multiply-adds round half as often as separate products and sums, which lose
    2 %. ``shard``: this rank's rows of one tall matrix; Gram matrices are then added up over ranks, in float32 or
    better. ``norm`` (s, 1, 1): what to divide by instead of the Frobenius norm.
    """
    if dtype == "auto":
        dtype = matrices.dtype if matrices.dtype == torch.float64 else _fast_dtype(matrices)
    elif isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    sets = COEFFICIENTS[coefficients]
    tall = row_sums.row_count(matrices.shape[-2], shard) > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x = wide.reshape(-1, *wide.shape[-2:])  # (s, k, K)
    norm = row_sums.norm(x, shard) if norm is None else norm  # (s, 1, 1)
    x = (x / ((norm * _SAFETY if coefficients == "polar-express" else norm) + eps)).to(dtype)
    add_product = torch.baddbmm
    if len(x) == 1:  # in bfloat16 on a CPU products of a stack of one take up to twice as long as of a matrix
        x, add_product = x[0], torch.addmm
    for step in range(steps):
        a, b, c = sets[min(step, len(sets) - 1)]
        gram = x @ x.mT  # (s, k, k)
        if shard:
            gram = row_sums.total(gram.to(matrices.dtype), shard).to(dtype)
        polynomial = add_product(gram, gram, gram.mT, beta=b, alpha=c) if c else gram.mul_(b)
        x = add_product(x, polynomial, x, beta=a)
    x = x.reshape(wide.shape).to(matrices.dtype)
    return x.mT if tall else x


def newton_schulz_flops(o: int, i: int, steps: int, coefficients: str) -> float:
    """Floating-point operations for one o x i matrix: steps (4 k^2 K + 2 k^3), without the k^3 of the cubic."""
    k, K = min(o, i), max(o, i)
    cube = 0.0 if coefficients == "cubic" else 2.0 * k**3
    return float(steps * (4.0 * k * k * K + cube))


def newton_schulz_sharding(o: int, i: int, steps: int, coefficients: str) -> RowSharding | None:
    """The rows of a tall matrix may be divided: only Gram matrices and their polynomials look across them."""
    if o <= i:
        return None
    repeated = newton_schulz_flops(o, i, steps, coefficients) - steps * 4.0 * i * i * o
    return RowSharding(cost=repeated, sums=float(steps * i * i))


def _fast_dtype(matrices: Tensor) -> Dtype:
    on_cpu = matrices.device.type == "cpu"
    return torch.float32 if on_cpu and not cpu_prefers_bfloat16() else torch.bfloat16


@functools.cache
def cpu_prefers_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32, by a measurement: the fastest of five products of
    256 x 256 matrices in each dtype. Measured once a process, which takes about 10 ms; a processor that emulates
    bfloat16 is several times slower at it, one that has it two to four times faster."""
    fastest = {}
    for dtype in (torch.float32, torch.bfloat16):
        square, seconds = torch.ones(256, 256, dtype=dtype), []
        for _ in range(5):
            began = time.perf_counter()
            square @ square
            seconds.append(time.perf_counter() - began)
        fastest[dtype] = min(seconds)
    return fastest[torch.bfloat16] < fastest[torch.float32]
