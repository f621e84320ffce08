"""Scion: every layer's momentum becomes the largest step inside a ball of that layer's own norm.

    m <- mu m + (1 - mu) g
    W <- (1 - lr lambda) W - lr rho lmo(m)                    rho: the radius of the kind of layer

Hidden matrices (o x i):

    lmo(m) = c newton_schulz(m),   c = sqrt(o/i)              scale "ratio": Scion
                                   c = sqrt(max(1, o/i))      scale "shape": Scion with max=True, and W
                                   c = sqrt(o)                scale "out": Scion with normalized=False

Embedding, head and vectors have a norm of their own:

    lmo(m) = sign(m) / i                                      "sign-per-input"
           = sign(m)                                          "sign"
           = m / (root mean square of each row + 1e-8)        "row": of a vocabulary, of each token
           = m / (root mean square of m + 1e-8)               "rms"

T. Pethick et al., "Training Deep Learning Models with Norm-Constrained LMOs", arXiv 2502.07529.
Optimizer state: 1 float per parameter.

lambda > 0 with undecayed=() is the constrained form, in which weights stay within rho / lambda (the official one has
lambda = 1); lambda = 0 the unconstrained one. mu is one minus the alpha of the official code. The official code starts
from weights on the surface of the balls; here that is a call of its own, ``initialise``.

Differences from other implementations: lr and radii are in the unit of a hidden matrix, so that hidden_radius=1 where
the official example has radius 50 and a 50th of the lr. By default embedding and vectors are not decayed, as with every
optimizer here. eps is added to the Frobenius norm before Newton-Schulz, not its floor. W's Scion is scale="shape", and
sign with radius 1 and an outer_lr_ratio of 0.1 to 0.2 for all other layers: a radius would leave their decay as it is.
The official SpectralConv divides by the kernel's area; here a convolution is one flattened matrix, whose step is larger
by the kernel's side. S's code (not in its paper) has 9 iterations, other axes for the embedding, and its weight of the
past wired to the weight of the present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import SETTINGS, OrthogonalisingRule
from fairstep.optim.maths.sign import sign
from fairstep.optim.roles import Role
from fairstep.optim.rule import Context, RowSharding, Rule, State, call
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-8
NORMS = ("sign-per-input", "sign", "row", "rms")


class ScionRule(OrthogonalisingRule):
    """Hidden matrices: the spectral norm."""

    name = "scion"
    moments = ("m",)
    flops_per_element = 6

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        momentum: float,
        radius: float,
        scale: str,
        context: Context,
    ) -> Tensor:
        m = state["m"].lerp_(grad, 1 - momentum)
        orthogonal = call(self.orthogonalised, context, m)  # (s, o, i)
        return orthogonal * (_factor(grad, scale) * radius)


class OuterRule(Rule):
    """Embedding, head or vectors: a norm that needs no iteration."""

    moments = ("m",)
    flops_per_element = 8

    def __init__(self, role: str) -> None:
        self.name = f"scion-{role}"

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, momentum: float, radius: float, norm: str
    ) -> Tensor:
        return _outer_step(state["m"].lerp_(grad, 1 - momentum), radius, norm)

    def row_sharding(self, o: int, i: int, *, norm: str) -> RowSharding | None:
        return RowSharding() if norm != "rms" else None


def _factor(matrices: Tensor, scale: str) -> float:
    """c of hidden matrices (s, o, i)."""
    o, i = matrices.shape[-2:]
    return {"ratio": o / i, "shape": max(1.0, o / i), "out": o}[scale] ** 0.5


def _outer_step(m: Tensor, radius: float, norm: str) -> Tensor:
    """rho lmo(m) of the other layers (s, o, i)."""
    if norm == "sign":
        return sign(m).mul_(radius)
    if norm == "sign-per-input":
        return sign(m).mul_(radius / m.shape[-1])
    sides = -1 if norm == "row" else (-2, -1)
    return m * (radius / m.square().mean(sides, keepdim=True).sqrt_().add_(EPS))


def initialise(optimizer: Any, seed: int) -> None:
    """Draw all weights but vectors anew from the surfaces of their layers' balls, as the official ``init`` does.

    ``optimizer``: an instance of our Scion.
    Hidden matrices, and each part of those with ``splits``, become orthogonal times c times their radius, signs are
    random, rows are Gaussian before they are scaled. Vectors stay as they are (the official code sets them to 0, which
    a norm's gain would not survive). Before the first step; the same weights for the same seed.
    """
    generator = torch.Generator().manual_seed(seed)
    for group, member in optimizer.members():
        if optimizer.roles[member.name] == "vector":
            continue
        weights = member.oriented(member.tensor.data)
        drawn = torch.empty((member.layout.rows, *member.layout.tail), dtype=torch.float64).normal_(generator=generator)
        if group["rule"] == "scion":
            for matrix in drawn:
                torch.nn.init.orthogonal_(matrix, generator=generator)
            ball = drawn.mul_(_factor(drawn, group["scale"]) * group["radius"])
        else:
            ball = _outer_step(drawn, group["radius"], group["norm"])
        weights.copy_(ball.reshape(weights.shape))


_OFFICIAL = "the authors' nanoGPT example, github.com/LIONS-EPFL/scion"


def _outer(role: Role) -> Part:
    own = {"momentum": "outer_momentum", "radius": f"{role}_radius", "norm": f"{role}_norm"}
    return Part((role,), OuterRule(role), rename=own, lr_ratio="outer_lr_ratio")


SCION = OptimizerSpec(
    name="scion",
    class_name="Scion",
    title="Scion",
    reference="Pethick et al. 2025, https://arxiv.org/abs/2502.07529",
    parts=(
        Part(("matrix", "expert", "router"), ScionRule(), rename={"radius": "hidden_radius"}),
        _outer("embedding"),
        _outer("head"),
        _outer("vector"),
    ),
    hyperparameters={
        "lr": Hyperparameter(50 * 2.0**-12, "learning rate of hidden matrices", _OFFICIAL, "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "W, 130M; 0.02 officially", "[0, inf)"),
        "momentum": Hyperparameter(0.9, "decay rate mu of hidden matrices", f"{_OFFICIAL}; W at 130M", "[0, 1)"),
        "hidden_radius": Hyperparameter(1.0, "radius of hidden matrices", "the unit of the others", "(0, inf)"),
        "scale": Hyperparameter(
            "ratio", "factor c of hidden matrices (see the equations)", "arXiv 2502.07529", ("ratio", "shape", "out")
        ),
        **SETTINGS,
        "outer_momentum": Hyperparameter(0.9, "decay rate mu of all other layers", _OFFICIAL, "[0, 1)"),
        "embedding_radius": Hyperparameter(60.0, "radius of the embedding", f"{_OFFICIAL}, tied", "(0, inf)"),
        "embedding_norm": Hyperparameter(
            "sign-per-input", "norm of the embedding", f"{_OFFICIAL}, tied; row if not tied", NORMS
        ),
        "head_radius": Hyperparameter(60.0, "radius of the head", f"{_OFFICIAL}: 3000 over 50", "(0, inf)"),
        "head_norm": Hyperparameter("sign-per-input", "norm of the head", _OFFICIAL, NORMS),
        "vector_radius": Hyperparameter(0.2, "radius of vectors", "W, 130M", "(0, inf)"),
        "vector_norm": Hyperparameter("rms", "norm of vectors", "arXiv 2502.07529", NORMS),
        "outer_lr_ratio": Hyperparameter(
            1.0,
            "learning rate of all other layers over lr, in their decay too",
            "0.1 to 0.2 in W",
            "(0, inf)",
            later=True,
        ),
    },
    search_space={
        "lr": Grid.geometric(
            1.6e-2, 3, "Muon's grid: the step of hidden matrices has the same norm; W has 1.6e-2 for both at 130M"
        ),
    },
    lr_unit="spectral norm of the step of a square matrix (about 1; sqrt(o/i) for others)",
    schedule=Schedule("wsd", 0.0, 0.0, "W, 130M: no warm-up, constant, then linear to 0 over 0.8 of the run", 0.8),
)
