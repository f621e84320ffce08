"""Transfer over the length of a run: learning rates that fall as T^-0.32, T the tokens of a run.

HyperP (Ren et al. 2026, arXiv 2603.28743; their code ArchScale) is for optimizers that keep the norm of every matrix.
One factor for all parameters, with B the tokens of a step and L the layers:

    lr = lr_0 sqrt(B / B_0) sqrt(L_0 / L) (T / T_0)^-0.32        residual branches times 1 / sqrt(2 L), the base's too

The width changes nothing, because the step is relative to the weights. What the paper has beside it stays the study's:
its first weights (embedding 1e-4, uniform else), no weight decay, no warm-up. Bjorck et al. (arXiv 2409.19913) report
the exponent 0.32 for AdamW too, which is the default of the law:

    lr = lr_0 (T / T_0)^tokens (width / width_0)^width (L / L_0)^depth
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fairstep.model.config import ModelConfig, config_of
from fairstep.optim import get
from fairstep.runs import AnyModelSpec, Value
from fairstep.study.transfer.mup import refuse_other_models

EXPONENT = -0.32
"""Of the tokens of a run, in the best learning rate. Eleven optimizers of W at 130M have -0.23 with a deviation of 0.14
(benchmarks/thrift.py)."""


@dataclass(frozen=True)
class HyperP:
    """From runs of the model ``base`` with so many ``tokens`` in all and in a step."""

    base: ModelConfig
    tokens: int
    batch_tokens: int
    name: ClassVar = "hyperp"

    def model(self, model: AnyModelSpec) -> ModelConfig:
        """The model with its residual branches scaled. Raises ValueError for one that has no such scale."""
        known = refuse_other_models(model, self.name)
        return config_of({**known.model_dump(), "residual_scale": (2 * known.layers) ** -0.5})

    def hyperparameters(
        self,
        optimizer: str,
        hyper: Mapping[str, Value],
        model: AnyModelSpec,
        undecayed: tuple[str, ...] | None = None,
        tokens: int = 0,
        batch_tokens: int = 0,
    ) -> dict[str, Value]:
        """The base's hyperparameters for runs of ``model`` with so many tokens, by default the base's.

        Raises ValueError for an optimizer that does not keep norms.
        """
        assert isinstance(model, ModelConfig)
        spec = get(optimizer)
        if not any("hyperball" in word.split("+")[1:] for word in (spec.name, *spec.aliases)):
            raise ValueError(
                f'transfer = "hyperp" has no rule for {spec.name}, which does not keep the norms of matrices; it has '
                f"rules for muonh, adamh and others with +hyperball, such as {spec.name}+hyperball"
            )
        factor = ((tokens or self.tokens) / self.tokens) ** EXPONENT
        factor *= ((batch_tokens or self.batch_tokens) / self.batch_tokens) ** 0.5
        factor *= (self.base.layers / model.layers) ** 0.5
        return _with_rate(optimizer, hyper, factor)


@dataclass(frozen=True)
class Law:
    """The learning rate by powers of the ratios to runs of the model ``base`` with so many ``tokens``."""

    base: ModelConfig
    tokens: int
    by_tokens: float = EXPONENT
    by_width: float = 0.0
    by_depth: float = 0.0
    name: ClassVar = "law"

    def model(self, model: AnyModelSpec) -> AnyModelSpec:
        """The model as it is."""
        return model

    def hyperparameters(
        self,
        optimizer: str,
        hyper: Mapping[str, Value],
        model: AnyModelSpec,
        undecayed: tuple[str, ...] | None = None,
        tokens: int = 0,
        batch_tokens: int = 0,
    ) -> dict[str, Value]:
        """The base's hyperparameters for runs of ``model`` with so many tokens, by default the base's.

        Raises ValueError for an optimizer that estimates its learning rate.
        """
        assert isinstance(model, ModelConfig)
        spec = get(optimizer)
        if any(part.rule.one_lr for part in spec.parts):
            raise ValueError(
                f'transfer = "law" is of learning rates, and {spec.name} estimates its own; leave {spec.name} out, or '
                'take transfer = "none"'
            )
        factor = ((tokens or self.tokens) / self.tokens) ** self.by_tokens
        factor *= (model.width / self.base.width) ** self.by_width
        factor *= (model.layers / self.base.layers) ** self.by_depth
        return _with_rate(optimizer, hyper, factor)


def _with_rate(optimizer: str, hyper: Mapping[str, Value], factor: float) -> dict[str, Value]:
    rate = hyper.get("lr", get(optimizer).hyperparameters["lr"].default)
    return {**hyper, "lr": float(rate) * factor} if factor != 1 else dict(hyper)
