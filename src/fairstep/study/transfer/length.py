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
from fairstep.optim.spec import OptimizerSpec
from fairstep.runs import AnyModelSpec, Value
from fairstep.study.transfer.mup import refuse_other_models

EXPONENT = -0.32
"""Of the tokens of a run, in the best learning rate. Eleven optimizers of W at 130M have -0.23 with a deviation of 0.14
(benchmarks/thrift.py)."""


@dataclass(frozen=True)
class _ByLength:
    """One factor for the learning rate, from runs of the model ``base`` with so many ``tokens``."""

    base: ModelConfig
    tokens: int

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

        Raises ValueError for an optimizer without a rule.
        """
        assert isinstance(model, ModelConfig)
        spec = get(optimizer)
        self.check(spec)
        factor = self.factor(model, (tokens or self.tokens) / self.tokens, batch_tokens)
        rate = hyper.get("lr", spec.hyperparameters["lr"].default)
        return {**hyper, "lr": float(rate) * factor} if factor != 1 else dict(hyper)

    def check(self, spec: OptimizerSpec) -> None:
        """Raise ValueError for an optimizer without a rule."""
        raise NotImplementedError

    def factor(self, model: ModelConfig, longer: float, batch_tokens: int) -> float:
        """Of the learning rate, for runs ``longer`` times as long with steps of ``batch_tokens`` (0: the base's)."""
        raise NotImplementedError


@dataclass(frozen=True)
class HyperP(_ByLength):
    """The rule for optimizers that keep norms, from steps of ``batch_tokens``."""

    batch_tokens: int
    name: ClassVar = "hyperp"

    def model(self, model: AnyModelSpec) -> ModelConfig:
        """The model with its residual branches scaled. Raises ValueError for one that has no such scale."""
        known = refuse_other_models(model, self.name)
        return config_of({**known.model_dump(), "residual_scale": (2 * known.layers) ** -0.5})

    def check(self, spec: OptimizerSpec) -> None:
        if not any("hyperball" in word.split("+")[1:] for word in (spec.name, *spec.aliases)):
            raise ValueError(
                f'transfer = "hyperp" has no rule for {spec.name}, which does not keep the norms of matrices; it has '
                f"rules for muonh, adamh and others with +hyperball, such as {spec.name}+hyperball"
            )

    def factor(self, model: ModelConfig, longer: float, batch_tokens: int) -> float:
        factor = longer**EXPONENT
        factor *= ((batch_tokens or self.batch_tokens) / self.batch_tokens) ** 0.5
        return factor * (self.base.layers / model.layers) ** 0.5


@dataclass(frozen=True)
class Law(_ByLength):
    """Powers of the ratios of tokens, width and depth."""

    by_tokens: float = EXPONENT
    by_width: float = 0.0
    by_depth: float = 0.0
    name: ClassVar = "law"

    def model(self, model: AnyModelSpec) -> AnyModelSpec:
        """The model as it is."""
        return model

    def check(self, spec: OptimizerSpec) -> None:
        if any(part.rule.one_lr for part in spec.parts):
            raise ValueError(
                f'transfer = "law" is of learning rates, and {spec.name} estimates its own; leave {spec.name} out, or '
                'take transfer = "none"'
            )

    def factor(self, model: ModelConfig, longer: float, batch_tokens: int) -> float:
        factor = longer**self.by_tokens
        factor *= (model.width / self.base.width) ** self.by_width
        return factor * (model.layers / self.base.layers) ** self.by_depth
