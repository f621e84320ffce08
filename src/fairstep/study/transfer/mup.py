"""muP, transfer over width and depth: what a model and its optimizer are beside a smaller one that was tuned.

muP as arXiv 2512.05620 (Qiu et al. 2025) has it, after a public copy of the paper's code. With m = width / width of the
base and n = layers / layers of the base, a parameter with a inputs and b outputs over the base's gets the base's
learning rate and eps times

    optimizer          role              a    b    learning rate     eps
    AdamW, SOAP, and   matrix, expert    m    m    1 / m             1 / (m n)
    Muon's AdamW part  router            m    1    1 / m             1 / n
                       embedding         1    m    1                 1 / m
                       vector            1    m    1                 1 / m
                       head              m    1    1 / m             1
    Muon               matrix, expert    m    m    1                 -
                       router            m    1    1 / sqrt(m)       -

Muon's is of its bare orthogonal matrix, and what its scale contributes is taken out. The vectors' rows and the routers'
are ours, because the paper's model has neither; the eps of Newton-Schulz iterations stay as they are. SOAP's rows are
ours too. The paper has sqrt(b / a) for it, as for Muon. With that rule and eps 1e-8 activations grow 16-fold here from
width 64 to 512, with eps 1e-3 1.7-fold, and with AdamW's rule they stay within 1.4 (docs/log.md). A reason would be
that entries of the rotated gradient off its diagonal do not vanish beside a small eps; that was not tested.

Weight decay per step is proportional to 1 / m for every parameter that is decayed: independent decay is divided by m,
and a decay that the learning rate multiplies is so after that multiplication.

The model: initialisation "mup", residual branches times 1 / n, products of queries and keys times sqrt(K_base) / K with
K the head width. A tied head has logits times 1 / m (arXiv 2203.03466, table 8) and the embedding's learning rate. All
matrices of a block take the ratio of the widths, so the MLP and the heads should grow with the width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fairstep.model.config import ModelConfig, config_of
from fairstep.model.shapes import parameter_table
from fairstep.optim import get
from fairstep.optim.roles import ROLES, UNDECAYED, Role
from fairstep.optim.spec import OptimizerSpec
from fairstep.optim.spec.overrides import AUX, LR_RATIO, is_override, split
from fairstep.runs import AnyModelSpec, Value

Factors = tuple[float, float]
"""Of learning rate and eps."""


@dataclass(frozen=True)
class MuP:
    """From the model ``base``, whose hyperparameters are known."""

    base: ModelConfig
    name: ClassVar = "mup"

    def model(self, model: AnyModelSpec) -> ModelConfig:
        """The model in this parametrisation. Raises ValueError for one that has none."""
        base, model = self.base, refuse_other_models(model, self.name)
        changes: dict[str, Any] = {"initialisation": "mup", "residual_scale": base.layers / model.layers}
        if base.head_width != model.head_width:
            changes["attention_scale"] = base.head_width**0.5 / model.head_width
        if model.tied_head:
            changes["output_scale"] = base.width / model.width
        return config_of({**model.model_dump(), **changes})

    def hyperparameters(
        self,
        optimizer: str,
        hyper: Mapping[str, Value],
        model: AnyModelSpec,
        undecayed: tuple[str, ...] | None = None,
        tokens: int = 0,
        batch_tokens: int = 0,
    ) -> dict[str, Value]:
        """The base's hyperparameters for ``model``: with an override for each role that differs.

        The run's tokens, in all and in a step, change nothing.

        Raises ValueError for an optimizer without a rule, and for settings that the rule does not cover.
        """
        assert isinstance(model, ModelConfig)
        spec = get(optimizer)
        rule = _rule(spec, hyper)
        values = spec.validate(hyper)
        m, n = model.width / self.base.width, model.layers / self.base.layers
        found: dict[str, Value] = {}
        roles = {one.role for one in parameter_table(model)}
        for role in (role for role in ROLES if role in roles):
            lr, eps = rule(role, values, m, n)
            own = spec.overridden(role, values)
            if lr != 1:
                found[f"{role}.{LR_RATIO}"] = lr * float(own.get(LR_RATIO, spec.part(role, values).ratio(values)))
            if eps != 1 and (known := spec.own_names(role, values).get("eps")):
                found[f"{role}.eps"] = eps * float(own.get("eps", values[known]))
            decayed = role not in (UNDECAYED if undecayed is None else undecayed) or "weight_decay" in own
            decay = 1 / m if spec.decay == "independent" else 1 / (m * lr)
            if decayed and decay != 1:
                found[f"{role}.weight_decay"] = decay * float(own.get("weight_decay", values["weight_decay"]))
        given = dict(hyper)
        for name, value in found.items():
            given[spec.canonical(name, values)] = value
        return given


def refuse_other_models(model: AnyModelSpec, rule: str) -> ModelConfig:
    """The model, if it has the scales that a rule sets. Raises ValueError."""
    if not isinstance(model, ModelConfig) or model.architecture != "llama":
        name = model.architecture if isinstance(model, ModelConfig) else model.source
        raise ValueError(f'transfer = "{rule}" is of the llama architecture, not of {name}; leave it out')
    return model


def _rule(
    spec: OptimizerSpec, hyper: Mapping[str, Value]
) -> Callable[[Role, Mapping[str, Value], float, float], Factors]:
    """Role, hyperparameters, m and n -> factors. Raises ValueError where there is no rule."""
    plain, *wrappers = next((alias for alias in spec.aliases if "+" in alias), spec.name).split("+")
    if plain not in RULES or not all(word.endswith("-decay") for word in wrappers):
        raise ValueError(
            f'transfer = "mup" has no rule for {spec.name}; it has rules for {", ".join(RULES)}, also with a form of '
            "weight decay (adamw+independent-decay)"
        )
    for name in filter(is_override, hyper):
        if split(name)[0] not in (*ROLES, AUX):
            raise ValueError(f'transfer = "mup" goes by roles, and {name} is of parameters by name; name their role')
    return RULES[plain]


def _adam(role: Role, hyper: Mapping[str, Value], m: float, n: float) -> Factors:
    return {
        "matrix": (1 / m, 1 / (m * n)),
        "expert": (1 / m, 1 / (m * n)),
        "router": (1 / m, 1 / n),
        "embedding": (1.0, 1 / m),
        "vector": (1.0, 1 / m),
        "head": (1 / m, 1.0),
    }[role]


def _muon(role: Role, hyper: Mapping[str, Value], m: float, n: float) -> Factors:
    hidden, router = {"shape": (1.0, m**-0.5), "rms": (m**-0.5, 1 / m), "aspect": (1.0, 1.0)}[str(hyper["scale"])]
    own = {"matrix": hidden, "expert": hidden, "router": router}
    return (own[role], 1.0) if role in own else _adam(role, hyper, m, n)


RULES = {"adamw": _adam, "muon": _muon, "d-muon": _muon, "soap": _adam}
"""By the optimizer's name without wrappers."""
