"""Muon and D-Muon: momentum orthogonalised by Newton-Schulz, with AdamW beside it.

Matrices (o x i):

    m <- mu m + (1 - mu) g
    u  = mu m + (1 - mu) g   with nesterov, else m
    O  = newton_schulz(E(u))                                 approximates U V^T of u = U S V^T (see ``newton_schulz``)
    O  = N(O)
    W <- (1 - lr lambda) W - lr c O,   c = sqrt(max(1, o/i))       scale "shape": Muon
                                       c = 0.2 sqrt(max(o, i))     scale "rms": D-Muon
                                       c = sqrt(o/i)               scale "aspect": Muon+

E and N change nothing unless told. ``equalize`` (MuonEq) divides the rows of u by their norms, or its columns, or both
by the norms in the same u. ``normalize`` (Muon+) divides the rows of O by their norms, or its columns, or one after
the other. With "row" or "column" the size of the step is another one, so the learning rate is, too.

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas. With "rms"
the step has the root mean square of a typical AdamW step, so D-Muon gives all parameters one lr and one weight decay.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), kellerjordan.github.io/posts/muon;
J. Liu et al., "Muon is Scalable for LLM Training" (Moonlight), arXiv 2502.16982; MuonEq: Chang et al., arXiv
2603.28254; Muon+: Zhang et al., arXiv 2602.21545. Optimizer state: 1 float per matrix element, 2 per element of the
rest.

Differences from other implementations: the momentum is an average (Jordan's current code, torch) where Moonlight, S
and W sum; the direction is the same up to the eps of the norm (3e-8). eps is added to the norm (Jordan), not its floor
(torch): also 3e-8. Decay multiplies lr, not lr c. optax's nesterov option corrects bias and is another direction.
Routers of mixtures of experts are matrices, as in S.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import SETTINGS, OrthogonalisingRule
from fairstep.optim.rule import Context, State, call
from fairstep.optim.rules.adamw import COMPANION_SETTINGS, with_companion
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class MuonRule(OrthogonalisingRule):
    name = "muon"
    moments = ("m",)
    eight_bit = (("m", "signed"),)
    flops_per_element = 6

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        momentum: float,
        nesterov: bool,
        scale: str,
        equalize: str = "none",
        normalize: str = "none",
        context: Context,
    ) -> Tensor:
        u = momentum_ahead(grad, state["m"], momentum, nesterov)  # (s, o, i)
        if equalize != "none":
            u = equalized(u, equalize, EQUALIZE_EPS * (1 - momentum) ** 2)  # the paper's momentum sums
        orthogonal = call(self.orthogonalised, context, u)  # (s, o, i)
        for side in normalize.split("-") if normalize != "none" else ():
            orthogonal = equalized(orthogonal, side, NORMALIZE_EPS)
        return scaled(orthogonal, scale)


def scaled(orthogonal: Tensor, scale: str) -> Tensor:
    """c O of the equations, of matrices (s, o, i)."""
    o, i = orthogonal.shape[-2:]
    c = {"shape": max(1.0, o / i) ** 0.5, "rms": 0.2 * max(o, i) ** 0.5, "aspect": (o / i) ** 0.5}[scale]
    return orthogonal * c


def equalized(x: Tensor, sides: str, eps: float) -> Tensor:
    """Matrices (s, o, i) with rows or columns over sqrt(sum of squares + eps); "row-column": both, of the same x."""
    squares = x.square()
    for side, dim in (("row", -1), ("column", -2)):
        if side in sides:
            x = x * (squares.sum(dim, keepdim=True) + eps).rsqrt()
    return x


def momentum_ahead(grad: Tensor, m: Tensor, mu: float, nesterov: bool) -> Tensor:
    """u of the equations, which is m itself without nesterov; m takes in the gradient."""
    m.lerp_(grad, 1 - mu)
    return torch.lerp(grad, m, mu) if nesterov else m


EQUALIZE_EPS, NORMALIZE_EPS = 1e-8, 1e-7
"""Added to sums of squares, by MuonEq's and Muon+'s authors."""


OPTIONS = {
    "equalize": Hyperparameter(
        "none",
        "MuonEq: sides of the momentum that get equal norms before the iterations",
        "arXiv 2603.28254 has row",
        ("none", "row", "column", "row-column"),
        later=True,
    ),
    "normalize": Hyperparameter(
        "none",
        "Muon+: sides of the orthogonal matrix that get norm 1, in this order",
        "arXiv 2602.21545 has column-row at 124M, row-column at 350M",
        ("none", "row", "column", "row-column", "column-row"),
        later=True,
    ),
}
"""Hyperparameters of ``MuonRule`` that rules of its kin do not have."""


def _hyperparameters(lr: Hyperparameter, scale: Hyperparameter, ratio: Hyperparameter) -> dict[str, Hyperparameter]:
    return {
        "lr": lr,
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay of both parts", "W, all scales; S", "[0, inf)"),
        "momentum": Hyperparameter(0.95, "decay rate mu of the momentum", "Jordan; W at 130M; S", "[0, 1)"),
        "nesterov": Hyperparameter(True, "mix the gradient into the momentum once more", "Jordan; W; S"),
        **SETTINGS,
        "scale": scale,
        **OPTIONS,
        **COMPANION_SETTINGS,
        "adam_lr_ratio": ratio,
    }


def _scale(default: str, source: str) -> Hyperparameter:
    return Hyperparameter(
        default, "factor c of the orthogonal matrix (see the equations)", source, ("shape", "rms", "aspect")
    )


MUON = OptimizerSpec(
    name="muon",
    class_name="Muon",
    aliases=("muon-jordan", "muon-keller"),
    title="Muon",
    reference="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon",
    parts=with_companion(MuonRule()),
    hyperparameters=_hyperparameters(
        Hyperparameter(0.02, "learning rate of the matrices", "Jordan", "(0, inf)"),
        _scale("shape", "Jordan; W; S"),
        Hyperparameter(0.2, "learning rate of the AdamW part over lr", "W, 130M", "(0, inf)"),
    ),
    search_space={
        "lr": Grid.geometric(
            1.6e-2, 3, "around 3.2e-2, our best at width 64 in 512 steps (docs/log.md); W has 1.6e-2 at 130M"
        ),
    },
    lr_unit="spectral norm of the step of a square or wide matrix (about 1; sqrt(o/i) for a tall one)",
    schedule=Schedule("wsd", 0.0, 0.0, "W, 130M: no warm-up, constant, then linear to 0 over 0.8 of the run", 0.8),
)

D_MUON = OptimizerSpec(
    name="d-muon",
    class_name="DMuon",
    aliases=("dmuon", "moonlight", "muon-moonlight"),
    title="D-Muon (Moonlight's Muon)",
    reference="Liu et al. 2025, https://arxiv.org/abs/2502.16982",
    parts=with_companion(MuonRule()),
    hyperparameters=_hyperparameters(
        Hyperparameter(1e-3, "learning rate of all parameters", "S, 124M", "(0, inf)"),
        _scale("rms", "arXiv 2502.16982; S"),
        Hyperparameter(1.0, "learning rate of the AdamW part over lr", "arXiv 2502.16982; S", "(0, inf)"),
    ),
    search_space={"lr": Grid.geometric(8e-3, 3, "around 1.6e-2, the best of a prototype at width 64 in 1040 steps")},
    lr_unit="as AdamW: the step's root mean square is about 0.2 lr",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine is S's; warm-up as for AdamW"),
)
