"""MARS with AdamW, Lion or Shampoo: momentum of gradients corrected by their change, to reduce their variance.

Everything but vectors:

    c  = g + gamma beta1 / (1 - beta1) (g - g'),   g' = 0 in the first step, then
                                                   the gradient of the previous step               form "approximate"
                                                   this batch's gradient at the previous weights   form "exact"
    c <- c / max(1, |c|)                           Frobenius norm of each tensor                   clip "tensor"
    c <- c min(1, 1 / (|c| + 1e-6))                over all tensors together                       clip "global": W
    m <- beta1 m + (1 - beta1) c

    v <- beta2 v + (1 - beta2) c^2;   u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)     MARS-AdamW
    u  = sign(m)                                                                                    MARS-Lion
    u  = sqrt(max(1, o/i)) newton_schulz(m / (1 - beta1))                                           MARS-Shampoo
    W <- (1 - lr lambda) W - lr u

Vectors: AdamW (see ``adamw``) with learning rate lr * vector_lr_ratio and its own betas; with optimize_1d they are like
everything else (a vector is n x 1).

H. Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large Models", arXiv 2411.10438.
Optimizer state: 3 (AdamW) or 2 (Lion, Shampoo) floats per parameter, 2 per element of vectors (3 in the exact form).

The exact form needs the signal previous_gradient (see ``signals``), one more forward and backward pass in every step,
and keeps the previous weights of all parameters. With coupled weight decay, decay is in g and not in this g'. Because
of the norm of 1 the rule depends on the scale of the gradients: with gradients clipped to a global norm of 0.5, as in
S, it never acts. Differences from other implementations: g' is a copy, where the official code keeps a reference that
gradients reused in place overwrite. Decay of vectors is the engine's (none by default; 0.1 officially). W is form
approximate, clip global and optimize_1d. timm starts with g' = g. pytorch-optimizer adds 1e-15 below the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.newton_schulz import SETTINGS, OrthogonalisingRule, newton_schulz_sharding
from fairstep.optim.maths.sign import sign
from fairstep.optim.rule import Context, RowSharding, Rule, State, call
from fairstep.optim.rules.adamw import AdamWRule
from fairstep.optim.sharding import row_sums
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


_EXACT = "previous_gradient"
FORMS = ("approximate", "exact")


class _CorrectedRule(Rule):
    """What the three have in common: the corrected gradient and its momentum."""

    floats_per_element = 2

    def init(self, param: Tensor, *, form: str) -> dict[str, Tensor]:
        remembered = "previous" if form == "exact" else "last_gradient"
        return {"m": torch.zeros_like(param), remembered: torch.zeros_like(param)}

    def due(self, step: int, *, form: str) -> tuple[str, ...]:
        return (_EXACT,) if form == "exact" and step > 1 else ()

    @staticmethod
    def corrected(grad: Tensor, state: State, gamma: float, beta1: float) -> Tensor:
        """c before it is clipped."""
        last = state.get("last_gradient", state.get(_EXACT))
        change = torch.sub(grad, last) if last is not None else grad.clone()
        return change.mul_(gamma * beta1 / (1 - beta1)).add_(grad)

    def take_in(
        self, grad: Tensor, state: State, param: Tensor, gamma: float, beta1: float, clip: str, context: Context
    ) -> Tensor:
        """c of this step; m and what the next g' needs are brought up to date."""
        c = self.corrected(grad, state, gamma, beta1)
        if "previous" in state:
            state["previous"].copy_(param)
        else:
            state["last_gradient"].copy_(grad)
        if clip == "global":
            c.mul_(context.shared["scale"])
        else:
            c.div_(row_sums.norm(c, context.rows).clamp_(min=1))
        state["m"].lerp_(c, 1 - beta1)
        return c

    def shared(self, *, clip: str) -> dict[str, float]:
        return {"scale": 1.0} if clip == "global" else {}

    def measure(self, grad: Tensor, state: State, param: Tensor, *, gamma: float, beta1: float) -> Tensor:
        return self.corrected(grad, state, gamma, beta1).double().square_().sum().view(1)

    def agree(self, sums: Sequence[float]) -> dict[str, float]:
        return {"scale": min(1.0, 1 / (sums[0] ** 0.5 + 1e-6))}

    def row_sharding(self, o: int, i: int) -> RowSharding | None:
        return RowSharding()


class VectorRule(AdamWRule):
    """AdamW, which for the exact form remembers where it was."""

    name = "mars-vector"
    state_formula = "2 N, and N in the exact form"

    def init(self, param: Tensor, *, form: str) -> dict[str, Tensor]:
        moments = super().init(param)
        return {**moments, "previous": torch.zeros_like(param)} if form == "exact" else moments

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float, eps: float
    ) -> Tensor | None:
        if "previous" in state:
            state["previous"].copy_(param)
        return super().update(grad, state, param, step, beta1=beta1, beta2=beta2, eps=eps)

    def state_floats(self, o: int, i: int, *, form: str) -> int:
        return (3 if form == "exact" else 2) * o * i


class MARSAdamWRule(_CorrectedRule):
    name = "mars-adamw"
    floats_per_element = 3
    flops_per_element = 18

    def init(self, param: Tensor, *, form: str) -> dict[str, Tensor]:
        return {**super().init(param, form=form), "v": torch.zeros_like(param)}

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        gamma: float,
        beta1: float,
        beta2: float,
        eps: float,
        clip: str,
        context: Context,
    ) -> Tensor:
        c, v = self.take_in(grad, state, param, gamma, beta1, clip, context), state["v"]
        v.mul_(beta2).addcmul_(c, c, value=1 - beta2)
        correction1, correction2 = 1 - beta1**step, 1 - beta2**step
        denominator = v.sqrt().mul_(correction1 / correction2**0.5).add_(eps * correction1)
        return torch.div(state["m"], denominator, out=denominator)


class MARSLionRule(_CorrectedRule):
    name = "mars-lion"
    flops_per_element = 11

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        gamma: float,
        beta1: float,
        clip: str,
        context: Context,
    ) -> Tensor:
        self.take_in(grad, state, param, gamma, beta1, clip, context)
        return sign(state["m"])


class MARSShampooRule(_CorrectedRule, OrthogonalisingRule):
    name = "mars-shampoo"
    flops_per_element = 12

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        gamma: float,
        beta1: float,
        clip: str,
        context: Context,
    ) -> Tensor:
        self.take_in(grad, state, param, gamma, beta1, clip, context)
        o, i = row_sums.row_count(grad.shape[-2], context.rows), grad.shape[-1]
        summed = state["m"] / (1 - beta1)
        return call(self.orthogonalised, context, summed) * max(1.0, o / i) ** 0.5

    def row_sharding(  # type: ignore[override]
        self, o: int, i: int, *, ns_steps: int, ns_coefficients: str
    ) -> RowSharding | None:
        return newton_schulz_sharding(o, i, ns_steps, ns_coefficients)


def _parts(rule: Rule) -> tuple[Part, ...]:
    own = {name: f"vector_{name}" for name in ("beta1", "beta2", "eps")}
    return (
        Part(("matrix", "embedding", "head", "expert", "router"), rule),
        Part(("vector",), VectorRule(), rename=own, lr_ratio="vector_lr_ratio", yields_to="optimize_1d"),
    )


_PAPER = "arXiv 2411.10438"


def _hyperparameters(
    lr: Hyperparameter, ratio: Hyperparameter, own: dict[str, Hyperparameter]
) -> dict[str, Hyperparameter]:
    return {
        "lr": lr,
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "S and W, all scales", "[0, inf)"),
        "gamma": Hyperparameter(0.025, "strength of the correction", f"{_PAPER}; S; W at 130M", "[0, inf)"),
        "beta1": Hyperparameter(0.95, "decay rate of the momentum", f"{_PAPER}; S, all scales", "[0, 1)"),
        **own,
        "form": Hyperparameter("approximate", "where g' is from (see the equations)", f"{_PAPER}; S; W", FORMS),
        "clip": Hyperparameter(
            "tensor", "what the norm of c is over", f"{_PAPER}; S; global in W", ("tensor", "global")
        ),
        "optimize_1d": Hyperparameter(False, "treat vectors like everything else", f"{_PAPER}; S; true in W"),
        "vector_lr_ratio": ratio,
        "vector_beta1": Hyperparameter(0.9, "vectors: decay rate of the first moment", _PAPER, "[0, 1)"),
        "vector_beta2": Hyperparameter(0.95, "vectors: decay rate of the second moment", _PAPER, "[0, 1)"),
        "vector_eps": Hyperparameter(1e-8, "vectors: added to the root", _PAPER, "[0, inf)"),
    }


def _ratio(default: float, source: str) -> Hyperparameter:
    return Hyperparameter(default, "learning rate of vectors over lr", source, "(0, inf)")


MARS_ADAMW = OptimizerSpec(
    name="mars-adamw",
    class_name="MARSAdamW",
    aliases=("mars",),
    title="MARS-AdamW",
    reference="Yuan et al. 2024, https://arxiv.org/abs/2411.10438",
    parts=_parts(MARSAdamWRule()),
    hyperparameters=_hyperparameters(
        Hyperparameter(3e-3, "learning rate", f"{_PAPER}; S, all scales", "(0, inf)"),
        _ratio(1.0, f"{_PAPER}; 1/3 in S"),
        {
            "beta2": Hyperparameter(0.99, "decay rate of the second moment", f"{_PAPER}; S, all scales", "[0, 1)"),
            "eps": Hyperparameter(1e-8, "added to the root of the second moment", f"{_PAPER}; S", "[0, inf)"),
        },
    ),
    search_space={
        "lr": Grid.geometric(4e-3, 3, "twice AdamW's grid, as W's best at 130M (1.6e-2 and 8e-3); S has 3 times"),
    },
    lr_unit="as AdamW",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
    signals=(_EXACT,),
)

MARS_LION = replace(
    MARS_ADAMW,
    name="mars-lion",
    class_name="MARSLion",
    aliases=(),
    title="MARS-Lion",
    parts=_parts(MARSLionRule()),
    hyperparameters=_hyperparameters(
        Hyperparameter(1e-3, "learning rate of matrices", "as Lion", "(0, inf)"),
        _ratio(4.0, "W, 130M: AdamW's learning rate over Lion's"),
        {},
    ),
    search_space={"lr": Grid.geometric(1e-3, 3, "Lion's grid: every step is a sign as well")},
    lr_unit="change of every weight of a matrix per step, exactly",
)

MARS_SHAMPOO = replace(
    MARS_ADAMW,
    name="mars-shampoo",
    class_name="MARSShampoo",
    aliases=(),
    title="MARS-Shampoo",
    parts=_parts(MARSShampooRule()),
    hyperparameters=_hyperparameters(
        Hyperparameter(0.02, "learning rate of matrices", "as Muon, whose step it has", "(0, inf)"),
        _ratio(0.2, "as Muon"),
        {**SETTINGS, "ns_eps": replace(SETTINGS["ns_eps"], default=1e-8, source=_PAPER)},
    ),
    search_space={"lr": Grid.geometric(1.6e-2, 3, "Muon's grid: the step has the same norm")},
    lr_unit="as Muon, for embedding and head too",
    schedule=Schedule("wsd", 0.0, 0.0, "as Muon", 0.8),
)
